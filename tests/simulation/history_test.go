package simulation

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	histories = flag.Int("histories", 25, "how many seeded histories to play")
	firstSeed = flag.Uint64("seed", 1, "seed of the first history")
)

// TestOneFaultAtATime plays histories in which at most one node is in trouble
// at a time: nothing may be lost, repeated or refused.
func TestOneFaultAtATime(t *testing.T) {
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, seed, 2+int(seed%2), (*sim).oneFault)
		})
	}
}

func (s *sim) oneFault() {
	s.pass(12 * time.Second) // a cold boot
	for range 2 + s.rng.IntN(6) {
		s.add()
	}
	s.pass(3 * time.Second)
	for range 12 {
		if s.t.Failed() {
			return
		}
		switch s.rng.IntN(4) {
		case 0:
			s.add()
		default:
			s.rekey()
		}
		s.pass(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		switch f := s.rng.IntN(7); f {
		case 0:
			s.note("sasyncd of node %d restarts", n.i)
			away := s.busy
			if n == s.master() { // what it negotiates now nobody hears
				away = s.pass
			}
			n.killSasyncd()
			away(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
			n.startSasyncd()
		case 1:
			s.note("node %d loses its power", n.i)
			n.powerCut()
			s.pass(3 * time.Second)
			s.busy(time.Duration(s.rng.IntN(5000)) * time.Millisecond)
			n.startCarpd()
			n.startSasyncd()
		case 2:
			s.note("carpd of node %d restarts", n.i)
			n.killCarpd()
			s.pass(time.Duration(3000+s.rng.IntN(3000)) * time.Millisecond)
			n.startCarpd()
		case 3:
			j := (n.i + 1) % len(s.nodes)
			s.note("sync link %d-%d is cut", n.i, j)
			s.syncCut[pairOf(n.i, j)] = true
			s.cut(n.i, j)
			s.busy(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
			s.syncCut[pairOf(n.i, j)] = false
		case 4, 5, 6:
			if m := s.master(); m != nil {
				if s.rng.IntN(3) == 0 {
					s.burst(m, 2*margin)
				}
				s.note("node %d hands over", m.i)
				m.Resign("", "operator")
			}
		}
		s.pass(8 * time.Second) // long enough for the survivors to be whole again
	}
	s.quiet()
	if !s.t.Failed() && s.sent == 0 {
		s.t.Error("no traffic at all")
	}
}

// TestSplits plays histories in which the gateways cannot hear each other's
// advertisements, with and without the sync link, so that two of them may
// send. Once the split has healed there must be one master again, which sends
// numbers that nobody has used and that the remote end accepts.
func TestSplits(t *testing.T) {
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, seed, 2+int(seed%2), (*sim).splits)
		})
	}
}

func (s *sim) splits() {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	s.pass(3 * time.Second)
	for range 3 {
		if s.t.Failed() {
			return
		}
		i := s.rng.IntN(len(s.nodes))
		j := (i + 1) % len(s.nodes)
		whole := s.rng.IntN(3) > 0
		s.note("%d and %d do not hear each other, sync link cut: %v", i, j, whole)
		s.apart = true
		for k := range s.nodes {
			if k == i {
				continue
			}
			s.lan.set(i, k, true)
			if whole {
				s.syncCut[pairOf(i, k)] = true
				s.cut(i, k)
			}
		}
		s.pass(time.Duration(2000+s.rng.IntN(20000)) * time.Millisecond)
		if s.rng.IntN(3) == 0 {
			n := s.nodes[s.rng.IntN(len(s.nodes))]
			s.note("sasyncd of node %d restarts during the split", n.i)
			n.killSasyncd()
			s.pass(time.Second)
			n.startSasyncd()
			s.pass(5 * time.Second)
		}
		s.quiet()
	}
}
