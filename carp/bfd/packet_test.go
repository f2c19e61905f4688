package bfd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

// good is a packet of a session that is Up, in which every field differs.
var good = Packet{Diag: NeighborDown, State: Up, Poll: true, Independent: true, Demand: true, Multiplier: 5,
	MyDiscr: 0x01020304, YourDiscr: 0xa1a2a3a4, DesiredMinTx: 50 * time.Millisecond,
	RequiredMinRx: 60 * time.Millisecond, RequiredEcho: 70 * time.Microsecond}

// goodBytes is good as section 4.1 draws it.
const goodBytes = "23 ea 05 18  01020304  a1a2a3a4  0000c350  0000ea60  00000046"

func raw(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFormat(t *testing.T) {
	want := raw(t, goodBytes)
	if got := good.Append([]byte{7}); !bytes.Equal(got[1:], want) || got[0] != 7 {
		t.Errorf("encoded %x, want %x behind what was there", got, want)
	}
	got, err := Decode(want)
	if err != nil || got != good {
		t.Errorf("decoded %+v, %v", got, err)
	}
	// The other bits and states, each by itself.
	for flags, p := range map[byte]Packet{
		0x00: {State: AdminDown}, 0x40: {State: Down}, 0x80: {State: Init}, 0xc0: {State: Up},
		0xe0: {State: Up, Poll: true}, 0xd0: {State: Up, Final: true}, 0xc8: {State: Up, Independent: true},
		0xc2: {State: Up, Demand: true},
	} {
		p.Multiplier, p.MyDiscr, p.YourDiscr = 1, 1, 1
		if b := p.Append(nil); b[1] != flags {
			t.Errorf("%+v has flags %#02x, want %#02x", p, b[1], flags)
		} else if got, err := Decode(b); err != nil || got != p {
			t.Errorf("flags %#02x: %+v, %v", flags, got, err)
		}
	}
}

// Each rule of section 6.8.6 that needs no session, and that of section 6.5.
func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		what   string
		change func(b []byte) []byte
		want   error
	}{
		{"nothing", func([]byte) []byte { return nil }, ErrShort},
		{"a byte less", func(b []byte) []byte { return b[:23] }, ErrShort},
		{"version 0", func(b []byte) []byte { b[0] &= 0x1f; return b }, ErrVersion},
		{"version 2", func(b []byte) []byte { b[0] = 2<<5 | b[0]&0x1f; return b }, ErrVersion},
		{"length 23", func(b []byte) []byte { b[3] = 23; return b }, ErrLength},
		{"length beyond the payload", func(b []byte) []byte { b[3] = 25; return b }, ErrLength},
		{"multiplier 0", func(b []byte) []byte { b[2] = 0; return b }, ErrMultiplier},
		{"multipoint", func(b []byte) []byte { b[1] |= 1; return b }, ErrMultipoint},
		{"no discriminator", func(b []byte) []byte { copy(b[4:], make([]byte, 4)); return b }, ErrMyDiscr},
		{"Up without ours", func(b []byte) []byte { copy(b[8:], make([]byte, 4)); return b }, ErrYourDiscr},
		{"Init without ours", func(b []byte) []byte {
			copy(b[8:], make([]byte, 4))
			b[1] = 0x80
			return b
		}, ErrYourDiscr},
		{"authenticated", func(b []byte) []byte { b[1] |= 4; return b }, ErrAuthenticated},
		{"authenticated, with a section", func(b []byte) []byte {
			b[1] |= 4
			b[3] = 26
			return append(b, 1, 2)
		}, ErrAuthenticated},
		{"poll and final", func(b []byte) []byte { b[1] |= 0x10; return b }, ErrPollAndFinal},
	} {
		if got, err := Decode(tt.change(raw(t, goodBytes))); !errors.Is(err, tt.want) || got != (Packet{}) {
			t.Errorf("%s: %+v, %v, want %v", tt.what, got, err, tt.want)
		}
	}
	// Allowed: Down and AdminDown without our discriminator, and a datagram that is longer.
	for _, flags := range []byte{0x40, 0x00} {
		b := raw(t, goodBytes)
		b[1] = flags
		copy(b[8:], make([]byte, 4))
		if _, err := Decode(append(b, 0xff, 0xff)); err != nil {
			t.Errorf("flags %#02x: %v", flags, err)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		AdminDown.String(): "AdminDown", Down.String(): "Down", Init.String(): "Init", Up.String(): "Up",
		NoDiagnostic.String(): "No Diagnostic", DetectionExpired.String(): "Control Detection Time Expired",
		AdministrativelyDown.String():        "Administratively Down",
		ReverseConcatenatedPathDown.String(): "Reverse Concatenated Path Down", Diag(9).String(): "Diagnostic 9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
