package carp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// demoted starts a group that is master and clears what was logged.
func demoted(t *testing.T, edit func(*GroupConfig)) *script {
	t.Helper()
	cfg := twoRouters()
	if edit != nil {
		edit(&cfg)
	}
	s := start(t, cfg)
	s.master()
	return s
}

// The adverts of a rise are what it is about, so expect does not do here.
func (s *script) exactly(want ...string) {
	s.t.Helper()
	if strings.Join(s.log, "\n") != strings.Join(want, "\n") {
		s.t.Fatalf("at %v\n got %q\nwant %q", s.now, s.log, want)
	}
	s.log = nil
}

// A master that is demoted says so at once, and not when that ends.
func TestDemotionIsAdvertisedAtOnce(t *testing.T) {
	s := demoted(t, nil)
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:link eth2", By: 10}})
	s.exactly("advert 0 prio 90", "advert 1 prio 90")
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:link eth2", By: 30}})
	s.exactly("advert 0 prio 70", "advert 1 prio 70")
	s.do(Event{Kind: EvUndemote, Demotion: Demotion{ID: "track:link eth2"}})
	s.exactly()
	// A backup is silent in any case.
	s = start(t, twoRouters())
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "x", By: 10}})
	s.exactly()
}

// With a peer that is known to be ready nobody has to wait for timers.
func TestDemotionHandsOverToReadyPeer(t *testing.T) {
	for _, ready := range []bool{false, true} {
		s := demoted(t, nil)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true, PeerReady: ready}})
		s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:link eth2", By: 1}})
		if !ready {
			s.exactly("advert 0 prio 99", "advert 1 prio 99")
			continue
		}
		s.exactly("fence")
		s.done()
		s.exactly("release")
		s.done()
		s.exactly("advert 0 prio 0", "advert 1 prio 0", "state master>backup (demoted, a peer is ready)")
	}
}

// A rise to which no peer was ready is made good once, when one becomes ready:
// else a master whose cable failed while a standby fetched its tables would stay.
func TestDemotionIsMadeGoodLater(t *testing.T) {
	const id = "track:ping 192.0.2.100"
	ready := func(s *script, yes bool) {
		s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true, PeerReady: yes}})
	}
	rise := func(s *script, by int) { s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: id, By: by}}) }
	unready := func(t *testing.T) *script {
		s := demoted(t, nil)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		ready(s, false)
		return s
	}
	t.Run("once", func(t *testing.T) {
		s := unready(t)
		rise(s, 1)
		s.log = nil
		ready(s, true)
		s.exactly("fence")
		s.done()
		s.done()
		s.log = nil
		// Nobody took over: it is master again, as much demoted, and stays.
		s.to(s.now + 2*time.Second)
		s.done()
		s.log = nil
		ready(s, false)
		ready(s, true)
		s.exactly()
		if s.g.phase != phaseMaster {
			t.Errorf("phase %d", s.g.phase)
		}
	})
	t.Run("not when it is over", func(t *testing.T) {
		s := unready(t)
		rise(s, 2)
		rise(s, 3)
		s.do(Event{Kind: EvUndemote, Demotion: Demotion{ID: id}})
		s.log = nil
		ready(s, true)
		s.exactly()
	})
	t.Run("still when part of it is over", func(t *testing.T) {
		s := unready(t)
		rise(s, 3)
		rise(s, 2)
		s.log = nil
		ready(s, true)
		s.exactly("fence")
	})
	t.Run("not for what it was before it was master", func(t *testing.T) {
		s := start(t, twoRouters())
		rise(s, 1)
		s.to(2 * time.Second)
		s.done()
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		s.log = nil
		ready(s, true)
		s.exactly()
	})
	t.Run("during a takeover", func(t *testing.T) {
		s := start(t, twoRouters())
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		ready(s, true)
		s.to(2 * time.Second)
		rise(s, 1)
		s.log = nil
		s.done()
		s.exactly("state backup>master (no master heard)", "fence")
	})
}

// knows tells the group that a peer is ready, how much the least demoted is demoted,
// and the least of those to whom it may hand over merely because of that.
func (s *script) knows(least, willing int) {
	s.t.Helper()
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true, PeerReady: true, PeerTold: true, PeerDemotion: least, WillingDemotion: willing}})
}

func (s *script) demote(by int) {
	s.t.Helper()
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:x", By: by}})
	s.log = nil
}

// inherited is a master that was demoted before it took over.
func inherited(t *testing.T, by int) *script {
	t.Helper()
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	if by > 0 {
		s.demote(by)
	}
	s.to(2 * time.Second)
	s.done()
	if s.g.phase != phaseMaster {
		t.Fatalf("phase %d", s.g.phase)
	}
	s.log = nil
	return s
}

// Among nodes that are as much demoted nothing is won by a hand-over: the two
// faults at once of docs/operations.md.
func TestDemotionStaysAmongEquals(t *testing.T) {
	for _, peer := range []int{2, 3, maxDemotion} {
		s := demoted(t, nil)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		s.knows(peer, peer)
		s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:x", By: 2}})
		s.exactly("advert 0 prio 98", "advert 1 prio 98")
		s.knows(peer, peer)
		s.exactly()
		s.knows(1, 1) // it is well again
		s.exactly("fence")
	}
	// The same at once, if the peer is better as it is.
	s := demoted(t, nil)
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	s.knows(1, 1)
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "track:x", By: 2}})
	s.exactly("fence")
}

// Who takes over from one that is worse, or is gone, is not the best for ever.
func TestDemotedSuccessorGivesWay(t *testing.T) {
	for _, tc := range []struct {
		name                string
		own, least, willing int
		want                bool
	}{
		{"to a better one", 1, 0, 0, true},
		{"to a less demoted one", 3, 2, 2, true},
		{"not to an equal", 1, 1, 1, false},
		{"not to a worse one", 1, 2, 2, false},
		{"not undemoted", 0, 0, 0, false},
		{"not to one that gave it away", 1, 0, maxDemotion, false},
		{"to another, less demoted one", 3, 0, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := inherited(t, tc.own)
			s.knows(tc.least, tc.willing)
			if got := slices.Contains(s.log, "fence"); got != tc.want {
				t.Errorf("hands over: %v", got)
			}
			if tc.own == 1 && tc.willing == maxDemotion {
				// A fault of its own is another matter.
				s.demote(2)
				if s.g.phase != phaseFencing {
					t.Error("does not hand over for a rise")
				}
			}
		})
	}
	t.Run("not what is over", func(t *testing.T) {
		s := inherited(t, 1)
		s.do(Event{Kind: EvUndemote, Demotion: Demotion{ID: "track:x"}})
		s.knows(0, 0)
		s.exactly()
	})
	t.Run("not because of the start", func(t *testing.T) {
		cfg := twoRouters()
		cfg.DemoteAtStart = 1
		s := start(t, cfg)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
		s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{PeerReady: true, PeerTold: true, WillingDemotion: maxDemotion}})
		s.to(2 * time.Second)
		s.log = nil
		s.done()
		s.exactly("state backup>master (no master heard)")
	})
}

// A hand-over that nobody took up costs a down interval each time.
func TestOfferIsNotRepeated(t *testing.T) {
	failed := func(t *testing.T) *script {
		s := inherited(t, 5)
		s.knows(3, 3)
		s.exactly("fence")
		s.done()
		s.done()
		s.to(s.now + 2*time.Second)
		s.done() // nobody took over
		s.log = nil
		s.knows(3, 3)
		s.exactly()
		return s
	}
	t.Run("to the same", func(t *testing.T) { failed(t).knows(4, 4) })
	t.Run("but to a better one", func(t *testing.T) {
		s := failed(t)
		s.knows(2, 2)
		s.exactly("fence")
	})
	t.Run("but for a rise", func(t *testing.T) {
		s := failed(t)
		s.demote(6)
		if s.g.phase != phaseFencing {
			t.Error("does not hand over")
		}
	})
	t.Run("but after a successor", func(t *testing.T) {
		s := inherited(t, 5)
		s.knows(3, 3)
		s.done()
		s.done()
		s.heard(0, 50)
		s.heard(1, 50)
		s.to(s.now + 5*time.Second) // it dies
		s.done()
		s.log = nil
		s.knows(3, 3)
		s.exactly("fence")
	})
	t.Run("but after one that came and went at once", func(t *testing.T) {
		for _, heard := range []bool{true, false} {
			s := inherited(t, 5)
			s.knows(3, 3)
			s.done()
			if heard { // while the addresses are being removed
				s.heard(0, 50)
				s.heard(1, 50)
			}
			s.done()
			if heard {
				s.to(s.now + 5*time.Second)
			} else {
				s.do(Event{Kind: EvTakeover, Term: s.g.seen + 1})
			}
			s.done()
			s.log = nil
			s.knows(3, 3)
			s.exactly("fence")
		}
	})
	t.Run("nor after the client has gone", func(t *testing.T) {
		s := inherited(t, 0)
		s.knows(0, 0)
		s.do(Event{Kind: EvGone, Client: 7})
		s.do(Event{Kind: EvResign})
		s.done()
		s.demote(1)
		s.done()
		s.to(s.now + 5*time.Second)
		s.done()
		if s.g.phase != phaseMaster {
			t.Errorf("phase %d", s.g.phase)
		}
	})
}

// What clients are told of the group's fitness: each change, once.
func TestFitnessIsTold(t *testing.T) {
	s := demoted(t, nil)
	told := func(want ...fitness) {
		t.Helper()
		if !slices.Equal(s.fit, want) {
			t.Fatalf("at %v told %v, want %v", s.now, s.fit, want)
		}
		s.fit = nil
	}
	told()
	s.demote(3)
	s.demote(3)
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "x", By: 255}})
	s.do(Event{Kind: EvUndemote, Demotion: Demotion{ID: "x"}})
	told(fitness{3, false}, fitness{maxDemotion, false}, fitness{3, false})
	// An operator hands over: nobody gives it back, until it has been master again.
	s.do(Event{Kind: EvResign, Reason: "operator"})
	told(fitness{3, true})
	s.done()
	s.done()
	s.to(s.now + 3*time.Second)
	s.done()
	told(fitness{3, false})
	// Because of the demotion: it may have it back.
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	s.knows(0, 0)
	s.done()
	told()
	if got := s.g.Snapshot(s.now); got.Unwilling || got.Demotion != 3 {
		t.Errorf("snapshot %+v", got)
	}
}

// Nobody is offered what it could not take.
func TestFailedTakeoverIsUnwilling(t *testing.T) {
	for name, fail := range map[string]func(s *script){
		"clients": func(s *script) { s.to(s.now + 3*time.Second) },
		"addresses": func(s *script) {
			s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
			s.do(Event{Kind: EvDone, Op: s.op, Err: errors.New("no")})
		},
		"no client": func(s *script) { s.do(Event{Kind: EvGone, Client: 7}) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := twoRouters()
			cfg.Require = []string{"sasyncd"}
			s := start(t, cfg)
			s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
			s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true}})
			s.to(1200 * ms)
			fail(s)
			if !slices.Equal(s.fit, []fitness{{0, true}}) {
				t.Errorf("told %v", s.fit)
			}
		})
	}
}

// The operator's undemote does not take out what the daemon looks after.
func TestUndemoteLeavesAutomaticOnes(t *testing.T) {
	cfg := twoRouters()
	cfg.DemoteAtStart = 4
	s := start(t, cfg)
	for id, by := range map[string]int{"operator": 8, "track:file /x": 16, fault(linkDemotion, 0): 32, fault(sendDemotion, 1): 64} {
		s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: id, By: by}})
	}
	s.do(Event{Kind: EvUndemote})
	if got := s.g.Snapshot(s.now).Demotion; got != 4+16+32+64 {
		t.Errorf("demotion %d", got)
	}
}

// Three failures in a row demote by one, three successes in a row end that.
func TestSendErrorsDemote(t *testing.T) {
	s := start(t, twoRouters())
	bad := errors.New("no buffer space")
	for i, step := range []struct {
		err  error
		want int
	}{{bad, 0}, {bad, 0}, {nil, 0}, {bad, 0}, {bad, 0}, {bad, 1}, {bad, 1}, {nil, 1}, {nil, 1}, {bad, 1}, {nil, 1}, {nil, 1}, {nil, 0}, {nil, 0}} {
		s.do(Event{Kind: EvSent, Router: 1, Err: step.err})
		if got := s.g.Snapshot(s.now).Demotion; got != step.want {
			t.Errorf("step %d: demotion %d, want %d", i, got, step.want)
		}
	}
}

func TestLinkDemotes(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvDown, Router: 1})
	if got := s.g.Snapshot(s.now).Demotion; got != 1 {
		t.Errorf("interface down: demotion %d", got)
	}
	s.do(Event{Kind: EvUp, Router: 1, Src: ownAddr})
	if got := s.g.Snapshot(s.now).Demotion; got != 0 {
		t.Errorf("interface up: demotion %d", got)
	}
}

// carpScript is a group of two CARP hosts.
func carpScript(t *testing.T, edit func(*GroupConfig)) *script {
	t.Helper()
	cfg := twoRouters()
	cfg.Routers = []RouterConfig{CARPRouter(1, 1, 100, OpenBSD), CARPRouter(2, 1, 100, OpenBSD)}
	if edit != nil {
		edit(&cfg)
	}
	return start(t, cfg)
}

func (s *script) carp(skew, demotion uint8) {
	s.t.Helper()
	for i := range s.g.routers {
		s.do(Event{Kind: EvAdvert, Router: i, Advert: CARPAdvert(highAddr, 1, skew, demotion, false)})
	}
}

// A demoted master is replaced by a backup that is not, preempt or not; and one
// that is as much demoted is not.
func TestCARPDemotedMasterIsReplaced(t *testing.T) {
	s := carpScript(t, nil)
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "x", By: 2}})
	for range 5 {
		s.carp(0, 2)
		s.to(s.now + time.Second)
	}
	s.expect()
	s.carp(0, 3)
	s.to(s.now + 50*ms)
	s.expect("advert 0 prio 1", "advert 1 prio 1", "term 1", "acquire")
	s.done()
	s.expect("state backup>master (master is demoted)")
}

func TestPreemptModes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(*GroupConfig)
		event []Event
		want  time.Duration // from the first lesser master to our mastership, Never
	}{
		{"no", nil, nil, Never},
		{"yes", func(c *GroupConfig) { c.Preempt = PreemptYes }, nil, 0},
		{"yes after 3 s", func(c *GroupConfig) { c.Preempt, c.PreemptDelay = PreemptYes, 3*time.Second }, nil, 3 * time.Second},
		{"one instance no", func(c *GroupConfig) { c.Preempt, c.Routers[1].Preempt = PreemptYes, PreemptNo }, nil, Never},
		{"all instances yes", func(c *GroupConfig) { c.Routers[0].Preempt, c.Routers[1].Preempt = PreemptYes, PreemptYes }, nil, 0},
		{"in sync, is not", func(c *GroupConfig) { c.Preempt, c.Require, c.AloneAfter = PreemptInSync, []string{"sasyncd"}, 0 },
			[]Event{{Kind: EvClient, Client: 7, Name: "sasyncd"}, {Kind: EvReady, Client: 7}}, Never},
		{"in sync, is", func(c *GroupConfig) { c.Preempt, c.Require = PreemptInSync, []string{"sasyncd"} },
			[]Event{{Kind: EvClient, Client: 7, Name: "sasyncd"}, {Kind: EvReady, Client: 7, Ready: Ready{InSync: true}}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := carpScript(t, tc.edit)
			s.carp(0, 0) // a better master at first
			for _, ev := range tc.event {
				s.do(ev)
			}
			s.to(s.now + time.Second)
			began, won := s.now, Never
			for range 100 {
				s.carp(200, 0)
				s.to(s.now + 100*ms)
				if won == Never && slices.Contains(s.log, "acquire") {
					won = s.now - began
				}
			}
			if won != Never && (won < tc.want || won > tc.want+300*ms) || (won == Never) != (tc.want == Never) {
				t.Errorf("master after %v, want %v", won, tc.want)
			}
		})
	}
}

// Without a witness nothing is taken, and nothing is kept.
func TestWitness(t *testing.T) {
	cfg := twoRouters()
	cfg.Witness = true
	s := start(t, cfg)
	s.to(5 * time.Second)
	s.expect()
	if got := s.g.Snapshot(s.now).Blocked; got != whyWitness {
		t.Errorf("blocked %q", got)
	}
	s.do(Event{Kind: EvTakeover, Term: 1, Request: 1})
	s.expect(fmt.Sprintf("reply %v", ErrNotEligible))
	for s.now < 6*time.Second {
		s.do(Event{Kind: EvWitness, Witness: true, Proof: s.now})
		s.to(s.now + 100*ms)
	}
	s.expect("term 1", "acquire")
	s.done()
	s.expect("state backup>master (no master heard)")
	s.do(Event{Kind: EvWitness})
	s.expect("fence")
	s.done()
	s.done()
	s.expect("release", "advert 0 prio 0", "advert 1 prio 0", "state master>backup (witness not reachable)")
}

// A bow-out is not waited for, and only that of the master counts.
func TestCARPBowOut(t *testing.T) {
	s := carpScript(t, nil)
	s.carp(0, 0)
	leave := func(ev Event) {
		for i := range s.g.routers {
			ev.Router = i
			s.do(ev)
		}
	}
	leave(Event{Kind: EvAdvert, Advert: CARPAdvert(lowAddr, 255, 255, 0, false)})
	s.to(s.now + 500*ms)
	s.expect()
	leave(Event{Kind: EvAdvert, Advert: CARPAdvert(highAddr, 255, 255, 0, false)})
	s.to(s.now + 50*ms)
	s.expect("advert 0 prio 1", "advert 1 prio 1", "term 1", "acquire")
	s.done()
	s.expect("state backup>master (master resigned)")
}

// Two families are two routers: what is missed in one only moves nothing, and a
// better master in one of them ends the mastership of both.
func TestCARPFamilies(t *testing.T) {
	s := carpScript(t, func(c *GroupConfig) { c.Routers[1] = c.Routers[0] })
	for range 8 {
		s.do(Event{Kind: EvAdvert, Router: 0, Advert: CARPAdvert(highAddr, 1, 0, 0, false)})
		s.to(s.now + time.Second)
	}
	s.expect()
	s.to(s.now + 2500*ms)
	s.expect("advert 0 prio 1", "advert 1 prio 1", "term 1", "acquire")
	s.done()
	s.log = nil
	s.do(Event{Kind: EvAdvert, Router: 1, Advert: CARPAdvert(highAddr, 1, 0, 0, false)})
	s.expect("advert 1 prio 1", "contested by 10.0.0.3", "release")
}
