package simulation

import (
	"fmt"
	"testing"
	"time"
)

// TestSasyncdStaysDead kills sasyncd on the MASTER for good, at any moment. A
// standby that was complete then is so for a while, and the MASTER hands over
// within it: later nobody could take over before it has been alone for long.
func TestSasyncdStaysDead(t *testing.T) {
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).sasyncdStaysDead) })
	}
}

func (s *sim) sasyncdStaysDead() {
	s.pass(12 * time.Second)
	s.add()
	s.pass(3*time.Second + time.Duration(s.rng.IntN(1000))*time.Millisecond)
	old := s.master()
	if old == nil {
		s.t.Fatal("no master")
	}
	s.note("sasyncd of node %d dies for good", old.i)
	old.killSasyncd()
	var longest, gap time.Duration
	const look = 20 * time.Millisecond
	for range int(30 * time.Second / look) {
		s.pass(look)
		serves := false
		for _, n := range s.nodes {
			serves = serves || n.sends()
		}
		if gap += look; serves {
			gap = 0
		}
		longest = max(longest, gap)
	}
	if m := s.master(); m == nil || m == old {
		s.t.Errorf("seed %d: nobody has taken over", s.seed)
	}
	if longest > 500*time.Millisecond {
		s.t.Errorf("seed %d: nobody was MASTER for %v", s.seed, longest)
	}
	old.startSasyncd()
	s.pass(10 * time.Second)
}
