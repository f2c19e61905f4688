package simulation

import (
	"fmt"
	"testing"
	"time"
)

// TestNegotiatedAfresh: after each takeover the IKE daemon of the new master
// negotiates every tunnel beside the replicated SAs. Those carry the traffic
// meanwhile, and then go: what remains everywhere is one pair for each tunnel.
func TestNegotiatedAfresh(t *testing.T) {
	for i := range 5 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, seed, 2+int(seed%2), (*sim).negotiatedAfresh)
		})
	}
}

func (s *sim) negotiatedAfresh() {
	s.pass(12 * time.Second)
	for range 4 {
		s.add()
	}
	s.pass(3 * time.Second)
	for range 3 {
		if s.t.Failed() {
			return
		}
		m := s.master()
		if m == nil {
			s.t.Error("there is no single master")
			return
		}
		if s.rng.IntN(2) == 0 {
			s.note("node %d loses its power", m.i)
			m.powerCut()
			s.pass(8 * time.Second)
			m.startCarpd()
			m.startSasyncd()
		} else {
			s.note("node %d hands over", m.i)
			m.Resign("", "operator")
		}
		s.pass(8 * time.Second)
		next := s.master()
		if next == nil || next == m {
			s.t.Errorf("seed %d: nobody took over from node %d", s.seed, m.i)
			return
		}
		s.note("node %d negotiates", next.i)
		s.negotiate(next)
		s.pass(15 * time.Second)
		if snap, err := next.kernel.Dump(s.t.Context()); err != nil || len(snap.SAs) != 4*len(s.tunnels) {
			s.t.Errorf("seed %d: %d SAs soon after the negotiation of %d tunnels, want both generations; %v", s.seed,
				len(snap.SAs), len(s.tunnels), err)
		}
		s.pass(30 * time.Second)
		for _, n := range s.nodes {
			snap, err := n.kernel.Dump(s.t.Context())
			if err != nil || len(snap.SAs) != 2*len(s.tunnels) {
				s.t.Errorf("seed %d: node %d has %d SAs for %d tunnels, want one pair for each; %v", s.seed, n.i,
					len(snap.SAs), len(s.tunnels), err)
			}
		}
	}
	s.quiet()
}
