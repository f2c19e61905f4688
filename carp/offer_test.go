package carp

import (
	"slices"
	"testing"
	"time"
)

// knows tells the group that a peer is ready, how much the least demoted is demoted,
// and the least of those to whom it may hand over merely because of that.
func (s *script) knows(least, willing int) {
	s.t.Helper()
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true, PeerReady: true, PeerTold: true,
		PeerDemotion: least, WillingDemotion: willing}})
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
	if s.g.step.phase != phaseMaster {
		t.Fatalf("phase %d", s.g.step.phase)
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
				if s.g.step.phase != phaseFencing {
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
		s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{PeerReady: true, PeerTold: true,
			WillingDemotion: maxDemotion}})
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
		if s.g.step.phase != phaseFencing {
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
		if s.g.step.phase != phaseMaster {
			t.Errorf("phase %d", s.g.step.phase)
		}
	})
}
