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
	s.unread(func(m, n *node) {
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
	})
}

// TestExMasterForgets: sasyncd of an ex-master dies before it has raised its counters,
// and its successor dies before the new process has heard from it. No number is sent
// twice.
func TestExMasterForgets(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2, (*sim).exMasterForgets) })
	}
}

func (s *sim) exMasterForgets() {
	s.unread(func(m, n *node) {
		s.note("sasyncd of node %d is killed", m.i)
		m.killSasyncd()
		n.breakReadings(false)
		next := s.master()
		s.pass(time.Duration(s.rng.IntN(2000)) * time.Millisecond)
		if next == m || next == nil {
			m.startSasyncd()
			s.pass(8 * time.Second)
			return
		}
		s.note("node %d loses its power", next.i)
		next.powerCut()
		m.startSasyncd()
		s.pass(time.Duration(12+s.rng.IntN(4)) * time.Second) // alone
		next.startCarpd()
		next.startSasyncd()
		s.pass(8 * time.Second)
	})
}
