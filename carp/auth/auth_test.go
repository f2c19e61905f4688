package auth

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/packet"
)

var (
	one   = Key{1, bytes.Repeat([]byte{1}, 32)}
	two   = Key{2, bytes.Repeat([]byte{2}, 32)}
	src   = netip.MustParseAddr("10.0.0.1")
	other = netip.MustParseAddr("10.0.0.3")
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
)

func message(prio byte) []byte {
	return []byte{0x31, 5, prio, 1, 0, 25, 0xaa, 0xbb, 10, 0, 0, 9}
}

func TestVerdicts(t *testing.T) {
	peer, self := New(Policy{Mode: Enforce, Keys: []Key{one}}), New(Policy{Mode: Enforce, Keys: []Key{two, one}})
	check := func(what string, want Verdict, msg, tr []byte, from netip.Addr) {
		t.Helper()
		if got := self.Check(msg, tr, from, noon); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	first := peer.Sign(nil, message(200), src, noon)
	later := peer.Sign(nil, message(200), src, noon)
	check("second", Genuine, message(200), later, src)
	check("overtaken", Replayed, message(200), first, src)
	check("again", Replayed, message(200), later, src)
	check("other sender", Forged, message(200), later, other)
	check("bow-out under a digest", Forged, message(0), peer.Sign(nil, message(200), src, noon), src)
	check("none", Unsigned, message(200), nil, src)
	check("short", Malformed, message(200), later[:27], src)
	stranger := New(Policy{Mode: Enforce, Keys: []Key{{3, one.Secret}}})
	check("unknown key", UnknownKey, message(200), stranger.Sign(nil, message(200), src, noon), src)
	wrong := New(Policy{Mode: Enforce, Keys: []Key{{1, two.Secret}}})
	check("wrong key", Forged, message(200), wrong.Sign(nil, message(200), src, noon), src)
	// The checksum is not signed: IPv4 allows two and IPv6 covers the trailer.
	m := message(200)
	tr := peer.Sign(nil, m, src, noon)
	m[6] ^= 0xff
	check("other checksum", Genuine, m, tr, src)
}

// Rotation: a node that signs with the new key is understood by one that still
// signs with the old one, and the other way around.
func TestRotation(t *testing.T) {
	a, b := New(Policy{Mode: Enforce, Keys: []Key{one, two}}), New(Policy{Mode: Enforce, Keys: []Key{two, one}})
	if v := a.Check(message(1), b.Sign(nil, message(1), src, noon), src, noon); v != Genuine {
		t.Error(v)
	}
	if v := b.Check(message(1), a.Sign(nil, message(1), src, noon), src, noon); v != Genuine {
		t.Error(v)
	}
}

// A clock that steps, in either direction, by whatever, silences nobody.
func TestClockSteps(t *testing.T) {
	a, b := New(Policy{Mode: Enforce, Keys: []Key{one}}), New(Policy{Mode: Enforce, Keys: []Key{one}})
	for i, now := range []time.Time{noon, noon.Add(time.Hour), noon.Add(-24 * time.Hour), noon.AddDate(20, 0, 0),
		noon} {
		if v := b.Check(message(1), a.Sign(nil, message(1), src, now), src, noon); v != Genuine {
			t.Errorf("step %d: %v", i, v)
		}
	}
	kept := a.Mark()
	b.Check(message(1), a.Sign(nil, message(1), src, noon.AddDate(20, 0, 0).Add(MarkAge)), src, noon)
	restarted := New(Policy{Mode: Enforce, Keys: []Key{one}})
	restarted.Resume(kept, noon.Add(-time.Hour))
	if v := b.Check(message(1), restarted.Sign(nil, message(1), src, noon.Add(-time.Hour)), src, noon); v != Genuine {
		t.Errorf("after a restart with the clock set back: %v", v)
	}
}

func TestWindow(t *testing.T) {
	a, b := New(Policy{Mode: Enforce, Keys: []Key{one}}),
		New(Policy{Mode: Enforce, Keys: []Key{one}, Window: 5 * time.Second})
	for _, tc := range []struct {
		off  time.Duration
		want Verdict
	}{{-6 * time.Second, Stale}, {-4 * time.Second, Genuine}, {4 * time.Second, Genuine}, {6 * time.Second, Stale}} {
		if v := b.Check(message(1), a.Sign(nil, message(1), src, noon.Add(tc.off)), src, noon); v != tc.want {
			t.Errorf("%v: %v, want %v", tc.off, v, tc.want)
		}
	}
}

func TestModes(t *testing.T) {
	for _, tc := range []struct {
		mode    Mode
		signs   bool
		accepts string // one letter per verdict
	}{
		{None, false, "yyyyyyy"},
		{ReceiveOnly, false, "yyyyyyy"},
		{Permissive, true, "yynynnn"},
		{Enforce, true, "ynnnnnn"},
	} {
		a := New(Policy{Mode: tc.mode, Keys: []Key{one}})
		var got strings.Builder
		for v := range Verdicts {
			got.WriteString(map[bool]string{true: "y", false: "n"}[a.Accepts(v)])
		}
		if a.Signs() != tc.signs || got.String() != tc.accepts {
			t.Errorf("mode %d: signs %v, accepts %s", tc.mode, a.Signs(), got.String())
		}
	}
}

// Who holds a key and changes addresses cannot fill the memory, nor make us
// forget the mark of another.
func TestSendersAreBounded(t *testing.T) {
	a, b := New(Policy{Mode: Enforce, Keys: []Key{one}}), New(Policy{Mode: Enforce, Keys: []Key{one}})
	old := a.Sign(nil, message(1), src, noon)
	b.Check(message(1), old, src, noon)
	for i := range 1000 {
		from := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		b.Check(message(1), a.Sign(nil, message(1), from, noon), from, noon)
	}
	if len(b.marks) > maxSenders || b.Check(message(1), old, src, noon) != Replayed {
		t.Errorf("%d marks", len(b.marks))
	}
}

func TestNothingAllocated(t *testing.T) {
	a, b := New(Policy{Mode: Enforce, Keys: []Key{one}}), New(Policy{Mode: Enforce, Keys: []Key{one}})
	var buf [packet.TrailerLen]byte
	m := message(1)
	if n := testing.AllocsPerRun(100, func() {
		if b.Check(m, a.Sign(buf[:0], m, src, noon), src, noon) != Genuine {
			t.Fatal("not genuine")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := Key{1, []byte("sehr geheim")}
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(f, []Key{k}); strings.Contains(s, "geheim") || strings.Contains(s, "7365") ||
			strings.Contains(s, "115") {
			t.Errorf("%s: %s", f, s)
		}
	}
}

// With a clock that is right, a restart does not run ahead of it: keepalived
// refuses what is seconds off.
func TestResumeFollowsClock(t *testing.T) {
	a := New(Policy{Mode: Enforce, Keys: []Key{one}})
	a.Resume(sequence(noon.Add(-time.Second)), noon)
	a.Sign(nil, message(1), src, noon)
	if a.Mark() != sequence(noon) {
		t.Errorf("%x, want %x", a.Mark(), sequence(noon))
	}
}

// What was recorded before a restart of the receiver is refused after it, and
// the sender goes on.
func TestRemember(t *testing.T) {
	p := Policy{Mode: Enforce, Keys: []Key{one}}
	a, b := New(p), New(p)
	recorded := [][]byte{a.Sign(nil, message(1), src, noon), a.Sign(nil, message(1), src, noon),
		a.Sign(nil, message(1), src, noon.Add(time.Second))}
	for _, r := range recorded {
		if v := b.Check(message(1), r, src, noon); v != Genuine {
			t.Fatal(v)
		}
	}
	kept := b.Latest()
	b = New(p)
	b.Remember(src, kept)
	b.Remember(src, kept-5) // older never overrides newer
	for _, r := range recorded {
		if v := b.Check(message(1), r, src, noon.Add(time.Minute)); v != Replayed {
			t.Errorf("recorded message: %v", v)
		}
	}
	if v := b.Check(message(1), a.Sign(nil, message(1), src, noon.Add(time.Minute)), src,
		noon.Add(time.Minute)); v != Genuine {
		t.Errorf("the sender goes on: %v", v)
	}
	for i := range 2 * maxSenders {
		b.Remember(netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}), 1)
	}
	if len(b.marks) > maxSenders {
		t.Errorf("%d marks", len(b.marks))
	}
}
