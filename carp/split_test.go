package carp

import (
	"errors"
	"testing"
	"time"
)

// As package track looks for a witness: how often, and how long it may be
// silent.
func (p profile) probeEach() time.Duration { return min(max(p.every/2, 50*ms), time.Second) }
func (p profile) probeLost() time.Duration { return max(time.Second, 4*p.every) }

// watch asks a witness again and again, which does not answer who is alone.
func (n *simNode) watch(p profile, alone func() bool, answered *time.Duration) {
	s := n.s
	s.at(s.now+p.probeEach(), func() { n.watch(p, alone, answered) })
	if n.g == nil {
		return
	}
	sent := s.now
	switch {
	case !alone():
		*answered = sent
		n.later(s.now+time.Duration(s.rnd.Int63n(int64(2*simDelay))),
			func() { n.step(Event{Kind: EvWitness, Witness: true, Proof: sent}) })
	case s.now-*answered >= p.probeLost():
		n.step(Event{Kind: EvWitness})
	}
}

// Whoever is cut off from everything does not take over at all, and as master
// is silent soon; the others elect among themselves.
func TestSimulationWitness(t *testing.T) {
	simulate(t, func(s *sim, p profile, _ int64) {
		alone := -1
		for _, n := range s.nodes {
			answered := new(time.Duration)
			s.at(0, func() { n.watch(p, func() bool { return alone == n.id }, answered) })
		}
		s.run(15 * time.Second)
		for range 4 {
			alone = s.rnd.Intn(len(s.nodes))
			n := s.nodes[alone]
			for i := range s.nodes {
				s.cut[[2]int{i, alone}], s.cut[[2]int{alone, i}] = true, true
			}
			served, until := n.serves, s.now+p.probeLost()+2*p.probeEach()+instant
			for end := s.now + 8*p.down; s.now < end; s.run(s.now + 10*ms) {
				if n.serves && (!served || s.now > until) {
					s.fail("node %d serves, %v after it was cut off", n.id, s.now-(end-8*p.down))
				}
			}
			if s.serving != 1 {
				s.fail("%d nodes serve while node %d is alone", s.serving, n.id)
			}
			alone = -1
			clear(s.cut)
			changes := s.changes
			s.run(s.now + 4*p.down + time.Duration(s.rnd.Intn(1000))*ms)
			if s.changes != changes {
				s.fail("mastership moved when node %d was back", n.id)
			}
		}
		s.settled(p.probeLost() + 2*p.probeEach() + instant)
	}, func(_ int, c *GroupConfig) { c.Witness = true })
}

// After a split that made two masters the one stays that had the traffic,
// whichever the election alone would prefer; with traffic on both or on none
// there is one too.
func TestSimulationPreferTraffic(t *testing.T) {
	simulateUpTo(2, t, func(s *sim, p profile, seed int64) {
		s.run(15 * time.Second)
		for round := range 4 {
			s.cut[[2]int{0, 1}], s.cut[[2]int{1, 0}] = true, true
			s.run(s.now + 4*p.down)
			if s.serving != 2 {
				s.fail("%d nodes serve in a split", s.serving)
			}
			busy := [2]bool{(int(seed)+round)%4&1 != 0, (int(seed)+round)%4&2 != 0}
			for i, n := range s.nodes {
				n.step(Event{Kind: EvReady, Client: 1, Ready: Ready{InSync: true, Traffic: busy[i]}})
			}
			s.dual, s.worst = 0, 0
			began := s.now
			clear(s.cut)
			for s.serving != 1 && s.now-began < time.Minute {
				s.run(s.now + ms)
			}
			// A down interval, until the next advertisement.
			if bound := p.down + 3*p.every + instant; s.now-began > bound {
				s.fail("two masters for %v after the split, more than %v", s.now-began, bound)
			}
			s.run(s.now + 10*p.down)
			if s.serving != 1 {
				s.fail("%d nodes serve", s.serving)
			}
			for i, n := range s.nodes {
				if busy[i] && !busy[1-i] && !n.serves {
					s.fail("node %d has the traffic and is not master", i)
				}
			}
		}
	}, func(_ int, c *GroupConfig) { c.PreferTraffic = true })
}

// A network that passes one direction only ends with one master, for good, even
// if the one that is not heard is the better one and preempts.
func TestSimulationOneWay(t *testing.T) {
	simulateUpTo(2, t, func(s *sim, p profile, seed int64) {
		s.run(15 * time.Second)
		from := int(seed) % 2
		s.cut[[2]int{from, 1 - from}] = true
		s.run(s.now + 8*p.down + 20*p.every)
		if s.serving != 1 {
			s.fail("%d nodes serve", s.serving)
		}
		changes := len(s.trace)
		s.run(s.now + 2*time.Minute)
		if s.serving != 1 || len(s.trace) != changes {
			s.fail("%d nodes serve, %d changes since there was one", s.serving, len(s.trace)-changes)
		}
		// Healed, there is one too; who preempts may.
		clear(s.cut)
		s.run(s.now + time.Minute)
		s.settled(8*p.down + 20*p.every)
	}, func(i int, c *GroupConfig) {
		if i == 0 {
			c.Preempt = PreemptYes
		}
	})
}

var errMute = errors.New("no buffer space")

// A node that cannot send is not master for long, and does not come back by
// preemption for the same to happen again.
func TestSimulationMute(t *testing.T) {
	simulateUpTo(2, t, func(s *sim, p profile, seed int64) {
		s.run(15 * time.Second)
		mute, other := s.nodes[int(seed)%2], s.nodes[1-int(seed)%2]
		mute.mute = true
		s.run(s.now + 8*p.down)
		changes := len(s.trace)
		s.run(s.now + 2*time.Minute)
		if s.serving != 1 || !other.serves || len(s.trace) != changes {
			s.fail("%d nodes serve, %d changes since there was one", s.serving, len(s.trace)-changes)
		}
		mute.mute = false
		s.run(s.now + time.Minute)
		if s.serving != 1 {
			s.fail("%d nodes serve", s.serving)
		}
	}, func(_ int, c *GroupConfig) { c.Preempt = PreemptYes })
}

// The witness must have answered since the master fell silent. Where nobody was
// silent, that is not asked.
func TestWitnessProof(t *testing.T) {
	cfg := twoRouters()
	cfg.Witness = true
	prove := func(s *script) { s.do(Event{Kind: EvWitness, Witness: true, Proof: s.now}) }
	proveTo := func(s *script, end time.Duration) {
		for s.now < end {
			prove(s)
			s.to(s.now + 100*ms)
		}
	}
	follow := func(s *script) {
		prove(s)
		for i := range s.g.routers {
			s.heard(i, 200)
		}
	}
	won := []string{"term 1", "acquire"}

	s := start(t, cfg)
	follow(s)
	s.to(300 * ms)
	prove(s) // the next advertisement may still be on its way
	s.to(5 * time.Second)
	s.expect()
	// An answer after a time without one: the wire has to be heard first, and for
	// all of that time the witness.
	prove(s)
	s.to(6 * time.Second)
	s.expect()
	proveTo(s, 6800*ms)
	s.expect()
	proveTo(s, 7*time.Second)
	s.expect(won...)

	s = start(t, cfg)
	follow(s)
	s.to(300 * ms)
	prove(s)
	s.to(400 * ms)
	prove(s)
	s.to(902 * ms)
	s.expect()
	s.to(903 * ms)
	s.expect(won...)

	// The master resigns.
	s = start(t, cfg)
	follow(s)
	for i := range s.g.routers {
		s.heard(i, 0)
	}
	s.to(500 * ms)
	s.expect(won...)

	// The master hands over and is silent meanwhile.
	s = start(t, cfg)
	follow(s)
	s.to(600 * ms)
	s.do(Event{Kind: EvTakeover, Request: 1})
	s.expect("reply <nil>", "term 1", "acquire")
}
