package simulation

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// sighting is what a node heard by way of others at a time.
type sighting struct {
	at   time.Time
	list []engine.Hint
}

// hints gives sasyncd what its members are said to be by way of others.
func (n *node) hints(string) []engine.Hint {
	x := n.seen.Load()
	if x == nil {
		return nil
	}
	list := slices.Clone(x.list)
	for i := range list {
		list[i].Age = time.Since(x.at)
	}
	return list
}

// passOn has the nodes that have sessions with two others tell each of the other.
func (s *sim) passOn() {
	if !s.gossip {
		return
	}
	for b, n := range s.nodes {
		x := &sighting{at: time.Now()}
		for a := range s.nodes {
			for c := range s.nodes {
				if a == b || a == c || b == c || s.nodes[c].engine == nil || s.sessions[pairOf(a, b)] == nil ||
					s.sessions[pairOf(a, c)] == nil {
					continue
				}
				for _, g := range s.nodes[c].engine.Groups() {
					x.list = append(x.list, engine.Hint{Node: wire.NodeID{byte(c + 1)}, Role: g.Role})
				}
			}
		}
		if len(x.list) > 0 {
			n.seen.Store(x)
		}
	}
}

// TestCutOffStandby cuts every link between a standby and the MASTER, the sync link
// first, so that the standby is not in sync when the advertisements stop. The third
// gateway hears both, and passes on that there is a MASTER: the standby does not
// take over, however long that lasts, and does when the MASTER is really gone.
func TestCutOffStandby(t *testing.T) {
	for i := range (*histories + 3) / 4 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 3, (*sim).cutOffStandby) })
	}
}

func (s *sim) cutOffStandby() {
	s.gossip = true
	s.pass(15 * time.Second)
	for range 3 {
		s.add()
	}
	s.pass(3 * time.Second)
	m := s.master()
	if m == nil {
		s.t.Fatal("no master")
	}
	standbys := []*node{s.nodes[(m.i+1)%3], s.nodes[(m.i+2)%3]}
	lone, other := standbys[s.rng.IntN(2)], (*node)(nil)
	for _, n := range standbys {
		if n != lone {
			other = n
		}
	}
	s.note("node %d and the master %d are cut off, node %d hears both", lone.i, m.i, other.i)
	s.syncCut[pairOf(lone.i, m.i)] = true
	s.cut(lone.i, m.i)
	s.pass(15 * time.Second) // complete when contact was lost: that lasts for 10 s
	if lone.status().InSync {
		s.t.Errorf("seed %d: node %d is in sync without a session to the master", s.seed, lone.i)
	}
	s.lan.set(lone.i, m.i, true)
	was := s.masterships
	s.pass(time.Duration(60+s.rng.IntN(60)) * time.Second)
	if s.masterships != was || s.master() != m {
		s.t.Errorf("seed %d: %d masterships while the master was there", s.seed, s.masterships-was)
	}
	s.note("the master %d loses its power", m.i)
	m.powerCut()
	s.pass(30 * time.Second)
	if now := s.master(); now == nil || now == m {
		s.t.Errorf("seed %d: nobody has taken over from the dead", s.seed)
	}
	s.quiet()
}
