package carp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

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
		{"yes after 3 s", func(c *GroupConfig) { c.Preempt, c.PreemptDelay = PreemptYes, 3*time.Second }, nil,
			3 * time.Second},
		{"one instance no", func(c *GroupConfig) { c.Preempt, c.Routers[1].Preempt = PreemptYes, PreemptNo }, nil,
			Never},
		{"all instances yes", func(c *GroupConfig) {
			c.Routers[0].Preempt, c.Routers[1].Preempt = PreemptYes,
				PreemptYes
		}, nil, 0},
		{"in sync, is not", func(c *GroupConfig) {
			c.Preempt, c.Require, c.AloneAfter = PreemptInSync,
				[]string{"sasyncd"}, 0
		},
			[]Event{{Kind: EvClient, Client: 7, Name: "sasyncd"}, {Kind: EvReady, Client: 7}}, Never},
		{"in sync, is", func(c *GroupConfig) { c.Preempt, c.Require = PreemptInSync, []string{"sasyncd"} },
			[]Event{{Kind: EvClient, Client: 7, Name: "sasyncd"},
				{Kind: EvReady, Client: 7, Ready: Ready{InSync: true}}}, 0},
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
