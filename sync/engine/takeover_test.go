package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestPrepareIsConstantWork checks that nothing is done to the kernel between
// the election's question and the answer, however many tunnels there are, and
// that what the standby withheld is restored afterwards.
func TestPrepareIsConstantWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 200)
		defer w.stop()
		w.nodes[0].kill()
		n := w.nodes[1]
		ops := n.kernel.count()
		n.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
		synctest.Wait()
		n.elector.mu.Lock()
		prepared := len(n.elector.prepared)
		n.elector.mu.Unlock()
		if prepared != 1 || n.kernel.count() != ops {
			t.Errorf("prepared %d times with %d kernel operations, want 1 and 0", prepared, n.kernel.count()-ops)
		}
		n.role(wire.RoleMaster, 2)
		time.Sleep(2 * time.Second)
		snap, _ := n.kernel.Dump(t.Context())
		for _, sa := range snap.SAs {
			if sa.Limits.SoftAdd != 3000 || sa.Limits.HardAdd != 3600 {
				t.Fatalf("limits of %s not restored: %+v", sa.Key, sa.Limits)
			}
		}
		w.nodes[0].boot(7)
	})
}

// TestColdBootOfAPair: two nodes with nothing are fit at once when they hear
// each other, and not while they do not.
func TestColdBootOfAPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		for i, n := range w.nodes {
			n.boot(uint64(i))
			n.role(wire.RoleBackup, 0)
		}
		time.Sleep(5 * time.Second)
		for _, n := range w.nodes {
			if s := n.status(); s.InSync {
				t.Errorf("node %d is in sync without having heard the other: %s", n.i, s.Why)
			}
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		for _, n := range w.nodes {
			if s := n.status(); !s.InSync {
				t.Errorf("node %d is not in sync although nobody holds more: %s", n.i, s.Why)
			}
		}
	})
}

// TestThirdNodeThatMissedAMaster: a standby that never heard the stream of the
// second master must not send what that one may have sent.
func TestThirdNodeThatMissedAMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		r := rand.New(rand.NewPCG(3, 3))
		for i := range 4 {
			w.nodes[0].kernel.foreign(tunnel(r, i, false)...)
		}
		w.join(10)
		time.Sleep(1500 * time.Millisecond)
		w.nodes[0].kernel.traffic(1000)
		time.Sleep(1500 * time.Millisecond)
		// Node 0 dies; node 1 becomes master, but its link to node 2 is cut
		// before its stream is there. Node 2 knows the term from the election.
		w.nodes[0].kill()
		w.cut(1, 2)
		w.nodes[1].role(wire.RoleMaster, 2)
		w.nodes[2].role(wire.RoleBackup, 2)
		used := w.nodes[1].kernel.traffic(500_000)
		time.Sleep(4 * time.Second)
		w.nodes[1].kill()
		w.nodes[2].role(wire.RoleMaster, 3)
		for k, span := range w.nodes[2].kernel.traffic(1) {
			if span[0] <= used[k][1] {
				t.Errorf("%s: node 2 sends %d, node 1 sent up to %d", k, span[0], used[k][1])
			}
		}
		w.nodes[0].boot(20)
		w.nodes[1].boot(21)
	})
}

// TestTwoMastersOneYields: of two masters that meet, exactly the lower gives up.
func TestTwoMastersOneYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 5)
		defer w.stop()
		w.cut(0, 1)
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(time.Second)
		w.connect(0, 1)
		time.Sleep(100 * time.Millisecond)
		if a, b := w.nodes[0].elector.resignations(), w.nodes[1].elector.resignations(); a == 0 || b != 0 {
			t.Errorf("node 0 (term 1) resigned %d times, node 1 (term 2) %d times; want the lower term to yield", a, b)
		}
		if w.counts(0).SplitsSeen == 0 || w.counts(1).SplitsSeen == 0 {
			t.Error("the split was not counted on both sides")
		}
		w.nodes[0].role(wire.RoleBackup, 2)
		time.Sleep(time.Second)
		w.equal("after the split")
		// Who gave way is elected soon after, and the other one is told at once,
		// although it has just prevailed.
		w.nodes[0].role(wire.RoleMaster, 3)
		time.Sleep(100 * time.Millisecond)
		if b := w.nodes[1].elector.resignations(); b != 1 {
			t.Errorf("node 1 (term 2) resigned %d times beside a master of term 3, want once", b)
		}
	})
}

// TestNoPeerIsReadyDuringASnapshot: what the master's election knows must hold
// should sasyncd die the next moment. It would hand over to a standby that
// cannot take over yet, and nobody would be master.
func TestNoPeerIsReadyDuringASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 200)
		defer w.stop()
		time.Sleep(5 * time.Second)
		if !w.ready(0).PeerReady {
			t.Fatal("a standby that follows is not ready")
		}
		if _, err := w.nodes[1].engine.Resync(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		// The master has the request, the standby no answer yet.
		time.Sleep(300 * time.Microsecond)
		if w.ready(0).PeerReady {
			t.Error("a standby is called ready to which a snapshot is being sent")
		}
		time.Sleep(5 * time.Second)
		if !w.ready(0).PeerReady {
			t.Error("a standby that has the whole snapshot is not ready")
		}
	})
}

// TestWhoCannotBeMasterIsNotWaitedFor: a gateway that has just taken over loses
// an interface before anybody has its tables, while its sync link works. It holds
// more than the old master, and cannot be master: the old one must be able to.
func TestWhoCannotBeMasterIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 20)
		defer w.stop()
		time.Sleep(5 * time.Second)
		w.nodes[0].role(wire.RoleBackup, 6)
		w.cut(0, 1) // what it publishes comes too late
		w.nodes[1].role(wire.RoleMaster, 7)
		time.Sleep(10 * time.Millisecond)
		w.nodes[1].role(wire.RoleInit, 7)
		w.connect(0, 1)
		time.Sleep(100 * time.Millisecond)
		if r := w.ready(0); !r.InSync || r.Behind {
			t.Errorf("the old master may not take over: in sync %v, behind %v, %s", r.InSync, r.Behind, r.Reason)
		}
		// Who has been without contact for long has to wait a while, as somebody
		// who knows that it lacks something.
		time.Sleep(time.Minute)
		if r := w.ready(0); r.InSync || r.Behind {
			t.Errorf("a minute later: in sync %v, behind %v, %s", r.InSync, r.Behind, r.Reason)
		}
		// Once the other can be master again, it is better.
		w.nodes[1].role(wire.RoleBackup, 7)
		time.Sleep(100 * time.Millisecond)
		if r := w.ready(0); r.InSync || !r.Behind {
			t.Errorf("the better one is back: in sync %v, behind %v, %s", r.InSync, r.Behind, r.Reason)
		}
	})
}

// TestOlderNeverOverrides: a master of an older term that comes back is not
// followed.
func TestOlderNeverOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		r := rand.New(rand.NewPCG(6, 6))
		w.nodes[0].kernel.foreign(tunnel(r, 1, false)...)
		w.nodes[2].kernel.foreign(tunnel(r, 2, false)...)
		for i, n := range w.nodes {
			n.boot(uint64(i + 1))
		}
		w.nodes[0].role(wire.RoleMaster, 5)
		w.nodes[1].role(wire.RoleBackup, 5)
		w.connect(0, 1)
		time.Sleep(time.Second)
		want := w.nodes[1].kernel.text()
		w.nodes[2].role(wire.RoleMaster, 3)
		w.connect(1, 2)
		time.Sleep(3 * time.Second)
		w.cut(0, 1)
		time.Sleep(3 * time.Second)
		if w.nodes[1].kernel.text() != want {
			t.Error("a master of term 3 overrode what the master of term 5 had published")
		}
	})
}

// TestSurvivorOfASplitJumpsAboveBoth: the node with the lower counters wins a
// split; what it sends afterwards must be above everything that the other one
// has sent.
func TestSurvivorOfASplitJumpsAboveBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 5)
		defer w.stop()
		w.nodes[0].kernel.traffic(1000)
		time.Sleep(2 * time.Second)
		w.cut(0, 1)
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(100 * time.Millisecond)
		used := w.nodes[1].kernel.traffic(50_000) // ahead by the margin
		w.nodes[0].kernel.traffic(50_000)
		w.nodes[0].role(wire.RoleMaster, 9) // confirmed under a new term on its side of the split
		time.Sleep(1500 * time.Millisecond)
		w.connect(0, 1)
		time.Sleep(10 * time.Millisecond)
		if w.nodes[1].elector.resignations() != 1 || w.nodes[0].elector.resignations() != 0 {
			t.Fatal("the lower term did not yield")
		}
		w.nodes[1].role(wire.RoleBackup, 2)
		time.Sleep(2 * time.Second)
		if w.counts(0).SplitJumps == 0 {
			t.Error("no jump was counted")
		}
		for k, span := range w.nodes[0].kernel.traffic(1) {
			if span[0] <= used[k][1] {
				t.Errorf("%s: the survivor sends %d, the other sent up to %d", k, span[0], used[k][1])
			}
		}
		time.Sleep(2 * time.Second)
		w.equal("after the split")
	})
}
