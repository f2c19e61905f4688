package engine

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// fitness is what the node's election says.
func (n *simNode) fitness(demotion int, willing bool) {
	n.elector.events <- ElectorEvent{Kind: ElectorFitness, Group: simGroup, Demotion: demotion, Willing: willing}
	time.Sleep(10 * time.Millisecond) // the way to the others
}

// demotions are what the election of node i knows of the others'.
func (w *world) demotions(t *testing.T, i int, told bool, least, willing int) {
	t.Helper()
	if r := w.ready(i); !r.PeerReady || r.PeerTold != told || told &&
		(r.PeerDemotion != least || r.WillingDemotion != willing) {
		t.Errorf("node %d: %+v, want told %v, %d and %d", i, r, told, least, willing)
	}
}

// TestElectionLearnsDemotions: how much the members are demoted, when it changes
// and when a session comes up. Until one tells it counts as demoted as can be.
func TestElectionLearnsDemotions(t *testing.T) {
	const most = wire.MaxDemotion
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 5)
		defer w.stop()
		time.Sleep(5 * time.Second)
		w.demotions(t, 0, true, most, most)
		w.nodes[0].fitness(2, true)
		w.demotions(t, 0, true, most, most) // its own is none of this
		w.nodes[1].fitness(3, true)
		w.demotions(t, 0, true, 3, 3)
		w.nodes[1].fitness(0, true)
		w.demotions(t, 0, true, 0, 0)
		w.nodes[1].fitness(0, false)
		w.demotions(t, 0, true, 0, most)
		// Only a MASTER may do something about it.
		w.demotions(t, 1, true, 2, most)

		// What was told in a session goes with it, and comes with the next.
		w.nodes[1].fitness(4, true)
		w.cut(0, 1)
		time.Sleep(time.Second)
		if w.ready(0).PeerReady {
			t.Error("ready without a session")
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		w.demotions(t, 0, true, 4, 4)

		// Nobody takes over where the election has died.
		w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorLost, Reason: "killed"}
		time.Sleep(10 * time.Millisecond)
		w.demotions(t, 0, true, 4, most)
		w.nodes[1].fitness(4, true)
		w.demotions(t, 0, true, 4, 4)
	})
}

// TestOldMembersTellNothing: they get no message that they do not know, and the
// election learns that it does not know.
func TestOldMembersTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.caps = wire.CapCompare | wire.CapSuccession
		w.lose = func(_ int, m wire.Message) bool {
			if m.Type() == wire.TypeFitness {
				t.Error("a member is told what it does not know")
			}
			return false
		}
		defer w.stop()
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		w.nodes[0].role(wire.RoleMaster, 1)
		w.nodes[1].role(wire.RoleBackup, 1)
		w.nodes[0].fitness(1, true)
		w.connect(0, 1)
		time.Sleep(5 * time.Second)
		w.nodes[1].fitness(2, true)
		w.demotions(t, 0, false, 0, 0)
	})
}

// TestHandOverGoesToTheLeastDemoted of several that hold everything, else the new
// MASTER would have to hand over again.
func TestHandOverGoesToTheLeastDemoted(t *testing.T) {
	for _, tc := range []struct {
		name     string
		own      int
		demotion [2]int
		willing  [2]bool
		slow     int // which one does not answer any more, 0 none
		want     int // 0: whoever answers first
		order    []int
	}{
		{"equal", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 0, nil},
		{"the second is better", 2, [2]int{1, 0}, [2]bool{true, true}, 0, 2, nil},
		{"the first is better", 2, [2]int{0, 1}, [2]bool{true, true}, 0, 1, nil},
		{"the best gave it away", 2, [2]int{0, 1}, [2]bool{false, true}, 0, 2, nil},
		{"the only better one gave it away", 2, [2]int{3, 1}, [2]bool{true, false}, 0, 2, nil},
		{"the best does not answer", 2, [2]int{1, 0}, [2]bool{true, true}, 2, 1, nil},
		{"the election would choose the first", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 1, []int{1, 2}},
		{"the election would choose the second", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 2, []int{2, 1}},
		{"only the first could serve", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 1, []int{1}},
		{"only the second could serve", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 2, []int{2}},
		{"the first choice does not answer", 0, [2]int{0, 0}, [2]bool{true, true}, 2, 1, []int{2, 1}},
		{"nobody could serve", 0, [2]int{0, 0}, [2]bool{true, true}, 0, 0, []int{}},
		{"demotions come first", 2, [2]int{0, 1}, [2]bool{true, true}, 0, 1, []int{2, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				defer w.stop()
				var deaf atomic.Int32
				w.lose = func(from int, m wire.Message) bool {
					d := int(deaf.Load())
					return d > 0 && from == d && m.Type() == wire.TypeAck
				}
				for i, n := range w.nodes {
					n.boot(uint64(100 + i))
					n.role(map[bool]wire.Role{true: wire.RoleMaster, false: wire.RoleBackup}[i == 0], 1)
				}
				w.connect(0, 1)
				w.connect(0, 2)
				w.connect(1, 2)
				time.Sleep(5 * time.Second)
				w.nodes[0].fitness(tc.own, true)
				for i := range 2 {
					w.nodes[i+1].fitness(tc.demotion[i], tc.willing[i])
				}
				var order []string
				for _, i := range tc.order {
					order = append(order, fmt.Sprintf("10.9.0.%d", i+1))
				}
				if err := w.nodes[0].engine.Succession(t.Context(), map[string][]string{simGroup: order}); err != nil {
					t.Fatal(err)
				}
				deaf.Store(int32(tc.slow))
				w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup,
					Term: 1}
				time.Sleep(200 * time.Millisecond)
				one, two := len(w.nodes[1].elector.takeovers()), len(w.nodes[2].elector.takeovers())
				if one+two != 1 || tc.want == 1 && one == 0 || tc.want == 2 && two == 0 {
					t.Errorf("%d and %d were told to take over, want node %d", one, two, tc.want)
				}
			})
		})
	}
}
