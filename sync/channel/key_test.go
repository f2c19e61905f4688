package channel

import (
	"encoding/hex"
	"net"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	for text, want := range map[string]string{
		"0123456789abcdef":                   "<key of 16 characters>",
		"with~punct!uation#24char":           "<key of 24 characters>",
		strings.Repeat("x", 32):              "<key of 32 characters>",
		"0x" + strings.Repeat("aF", 16):      "<key of 16 bytes>",
		"0x" + strings.Repeat("09", 24):      "<key of 24 bytes>",
		"0x" + strings.Repeat("00", 32):      "<key of 32 bytes>",
		"0xnothexbut16chr":                   "<key of 16 characters>",
		"":                                   "0 characters",
		"fifteen-letters":                    "15 characters, must have 16, 24 or 32",
		"0x" + strings.Repeat("a", 61):       "61 hexadecimal digits, must have 32, 48 or 64",
		"0x12345678901234":                   "14 hexadecimal digits",
		"sixteen bytes ok":                   "position 8",
		"sixteen-bytes-ü":                    "position 15",
		"tab\tin-the-middle":                 "position 4",
		strings.Repeat("x", 33):              "33 characters",
		"0X" + strings.Repeat("aF", 16):      "34 characters",
		"0x" + strings.Repeat("0", 31) + "g": "34 characters",
	} {
		s, err := ParseSpec(text)
		got := s.String()
		if err != nil {
			got = err.Error()
			if len(text) > 4 && strings.Contains(got, text) {
				t.Errorf("the error quotes the key: %s", got)
			}
		}
		if !strings.Contains(got, want) {
			t.Errorf("%d bytes: %q, want %q", len(text), got, want)
		}
	}
}

func TestDerive(t *testing.T) {
	if _, err := Derive(); err == nil {
		t.Error("no key is accepted")
	}
	if _, err := Derive(Spec{}); err == nil {
		t.Error("an empty key is accepted")
	}
	spec, _ := ParseSpec(hexA)
	var many []Spec
	for range MaxKeys + 1 {
		many = append(many, spec)
	}
	if _, err := Derive(many...); err == nil {
		t.Error("nine keys are accepted")
	}
	ks, err := Derive(many[:3]...)
	if err != nil || ks.Len() != 1 {
		t.Errorf("one key given three times makes %d, %v", ks.Len(), err)
	}
	// The same bytes as characters and as random key are different keys.
	ascii, _ := ParseSpec("0123456789abcdef")
	random, _ := ParseSpec("0x" + hex.EncodeToString([]byte("0123456789abcdef")))
	both, err := Derive(ascii, random)
	if err != nil || both.Len() != 2 {
		t.Errorf("%d keys, %v", both.Len(), err)
	}
	if both.Index(KeyID{}) != -1 || both.Index(both.list[1].id) != 1 {
		t.Error("wrong index")
	}
}

// The derivation is part of the protocol: another result is another network.
// All but the last were computed by an independent program (HKDF of RFC 5869, HMAC,
// Ed25519 of RFC 8032).
func TestDerivationVectors(t *testing.T) {
	challenge := sequence(0x80, challengeLen)
	dialler := &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 40000}
	listener := &net.TCPAddr{IP: net.ParseIP("192.0.2.2").To16(), Port: 500}
	six := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 40000, Zone: "eth0"}
	k := derive(t, hexA).list[0]
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"answer over IPv4": {answerOf(k, challenge, dialler, listener),
			"43bc997ef4d7f990d06d917fa3edecc50efda2574073181889e27d4af66401e7"},
		"answer over IPv6": {answerOf(k, challenge, six, listener),
			"666141185f9215569d22d555723ac29d643e924c6e50ad6062f5575f70ded5eb"},
		"dialler's public key": {k.dialler.public, "9df0f799edb64d7e1ec566a0139928d42cc3e568a1d9e772482555425bf56ccf"},
		"listener's public key": {k.listener.public,
			"543f5ca287f7a5a69c0bb8c934dfd78a157f2dd222bbd036aea0525003a24aa7"},
		// Computed by this code once; argon2id is the part that matters.
		"dialler's public key of characters": {derive(t, "ascii-shared-key").list[0].dialler.public,
			"384a3f535701f7e77e664397cd20827e7b1bcedfef54913ab67d8dd71611adc9"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func answerOf(k *key, challenge []byte, dialler, listener net.Addr) []byte {
	a := k.answer(challenge, dialler, listener)
	return a[:]
}

func sequence(first byte, n int) (b []byte) {
	for i := range n {
		b = append(b, first+byte(i))
	}
	return b
}
