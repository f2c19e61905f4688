package carp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGroupTakesOverInOrder(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(902 * ms)
	s.expect()
	s.to(903 * ms)
	// The first advertisements must be out before anything else is asked for.
	if got := strings.Join(s.log[:4], ","); got != "advert 0 prio 100,advert 1 prio 100,term 1,prepare master" {
		t.Fatal(got)
	}
	s.log = nil
	s.to(1200 * ms)
	s.expect()
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 99})
	s.expect()
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.expect("acquire")
	s.done()
	s.expect("state backup>master (no master heard)")
	s.to(9 * time.Second)
	s.expect("announce", "announce")
}

func TestGroupWaitsForAllRouters(t *testing.T) {
	s := start(t, twoRouters())
	// Router 1 keeps hearing a master, router 0 does not: a fault in one
	// direction must not make half a master.
	for range 20 {
		s.heard(1, 200)
		s.to(s.now + 250*ms)
	}
	s.expect()
	if !s.g.routers[0].Expired() {
		t.Error("router 0 still waits")
	}
	s.to(s.now + time.Second)
	s.expect("term 1", "acquire")
}

func TestGroupYieldsAsOne(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	s.heard(1, 200)
	s.expect("contested by 10.0.0.3", "release")
	s.to(s.now + 10*ms)
	s.expect()
	s.done()
	// Only the router that did not hear the better master bows out, and only
	// after the addresses are gone.
	s.expect("advert 0 prio 0", "state master>backup (better master)", "contest over")
}

func TestGroupCancelsWhenABetterOneComes(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.expect("term 1", "prepare master")
	s.heard(0, 200)
	s.expect("cancel (better master)", "advert 1 prio 0")
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.expect()
}

func TestGroupResignsWhenClientsDoNotPrepare(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.expect("term 1", "prepare master")
	s.to(3 * time.Second)
	s.expect("cancel (clients did not prepare in time)", "advert 0 prio 0", "advert 1 prio 0")
	s.to(7800 * ms)
	s.expect()
}

func TestGroupAddressFailure(t *testing.T) {
	s := start(t, twoRouters())
	s.to(time.Second)
	s.expect("term 1", "acquire")
	s.do(Event{Kind: EvDone, Op: s.op, Err: errors.New("no room")})
	s.expect("release")
	s.done()
	s.expect("advert 0 prio 0", "advert 1 prio 0")
	s.to(5500 * ms)
	s.expect()
	s.to(7 * time.Second)
	s.expect("term 2", "acquire")
}

func TestGroupLostDuringAcquireReleases(t *testing.T) {
	s := start(t, twoRouters())
	s.to(time.Second)
	acquire := s.op
	s.expect("term 1", "acquire")
	s.heard(0, 200)
	s.heard(1, 200)
	s.expect("release")
	// The end of the acquisition comes late and must not count.
	s.do(Event{Kind: EvDone, Op: acquire})
	s.expect()
	s.done()
	s.expect()
}

func TestGroupInterfaceLoss(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	s.do(Event{Kind: EvDown, Router: 0})
	s.expect("release")
	s.done()
	s.expect("advert 1 prio 0", "state master>backup (interface down)", "state backup>init (interface down)")
	s.to(s.now + time.Minute)
	s.expect()
	s.do(Event{Kind: EvUp, Router: 0, Src: ownAddr})
	s.expect("state init>backup (interfaces up)")
	s.to(s.now + time.Second)
	s.expect("term 2", "acquire")
}

func TestGroupStall(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	s.now += 700 * ms // nobody called us
	s.do(Event{Kind: EvTick})
	s.expect("stall", "release")
	s.done()
	s.expect("advert 0 prio 0", "advert 1 prio 0", "state master>backup (stall)")
}

func TestGroupStallOfBackupIsHarmless(t *testing.T) {
	s := start(t, twoRouters())
	s.heard(0, 200)
	s.heard(1, 200)
	s.now += time.Hour
	// The adverts that waited in the socket are delivered before the tick.
	s.heard(0, 200)
	s.heard(1, 200)
	s.do(Event{Kind: EvTick})
	s.expect()
}

func TestGroupSendErrors(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	stop := s.now + 800*ms
	for s.now < stop { // nothing leaves on router 1
		s.now = s.g.Deadline()
		for _, a := range slices.Clone(s.g.Step(s.now, Event{Kind: EvTick})) {
			if a.Kind == ActAdvert {
				var err error
				if a.Router == 1 {
					err = errors.New("network is down")
				}
				s.g.Step(s.now, Event{Kind: EvSent, Router: a.Router, Err: err})
			}
			if a.Kind == ActRenew {
				t.Error("lease renewed although nobody hears us")
			}
			if a.Kind == ActRelease {
				return
			}
		}
	}
	t.Error("still master although nothing leaves")
}

func TestGroupLeaseRenewal(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	s.log = nil
	s.to(s.now + 20*time.Second)
	n := 0
	for _, l := range s.log {
		if l == "renew" {
			n++
		}
	}
	if n < 19 || n > 21 {
		t.Errorf("%d renewals in 20 s", n)
	}
}

func TestGroupPreempt(t *testing.T) {
	for _, preempt := range []bool{false, true} {
		cfg := twoRouters()
		cfg.Preempt = map[bool]Preempt{true: PreemptYes}[preempt]
		s := start(t, cfg)
		for range 8 {
			s.heard(0, 50)
			s.heard(1, 50)
			s.to(s.now + 250*ms)
		}
		if preempt {
			s.expect("term 1", "acquire")
		} else {
			s.expect()
		}
	}
}

// The owner of the addresses preempts whatever is configured (RFC 9568 section 6.1), but
// not before it is in sync where that is what is wanted.
func TestOwnerPreempts(t *testing.T) {
	for mode, want := range map[Preempt]bool{PreemptGroup: true, PreemptNo: true, PreemptYes: true,
		PreemptInSync: true} {
		cfg := twoRouters()
		for i := range cfg.Routers {
			cfg.Routers[i].Priority, cfg.Routers[i].Preempt = 255, mode
		}
		if mode == PreemptInSync {
			cfg.Require, want = []string{"sasyncd"}, false
		}
		s := start(t, cfg)
		for range 8 {
			s.heard(0, 254)
			s.heard(1, 254)
			s.to(s.now + 250*ms)
		}
		if won := slices.Contains(s.log, "acquire"); won != want {
			t.Errorf("preempt %d: took over %v, want %v", mode, won, want)
		}
	}
}

func TestGroupDoesNotPreemptAfterHandOver(t *testing.T) {
	cfg := twoRouters()
	cfg.Preempt = PreemptYes
	s := start(t, cfg)
	s.master()
	s.do(Event{Kind: EvResign})
	s.done()
	s.done()
	s.log = nil
	for range 40 {
		s.heard(0, 50)
		s.heard(1, 50)
		s.to(s.now + 250*ms)
	}
	s.expect()
}

func TestGroupStartHold(t *testing.T) {
	cfg := twoRouters()
	cfg.StartHold = 5 * time.Second
	s := start(t, cfg)
	s.to(5 * time.Second)
	s.expect()
	s.to(5200 * ms)
	s.expect("term 1", "acquire")
}

func TestGroupStop(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvStop})
	s.expect("stopped")
	s = start(t, twoRouters())
	s.master()
	s.do(Event{Kind: EvStop})
	s.expect("fence")
	s.done()
	s.expect("release")
	s.done()
	s.expect("advert 0 prio 0", "advert 1 prio 0", "state master>backup (stopping)", "stopped")
}

func TestGroupContested(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	for range 8 {
		s.heard(0, 50)
		s.to(s.now + 250*ms)
	}
	s.to(s.now + 20*time.Second)
	if s.log[0] != "advert 0 prio 100" {
		t.Errorf("not answered at once: %q", s.log[0])
	}
	// Announced at once and each second while it lasts, and 1 s and 5 s after.
	s.expect("contested by 10.0.0.3", "announce", "announce", "announce", "announce", "contest over", "announce")
}

func TestGroupDemotion(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "a", By: 20, Client: 7}, Request: 1})
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "b", By: 5, Expires: time.Second}, Request: 2})
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "c", By: 0}, Request: 3})
	s.expect("reply <nil>", "reply <nil>", "reply "+ErrDemotion.Error())
	prio := func(want uint8) {
		t.Helper()
		if got := s.g.Snapshot(s.now).Routers[0].Priority; got != want {
			t.Errorf("priority %d, want %d", got, want)
		}
	}
	prio(75)
	s.heard(0, 200)
	s.heard(1, 200)
	s.to(time.Second)
	prio(80)
	s.do(Event{Kind: EvGone, Client: 7})
	prio(100)
	s.log = nil
	s.do(Event{Kind: EvUndemote, Demotion: Demotion{ID: "a"}, Request: 4})
	s.expect("reply " + ErrUnknown.Error())
}

func TestGroupTermsOnlyGrow(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvTerm, Term: 10})
	s.do(Event{Kind: EvTerm, Term: 3})
	s.to(time.Second)
	s.expect("term 11", "acquire")
}

func TestStepDoesNotAllocatePerAdvert(t *testing.T) {
	s := start(t, twoRouters())
	now := time.Duration(0)
	from := netip.MustParseAddr("10.0.0.9")
	n := testing.AllocsPerRun(100, func() {
		now += 250 * ms
		s.g.Step(now, Event{Kind: EvAdvert, Router: 0, Advert: Advert{From: from, Priority: 200, Interval: 250 * ms}})
		s.g.Step(now, Event{Kind: EvAdvert, Router: 1, Advert: Advert{From: from, Priority: 200, Interval: 250 * ms}})
		s.g.Step(now, Event{Kind: EvTick})
	})
	if n != 0 {
		t.Errorf("%v allocations per round", n)
	}
}

// With Fence, somebody must be there to silence a master that is not heard, and
// must have done so.
func TestGroupFence(t *testing.T) {
	cfg := twoRouters()
	cfg.Fence = true
	s := start(t, cfg)
	s.to(3 * time.Second)
	s.expect()
	if s.g.inhibit.blocked != "waiting for fence" {
		t.Errorf("blocked by %q", s.g.inhibit.blocked)
	}
	s.do(Event{Kind: EvClient, Client: 1, Name: "somebody", Prepare: true})
	s.to(4 * time.Second)
	s.expect()
	s.do(Event{Kind: EvGone, Client: 1})

	s.do(Event{Kind: EvClient, Client: 2, Name: FenceClient, Prepare: true})
	s.to(6 * time.Second)
	s.expect("term 1", "prepare master")
	// It dies before it has answered.
	s.do(Event{Kind: EvGone, Client: 2})
	if s.g.step.phase == phaseAcquiring || s.g.step.phase == phaseMaster {
		t.Fatal("took the addresses without an answer")
	}
}
