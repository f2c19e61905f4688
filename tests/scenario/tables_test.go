package scenario

import (
	"strings"
	"testing"
	"time"
)

const stateESN = `src 2001:db8::1 dst 2001:db8::100
	proto esp spi 0x00002001 reqid 6 mode tunnel
	replay-window 0 flag af-unspec esn
	aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128
	anti-replay esn context:
	 seq-hi 0x0, seq 0x0, oseq-hi 0x1, oseq 0x17
	 replay_window 128, bitmap-length 4
	 00000000 00000000 00000000 deadbeef 
`

const state32 = `src 192.0.2.1 dst 192.0.2.100
	proto esp spi 0x00001001 reqid 4 mode tunnel
	replay-window 32 
	auth-trunc hmac(sha256) 0x0f0e0d0c0b0a09080706050403020100 128
	enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f
	lastused 2026-01-01 00:00:00
	anti-replay context: seq 0x5, oseq 0x2a, bitmap 0x0000001f
`

func TestParseState(t *testing.T) {
	parts := paragraphs(stateESN + state32)
	if len(parts) != 2 {
		t.Fatalf("%d paragraphs, want 2", len(parts))
	}
	for i, want := range []struct {
		spi  uint32
		sent uint64
		keep []string
		drop []string
	}{
		{0x2001, 1<<32 + 0x17, []string{"reqid 6", "flag af-unspec esn", "10111213 128", "replay_window 128"},
			[]string{"oseq", "deadbeef"}},
		{0x1001, 0x2a, []string{"reqid 4", "replay-window 32", "enc cbc(aes)"}, []string{"oseq", "bitmap", "lastused"}},
	} {
		text, spi, sent, err := parseState(parts[i])
		if err != nil || spi != want.spi || sent != want.sent {
			t.Errorf("spi %#x, sent %d, %v; want %#x, %d", spi, sent, err, want.spi, want.sent)
		}
		for _, s := range want.keep {
			if !strings.Contains(text, s) {
				t.Errorf("%q is missing in\n%s", s, text)
			}
		}
		for _, s := range want.drop {
			if strings.Contains(text, s) {
				t.Errorf("%q, which counts, is still in\n%s", s, text)
			}
		}
	}
}

func TestDifferences(t *testing.T) {
	a := Tables{States: []string{stateESN, state32}, Policies: []string{"p"}}
	if d := Differences(a, a, "a", "b"); len(d) != 0 {
		t.Errorf("differs from itself: %v", d)
	}
	b := Tables{States: []string{stateESN, strings.Replace(state32, "reqid 4", "reqid 5", 1)}, Policies: []string{"p"}}
	if d := Differences(a, b, "a", "b"); len(d) != 2 || strings.Contains(strings.Join(d, ""),
		"0x000102030405060708090a0b0c0d0e0f") {
		t.Errorf("want two differences, of each side one, and no key: %v", d)
	}
	b = Tables{States: []string{stateESN, stateESN, state32}, Policies: []string{"p"}}
	if d := Differences(a, b, "a", "b"); len(d) != 1 {
		t.Errorf("want one difference, the number: %v", d)
	}
	if d := Differences(a, Tables{States: a.States}, "a", "b"); len(d) != 1 {
		t.Errorf("want one difference, the policy: %v", d)
	}
}

func TestParseLine(t *testing.T) {
	day := func(d, h, m, s, ms int) time.Time {
		return time.Date(2026, 3, d, h, m, s, ms*1e6, time.Local)
	}
	for _, tc := range []struct {
		line string
		now  time.Time
		at   time.Time
		text string
	}{
		{"15:04:05.678 info  role group=outside", day(2, 15, 4, 6, 0), day(2, 15, 4, 5, 678), "role group=outside"},
		{"23:59:59.999 warn  disconnected", day(2, 0, 0, 0, 50), day(1, 23, 59, 59, 999), "warn disconnected"},
		{"panic: oh", day(2, 1, 0, 0, 0), day(2, 1, 0, 0, 0), "panic: oh"},
	} {
		at, text := parseLine(tc.line, tc.now)
		if !at.Equal(tc.at) || text != tc.text {
			t.Errorf("%q at %v: %v %q, want %v %q", tc.line, tc.now, at, text, tc.at, tc.text)
		}
	}
}
