package carp

import (
	"errors"
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
		if s.g.step.phase != phaseMaster {
			t.Errorf("phase %d", s.g.step.phase)
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
	for id, by := range map[string]int{"operator": 8, "track:file /x": 16, fault(linkDemotion, 0): 32,
		fault(sendDemotion, 1): 64} {
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
	}{{bad, 0}, {bad, 0}, {nil, 0}, {bad, 0}, {bad, 0}, {bad, 1}, {bad, 1}, {nil, 1}, {nil, 1}, {bad, 1}, {nil, 1},
		{nil, 1}, {nil, 0}, {nil, 0}} {
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

// TestStartDemotionEnds when the required clients are in sync, and not before; a link that
// was down is another matter.
func TestStartDemotionEnds(t *testing.T) {
	cfg := twoRouters()
	cfg.DemoteAtStart, cfg.Require = 4, []string{"sasyncd"}
	s := start(t, cfg)
	want := func(sum int) {
		t.Helper()
		if got := s.g.Snapshot(s.now).Demotion; got != sum {
			t.Errorf("demotion %d, want %d", got, sum)
		}
	}
	s.do(Event{Kind: EvDemote, Demotion: Demotion{ID: "operator", By: 8}})
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	want(12)
	s.do(Event{Kind: EvReady, Client: 7})
	want(12)
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true}})
	want(8)
	s.do(Event{Kind: EvReady, Client: 7})
	want(8) // it was for the start
}
