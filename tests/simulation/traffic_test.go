package simulation

import (
	"fmt"
	"testing"
	"time"
)

// TestPreferTraffic plays splits of two gateways that agreed on `when-split
// prefer-traffic`: whether the sync link lets them compare or the
// advertisements do when they are heard again, the one stays to which the
// remote ends send, and the other does not contend while it is alive.
func TestPreferTraffic(t *testing.T) {
	for i := range 2 * *histories / 3 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2, (*sim).preferTraffic) })
	}
}

func (s *sim) preferTraffic() {
	for _, n := range s.nodes {
		n.killCarpd()
		n.prefer = true
		n.startCarpd()
	}
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	s.pass(3 * time.Second)
	for range 3 {
		if s.t.Failed() {
			return
		}
		s.answers = s.rng.IntN(2)
		whole := s.rng.IntN(2) == 0
		s.note("split, traffic goes to %d, sync link cut: %v", s.answers, whole)
		s.apart = true
		s.lan.set(0, 1, true)
		if whole {
			s.syncCut[pairOf(0, 1)] = true
			s.cut(0, 1)
		}
		s.pass(time.Duration(15+s.rng.IntN(10)) * time.Second)
		favoured := s.nodes[s.answers]
		if !whole {
			if s.master() != favoured {
				s.t.Errorf("%s: seed %d: the sync link is there, and node %d is not the only master although it gets "+
					"the traffic", time.Since(s.start), s.seed, s.answers)
				return
			}
			// The other one stays away for as long as that one is alive.
			for range 20 {
				s.pass(time.Second)
				if s.master() != favoured {
					s.t.Errorf("%s: seed %d: the node that yielded contends again", time.Since(s.start), s.seed)
					return
				}
			}
		}
		s.quiet()
		if !s.t.Failed() && s.master() != favoured {
			s.t.Errorf("%s: seed %d: node %d got the traffic and is not master after the split", time.Since(s.start),
				s.seed, s.answers)
		}
	}
	if s.back == 0 {
		s.t.Error("no traffic came back")
	}
}
