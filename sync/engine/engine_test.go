package engine

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// pair boots two nodes, node 0 MASTER with n tunnels, and joins them.
func pair(t *testing.T, n int) (*world, *rand.Rand) {
	w := newWorld(t, 2)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		w.nodes[0].kernel.foreign(tunnel(r, i, i%3 == 0)...)
	}
	w.nodes[0].boot(100)
	w.nodes[1].boot(101)
	w.nodes[0].role(wire.RoleMaster, 1)
	w.nodes[1].role(wire.RoleBackup, 1)
	w.connect(0, 1)
	time.Sleep(time.Second)
	return w, r
}

func (w *world) stop() {
	for _, n := range w.nodes {
		n.kill()
	}
	time.Sleep(time.Second)
}

func (w *world) equal(when string) {
	w.t.Helper()
	a, b := w.nodes[0].kernel.text(), w.nodes[1].kernel.text()
	if a != b {
		w.t.Errorf("%s: tables differ\n--- 0\n%s\n--- 1\n%s", when, a, b)
	}
}

func TestSnapshotDeltasAndAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 200)
		defer w.stop()
		w.equal("after the snapshot")
		if s := w.nodes[1].status(); !s.InSync || s.SAs != 400 || s.Policies != 600 {
			t.Errorf("standby: %+v", s)
		}
		// A new tunnel arrives as a delta, at once.
		w.nodes[0].kernel.foreign(tunnel(r, 40, false)[0])
		fresh := tunnel(r, 240, false)
		w.nodes[0].kernel.foreign(fresh[0], fresh[1])
		time.Sleep(20 * time.Millisecond)
		w.equal("20 ms after an add")
		// A rekey: the old SA's deletion passes at once, as the new one covers it.
		next := *fresh[0].SA
		next.Key.SPI++
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &next}, sadb.Op{Kind: sadb.OpDeleteSA, SA: fresh[0].SA})
		time.Sleep(20 * time.Millisecond)
		w.equal("20 ms after a rekey")
		// A manual deletion on the standby heals and is counted.
		w.nodes[1].kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: &next})
		time.Sleep(time.Second)
		w.equal("after a manual deletion on the standby")
		if s, _ := w.nodes[1].engine.Status(context.Background()); s.Counts.Repairs != 1 {
			t.Errorf("repairs: %d, want 1", s.Counts.Repairs)
		}
	})
}

func TestDeletionThatUncoversIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		ops := tunnel(r, 77, false)
		w.nodes[0].kernel.foreign(ops...)
		time.Sleep(100 * time.Millisecond)
		before := w.nodes[1].kernel.text()
		// A dying IKE daemon empties the master's kernel, then the node goes.
		for _, op := range ops {
			kind := sadb.OpDeleteSA
			if op.Policy != nil {
				kind = sadb.OpDeletePolicy
			}
			w.nodes[0].kernel.foreign(sadb.Op{Kind: kind, SA: op.SA, Policy: op.Policy})
		}
		time.Sleep(1500 * time.Millisecond)
		if w.nodes[1].kernel.text() != before {
			t.Error("standby was emptied within the hold time")
		}
		w.nodes[0].role(wire.RoleBackup, 1)
		time.Sleep(5 * time.Second)
		if w.nodes[1].kernel.text() != before {
			t.Error("standby was emptied although the node left MASTER")
		}
		// The same on a healthy master is forwarded after the hold time.
		w.nodes[0].role(wire.RoleMaster, 2)
		time.Sleep(6 * time.Second)
		w.equal("after the deletion was forwarded")
	})
}

// TestFailoversNeverRepeatANumber moves mastership to and fro under traffic,
// by crash and by hand-over, and checks every number that any node used.
func TestFailoversNeverRepeatANumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 4)
		defer w.stop()
		r := rand.New(rand.NewPCG(7, 7))
		highest := make(map[sadb.SAKey]uint64)
		use := func(n *simNode, packets uint64) {
			t.Helper()
			for k, span := range n.kernel.traffic(packets) {
				if span[0] <= highest[k] {
					t.Errorf("node %d sends %d on %s, %d was sent before", n.i, span[0], k, highest[k])
				}
				if span[1]-highest[k] >= 1<<31 {
					t.Errorf("node %d jumps to %d on %s from %d", n.i, span[1], k, highest[k])
				}
				highest[k] = span[1]
			}
		}
		master := 0
		for term := uint64(2); term < 40; term++ {
			for range r.IntN(40) {
				use(w.nodes[master], uint64(r.IntN(20000)))
				time.Sleep(100 * time.Millisecond)
			}
			old, next := w.nodes[master], w.nodes[1-master]
			if r.IntN(2) == 0 { // the power goes, then comes back with the kernel's tables
				old.kill()
				use(old, uint64(r.IntN(20000))) // what left before the other noticed
				time.Sleep(750 * time.Millisecond)
				next.role(wire.RoleMaster, term)
				use(next, 5000)
				old.boot(term * 10)
				old.role(wire.RoleBackup, term)
				w.connect(0, 1)
			} else {
				old.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: term - 1}
				time.Sleep(100 * time.Millisecond)
				if got := next.elector.takeovers(); len(got) != 1 || got[0] != term-1 {
					t.Fatalf("term %d: successor was told %v, want one takeover of term %d", term, got, term-1)
				}
				old.role(wire.RoleBackup, term-1)
				next.role(wire.RoleMaster, term)
			}
			master = 1 - master
			time.Sleep(time.Duration(1000+r.IntN(1500)) * time.Millisecond)
			w.equal("after a failover")
			if s := w.nodes[1-master].status(); !s.InSync {
				t.Fatalf("term %d: standby is not in sync: %s", term, s.Why)
			}
		}
		for _, n := range w.nodes {
			for _, l := range n.kernel.lowered {
				t.Errorf("node %d lowered a counter: %s", n.i, l)
			}
		}
	})
}
