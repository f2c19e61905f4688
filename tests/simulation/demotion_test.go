package simulation

import (
	"fmt"
	"testing"
	"time"

	"sasyncd/carp"
)

// TestDemotions demotes gateways at any moment, several at once and in the middle
// of a hand-over. When it is over one of the least demoted is MASTER.
func TestDemotions(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).demotions) })
	}
}

// demote makes the node's sum of demotions by.
func (n *node) demote(by int) {
	n.s.note("node %d is demoted by %d", n.i, by)
	ev := carp.Event{Kind: carp.EvUndemote, Demotion: carp.Demotion{ID: "track:x"}}
	if by > 0 {
		ev = carp.Event{Kind: carp.EvDemote, Demotion: carp.Demotion{ID: "track:x", By: by}}
	}
	n.tell(ev)
}

func (s *sim) demotions() {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	s.pass(3 * time.Second)
	demotion := make([]int, len(s.nodes))
	demote := func(n *node, by int) {
		demotion[n.i] = by
		n.demote(by)
	}
	for range 6 {
		for range 5 {
			for range 1 + s.rng.IntN(2) {
				demote(s.nodes[s.rng.IntN(len(s.nodes))], s.rng.IntN(3))
				s.pass(time.Duration(s.rng.IntN(2)*s.rng.IntN(200)) * time.Millisecond)
			}
			s.pass(time.Duration(s.rng.IntN(2000)) * time.Millisecond)
		}
		s.pass(8 * time.Second)
		m := s.master()
		if m == nil {
			s.t.Errorf("%s: seed %d: not one master", time.Since(s.start), s.seed)
			return
		}
		for i, d := range demotion {
			if d < demotion[m.i] {
				s.t.Errorf("%s: seed %d: node %d is master and demoted by %d, node %d by %d", time.Since(s.start),
					s.seed, m.i, demotion[m.i], i, d)
			}
		}
		was := s.masterships
		s.pass(10 * time.Second)
		if s.masterships != was {
			s.t.Errorf("%s: seed %d: %d changes without a cause", time.Since(s.start), s.seed, s.masterships-was)
		}
		if s.t.Failed() {
			return
		}
	}

	// What an operator orders stays, until there is a new fault.
	for _, n := range s.nodes {
		demote(n, 0)
	}
	s.pass(5 * time.Second)
	m := s.master()
	for _, n := range s.nodes {
		if n != m {
			demote(n, 1)
		}
	}
	s.pass(time.Second)
	m.Resign("", "operator")
	s.pass(15 * time.Second)
	o := s.master()
	if o == nil || o == m {
		s.t.Errorf("%s: seed %d: the order of an operator was undone", time.Since(s.start), s.seed)
		return
	}
	demote(o, 2)
	s.pass(3 * time.Second)
	if now := s.master(); now == nil || now == o {
		s.t.Errorf("%s: seed %d: no hand-over for a new fault", time.Since(s.start), s.seed)
	}
	s.quiet()
}
