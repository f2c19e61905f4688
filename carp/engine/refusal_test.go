package engine

import (
	"net/netip"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

func sender(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}) }

// A line about one sender does not keep one about another from being written, nor
// one about the same later on; and a flood of senders writes a few.
func TestPace(t *testing.T) {
	var p pace
	var b bucket
	say := func(now time.Duration, n int) bool { return p.may(now, sender(n), sayAgain, &b) }
	for _, tc := range []struct {
		at   time.Duration
		from int
		want bool
	}{
		{time.Second, 1, true},
		{time.Second, 1, false},
		{2 * time.Second, 2, true},
		{time.Minute, 1, false},
		{sayAgain, 1, false},
		{sayAgain + time.Second, 1, true},
	} {
		if got := say(tc.at, tc.from); got != tc.want {
			t.Errorf("sender %d at %v: %v", tc.from, tc.at, got)
		}
	}
	lines := 0
	for i := range 60000 { // a thousand a second for a minute
		if say(time.Hour+time.Duration(i)*time.Millisecond, i) {
			lines++
		}
	}
	if lines != senders {
		t.Errorf("a flood of senders writes %d lines in a minute", lines)
	}
}

// All routers and kinds share one bucket.
func TestLinesAreBounded(t *testing.T) {
	var b bucket
	taken := 0
	for i := range 10000 {
		if b.take(time.Hour + time.Duration(i)*time.Millisecond) {
			taken++
		}
	}
	if want := sayBurst + 9; taken != want {
		t.Errorf("%d lines in 10 s, want %d", taken, want)
	}
	if !b.take(2 * time.Hour) {
		t.Error("the bucket does not fill again")
	}
}

// A flood of senders that alternate leads to few events and lines, and the one
// that is heard in the end is told.
func TestFloodOfMasters(t *testing.T) {
	e, _ := testEngine(t, nil)
	r := e.routers[0]
	replies(e, api.Peer{ID: 7, Trusted: true}, api.Request{Verb: api.VerbHello, Name: "sasyncd"},
		api.Request{Verb: api.VerbSubscribe})
	frames := [2][]byte{}
	for n := range frames {
		frames[n] = advert(t, func(f *packet.Frame, v *packet.VRRP) { f.SrcIP = sender(n) })
	}
	var told []netip.Addr
	now := time.Second
	feed := func(n int) {
		now += time.Millisecond
		e.packet(r.port, now, frames[n])
		for _, o := range e.queues.out.take() {
			if o.message.Event == api.EventPeer {
				told = append(told, o.message.Peer)
			}
		}
	}
	for i := range 10000 {
		feed(i % 2)
	}
	if len(told) == 0 || len(told) > 11 {
		t.Errorf("%d events in 10 s", len(told))
	}
	for range 2000 {
		feed(1)
	}
	if last := told[len(told)-1]; last != sender(1) {
		t.Errorf("told last of %v", last)
	}
}

// Refusals do not allocate, so that a flood of them costs no more than reading it.
func TestRefusalDoesNotAllocate(t *testing.T) {
	e, _ := testEngine(t, nil)
	r := e.routers[0]
	b := advert(t, func(f *packet.Frame, _ *packet.VRRP) { f.TTL = 7 })
	e.packet(r.port, time.Second, b)
	if n := testing.AllocsPerRun(200, func() { e.packet(r.port, time.Second, b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if x := r.refusals[warnTTL]; x.count < 200 || x.peer != peerAddr {
		t.Errorf("counted %+v", x)
	}
}

// Another master that comes and goes is told of as often as is good for the log.
func TestContestsAreBounded(t *testing.T) {
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	replies(e, api.Peer{ID: 7, Trusted: true}, api.Request{Verb: api.VerbHello, Name: "sasyncd"},
		api.Request{Verb: api.VerbSubscribe})
	told := map[bool]int{}
	for i := range 600 { // a minute of ten a second
		now := time.Minute + time.Duration(i)*time.Second/10
		for _, lasted := range []time.Duration{0, time.Second / 20} {
			e.tell(g, now, carp.Action{Kind: carp.ActContested, Peer: sender(i), For: lasted})
			for _, o := range e.queues.out.take() {
				if o.message.Event == api.EventContested {
					told[o.message.ForMS != 0]++
				}
			}
		}
	}
	if told[false] != senders || told[true] != senders {
		t.Errorf("told of %d beginnings and %d ends in a minute", told[false], told[true])
	}
}

// TestKindsOfWarnings: each has a name of its own for clients, and what is none is invalid.
func TestKindsOfWarnings(t *testing.T) {
	want := map[warning]string{warnVersion: api.RefusedVersion, warnCARP: api.RefusedProtocol,
		warnVRRP: api.RefusedProtocol, warnInterval: api.RefusedInterval, warnAddresses: api.RefusedAddresses,
		warnAuth: api.RefusedAuth, warnTrailer: api.RefusedAuth, warnTTL: api.RefusedTTL, warnInvalid: api.RefusedInvalid,
		warnOwn: api.RefusedOwn, warnCast: api.RefusedCast, warnPeer: api.RefusedPeer, warnMAC: api.RefusedMAC,
		warnTrailerTaken: api.RefusedInvalid}
	for w := range warnings {
		if name, ok := want[w]; !ok || w.kind() != name {
			t.Errorf("warning %d is %q, want %q", w, w.kind(), name)
		}
	}
}
