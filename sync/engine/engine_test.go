package engine

import (
	"context"
	"math/rand/v2"
	"net/netip"
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
		// A manual deletion on the standby shows, heals and is counted.
		if d, err := w.nodes[1].engine.Diff(t.Context()); err != nil || len(d) != 0 {
			t.Errorf("differences of an equal standby: %v %v", d, err)
		}
		w.nodes[1].kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: &next})
		if d, err := w.nodes[1].engine.Diff(t.Context()); err != nil || len(d) != 1 || d[0].How != "missing" || d[0].Item != next.Key.String() {
			t.Errorf("differences after a manual deletion: %v %v", d, err)
		}
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

// TestShortCutResumes cuts the session of a pair, changes things meanwhile and
// expects the journal, not a second snapshot, to carry them over.
func TestShortCutResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 20)
		defer w.stop()
		sent := w.counts(0).SnapshotsSent
		w.cut(0, 1)
		extra := tunnel(r, 100, false)
		w.nodes[0].kernel.foreign(extra...)
		next := *extra[0].SA
		next.Key.SPI++
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &next}, sadb.Op{Kind: sadb.OpDeleteSA, SA: extra[0].SA})
		time.Sleep(3 * time.Second)
		ops := w.nodes[1].kernel.count()
		w.connect(0, 1)
		time.Sleep(50 * time.Millisecond)
		w.equal("after the cut")
		if c := w.counts(0); c.Resumes != 1 || c.SnapshotsSent != sent {
			t.Errorf("resumed %d times with %d more snapshots, want 1 and 0", c.Resumes, c.SnapshotsSent-sent)
		}
		if n := w.nodes[1].kernel.count() - ops; n > 10 {
			t.Errorf("%d kernel operations for 7 changes", n)
		}
	})
}

func (w *world) counts(i int) Counts {
	s, err := w.nodes[i].engine.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Counts
}

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

// TestRestartsTouchNothing restarts sasyncd in either role: kernels that are
// equal already stay as they are.
func TestRestartsTouchNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 50)
		defer w.stop()
		time.Sleep(3 * time.Second)
		for i, role := range []wire.Role{wire.RoleMaster, wire.RoleBackup} {
			ops := [2]int{w.nodes[0].kernel.count(), w.nodes[1].kernel.count()}
			n := w.nodes[i]
			n.kill()
			n.boot(uint64(500 + i))
			n.role(role, 1)
			w.connect(0, 1)
			time.Sleep(5 * time.Second)
			w.equal("after a restart")
			for j, before := range ops {
				if d := w.nodes[j].kernel.count() - before; d != 0 {
					t.Errorf("restart of node %d: %d kernel operations on node %d, want none", i, d, j)
				}
			}
			if s := w.nodes[1].status(); !s.InSync {
				t.Errorf("restart of node %d: standby is not in sync: %s", i, s.Why)
			}
		}
	})
}

// TestSnapshotCutShortDeletesNothing: a standby that holds other SAs than the
// master keeps them all until a whole snapshot is there.
func TestSnapshotCutShortDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		r := rand.New(rand.NewPCG(5, 5))
		for i := range 240 {
			w.nodes[0].kernel.foreign(tunnel(r, i, false)...)
		}
		old := tunnel(r, 250, false) // an ex-master's own, which the master lacks
		w.nodes[1].kernel.foreign(old...)
		w.nodes[0].boot(1)
		w.nodes[1].boot(2)
		w.nodes[0].role(wire.RoleMaster, 5)
		w.nodes[1].role(wire.RoleBackup, 5)
		time.Sleep(100 * time.Millisecond)
		for range 5 {
			w.connect(0, 1)
			time.Sleep(400 * time.Microsecond) // in the middle of the snapshot
			w.cut(0, 1)
			if s := w.nodes[1].status(); s.InSync {
				break
			}
			for _, op := range old {
				if op.SA != nil && !w.nodes[1].kernel.has(op.SA.Key) {
					t.Fatalf("%s was deleted before the snapshot was complete", op.SA.Key)
				}
			}
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		w.equal("after a whole snapshot")
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

// TestClockStep steps both wall clocks. The master's kernel then reports wrong
// ages and the standby's computes with wrong dates; neither may shorten a
// lifetime on the standby.
func TestClockStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 2)
		defer w.stop()
		time.Sleep(10 * time.Second)
		for _, step := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
			for _, n := range w.nodes {
				n.kernel.step(step)
				n.wall.Add(int64(step))
			}
			time.Sleep(3 * time.Second)
			w.nodes[0].kernel.traffic(10)
			time.Sleep(3 * time.Second)
			elapsed := uint64(time.Since(w.nodes[0].kernel.born) / time.Second)
			snap, _ := w.nodes[1].kernel.Dump(t.Context())
			for _, sa := range snap.SAs {
				if sa.Age+2 < elapsed || sa.Age > elapsed+2 {
					t.Errorf("step %v: age of %s on the standby is %d s, want %d", step, sa.Key, int64(sa.Age), elapsed)
				}
			}
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

// TestDigestRepairs damages what a standby believes and what its kernel has,
// as only a defect could, and expects the audit of the stream to heal it. A
// deletion that the master holds back must not look like damage.
func TestDigestRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 30)
		defer w.stop()
		n := w.nodes[1]
		stray := tunnel(r, 200, false)
		_ = n.engine.do(t.Context(), func() {
			rcv := n.engine.order[0].rcv
			lost := 0
			for k, x := range rcv.want {
				if lost++; lost > 5 {
					break
				}
				rcv.forgetSA(k)
				_ = x
			}
			for _, op := range stray[:2] {
				rcv.wants(op.SA.Key, &wantSA{sa: op.SA, core: coreOf(op.SA), limits: limitsOf(standbyLimits(op.SA.Limits)), handle: 10000})
			}
		})
		time.Sleep(12 * time.Second)
		w.equal("after the repair")
		if c := w.counts(1); c.DigestMismatches == 0 {
			t.Error("the damage was not noticed")
		}
		before := w.counts(1).DigestMismatches
		held := w.nodes[0].kernel
		held.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: held.sas[held.order[0]]})
		time.Sleep(12 * time.Second)
		w.equal("after a deletion that was held back")
		if c := w.counts(1); c.DigestMismatches != before {
			t.Error("a deletion that was held back looked like damage")
		}
	})
}

// TestFourStandbys: what one master publishes is in four kernels, and stays
// there through a change of master.
func TestFourStandbys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		defer w.stop()
		r := rand.New(rand.NewPCG(4, 4))
		for i := range 20 {
			w.nodes[0].kernel.foreign(tunnel(r, i, i%2 == 0)...)
		}
		for i, n := range w.nodes {
			n.boot(uint64(i + 1))
			n.role(wire.RoleBackup, 0)
		}
		for i := range w.nodes {
			for j := range i {
				w.connect(i, j)
			}
		}
		w.nodes[0].role(wire.RoleMaster, 1)
		same := func(when string) {
			t.Helper()
			for _, n := range w.nodes[1:] {
				if n.kernel.text() != w.nodes[0].kernel.text() {
					t.Errorf("%s: node %d differs", when, n.i)
				}
				if s := n.status(); s.Role == "BACKUP" && !s.InSync {
					t.Errorf("%s: node %d is not in sync: %s", when, n.i, s.Why)
				}
			}
		}
		time.Sleep(2 * time.Second)
		same("after the snapshots")
		w.nodes[0].role(wire.RoleBackup, 1)
		w.nodes[3].role(wire.RoleMaster, 2)
		time.Sleep(2 * time.Second)
		w.nodes[3].kernel.foreign(tunnel(r, 50, false)...)
		time.Sleep(time.Second)
		same("under another master")
	})
}

// TestActiveActive: two groups with masters of their own on two nodes, and
// IPsec that is neither's. Each group is replicated one way; what ends on a
// node's own address is never touched.
func TestActiveActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.more = []GroupConfig{{Name: "carp2"}}
		defer w.stop()
		r := rand.New(rand.NewPCG(11, 11))
		second := []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		mine := tunnel(r, 1, false)
		theirs := move(tunnel(r, 3, false), simVIPs[0], second[0])
		local := move(tunnel(r, 5, false), simVIPs[0], netip.MustParseAddr("192.0.2.11"))
		w.nodes[0].kernel.foreign(append(mine, local...)...)
		w.nodes[1].kernel.foreign(theirs...)
		for i, n := range w.nodes {
			n.boot(uint64(i))
			roles := []wire.Role{wire.RoleMaster, wire.RoleBackup}
			n.role(roles[i], 1)
			n.elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: roles[1-i], Term: 1, VIPs: second}
		}
		w.connect(0, 1)
		time.Sleep(3 * time.Second)
		for _, x := range []struct {
			name string
			ops  []sadb.Op
			on   [2]bool
		}{{"first group", mine, [2]bool{true, true}}, {"second group", theirs, [2]bool{true, true}}, {"node-local", local, [2]bool{true, false}}} {
			for i, n := range w.nodes {
				for _, op := range x.ops {
					if op.SA != nil && n.kernel.has(op.SA.Key) != x.on[i] {
						t.Errorf("%s: node %d has %s: %v, want %v", x.name, i, op.SA.Key, !x.on[i], x.on[i])
					}
				}
			}
		}
		// The second group moves; the first stays where it is.
		before := w.nodes[1].kernel.count()
		w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: wire.RoleBackup, Term: 1, VIPs: second}
		w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: wire.RoleMaster, Term: 2, VIPs: second}
		time.Sleep(3 * time.Second)
		if n := w.nodes[1].kernel.count() - before; n > 8 {
			t.Errorf("%d kernel operations on node 1 for a group of two SAs that moved away", n)
		}
		s, err := w.nodes[0].engine.Status(t.Context())
		if err != nil || s.Groups[0].Role != "MASTER" || s.Groups[1].Role != "MASTER" || len(s.Groups[1].Standbys) != 1 || !s.Groups[1].Standbys[0].Complete {
			t.Errorf("node 0: %+v %v", s.Groups, err)
		}
	})
}

// move gives a tunnel another local end.
func move(ops []sadb.Op, from, to netip.Addr) []sadb.Op {
	for _, op := range ops {
		if op.SA != nil {
			if op.SA.Src == from {
				op.SA.Src = to
			} else {
				op.SA.Key.Dst = to
			}
		}
		if op.Policy != nil {
			for i := range op.Policy.Templates {
				x := &op.Policy.Templates[i]
				if x.Src == from {
					x.Src = to
				} else {
					x.Dst = to
				}
			}
		}
	}
	return ops
}
