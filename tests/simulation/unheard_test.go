package simulation

import (
	"fmt"
	"testing"
	"time"
)

// TestUnheardSuccessor: readings of a kernel's tables fail, now on the MASTER, now on
// a standby, while mastership moves, and the successor dies before the ex-master has
// heard from it, or before it has read its own counters. No number is sent twice.
func TestUnheardSuccessor(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).unheardSuccessor) })
	}
}

func (s *sim) unheardSuccessor() {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	for range 4 {
		s.pass(4 * time.Second) // the standbys know the rates
		m := s.master()
		if m == nil || s.t.Failed() {
			return
		}
		n := m
		if s.rng.IntN(3) == 0 {
			n = s.nodes[s.rng.IntN(len(s.nodes))]
		}
		n.breakReadings(true)
		s.pass(time.Duration(s.rng.IntN(1000)) * time.Millisecond)
		s.note("node %d hands over", m.i)
		m.Resign("", "operator")
		s.pass(time.Duration(500+s.rng.IntN(2000)) * time.Millisecond)
		var dead *node
		if next := s.master(); next != nil && next != m && s.rng.IntN(2) == 0 {
			s.note("node %d loses its power", next.i)
			next.powerCut()
			dead = next
			s.pass(time.Duration(s.rng.IntN(2000)) * time.Millisecond)
		}
		n.breakReadings(false)
		s.pass(8 * time.Second)
		if dead != nil {
			dead.startCarpd()
			dead.startSasyncd()
			s.pass(8 * time.Second)
		}
		s.rekey()
	}
	s.quiet()
}
