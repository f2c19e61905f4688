package engine

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
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
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &next}, sadb.Op{Kind: sadb.OpDeleteSA,
			SA: fresh[0].SA})
		time.Sleep(20 * time.Millisecond)
		w.equal("20 ms after a rekey")
		// A manual deletion on the standby shows, heals and is counted.
		if d, err := w.nodes[1].engine.Diff(t.Context()); err != nil || len(d) != 0 {
			t.Errorf("differences of an equal standby: %v %v", d, err)
		}
		w.nodes[1].kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: &next})
		if d, err := w.nodes[1].engine.Diff(t.Context()); err != nil || len(d) != 1 || d[0].How != "missing" ||
			d[0].Item != next.Key.String() {
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
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &next}, sadb.Op{Kind: sadb.OpDeleteSA,
			SA: extra[0].SA})
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
		var batches atomic.Int32
		w.losing(func(_ int, m wire.Message) bool {
			switch m.(type) {
			case *wire.Batch:
				return batches.Add(1) > 8 // 720 policies come first
			case *wire.SnapEnd:
				return true
			}
			return false
		})
		for range 5 {
			batches.Store(0)
			w.connect(0, 1)
			time.Sleep(10 * time.Millisecond)
			if s := w.nodes[1].status(); s.InSync || s.SAs == 0 || s.SAs > 400 {
				t.Fatalf("%d of 480 SAs, in sync %v: this is not in the middle of a snapshot", s.SAs, s.InSync)
			}
			w.cut(0, 1)
			for _, op := range old {
				if op.SA != nil && !w.nodes[1].kernel.has(op.SA.Key) {
					t.Fatalf("%s was deleted before the snapshot was complete", op.SA.Key)
				}
			}
		}
		w.losing(nil)
		w.connect(0, 1)
		time.Sleep(time.Second)
		w.equal("after a whole snapshot")
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
			wrong := &wire.BucketItems{Seq: rcv.Pos().Seq, Of: replica.SumBuckets}
			// The operations are not carried out, so the kernel is as it was.
			for i, op := range stray[:2] {
				wrong.Records = append(wrong.Records, wire.Record{Kind: wire.PutSA, Handle: uint32(1<<20 + i),
					SA: op.SA})
			}
			for b := range 5 { // what these hold is forgotten
				wrong.Bucket, wrong.More = uint16(b*replica.SumBuckets/5), false
				rcv.RepairBucket(time.Now(), 0, wrong)
				wrong.Records = nil
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
