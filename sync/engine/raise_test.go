package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// readiness returns what the election was told last.
func (e *simElector) readiness() Readiness {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready[simGroup]
}

// answered returns and forgets the terms of the preparations that were answered.
func (e *simElector) answered() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.prepared
	e.prepared = nil
	return t
}

func (e *simElector) prepare(to wire.Role, term uint64) {
	e.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: to, Term: term}
	synctest.Wait()
}

// exMaster is a pair whose master has sent 1000 packets on an SA, and has lost
// mastership while it had no contact.
func exMaster(t *testing.T, dumpFails bool) (w *world, sa *sadb.SA) {
	w = newWorld(t, 2)
	ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)
	w.nodes[0].kernel.foreign(ops...)
	w.join(100)
	time.Sleep(3 * time.Second)
	w.nodes[0].kernel.traffic(1000)
	time.Sleep(2 * time.Second)
	w.cut(0, 1)
	w.nodes[0].kernel.faults.dumpFails.Store(dumpFails)
	w.nodes[0].role(wire.RoleBackup, 1)
	time.Sleep(10 * time.Millisecond)
	w.connect(0, 1)
	return w, ops[0].SA
}

// beyondSuccessor is above all that a standby with the same margin sends before the
// ex-master has heard of it.
func beyondSuccessor(sa *sadb.SA) uint64 {
	lead, _ := sadb.DefaultMargin().Lead(sa.ESN(), 0, 0)
	return 1000 + 3*lead
}

// TestExMasterRetires: whoever was MASTER raises its own counters beyond what its
// successor may use before it is ready, however often reading the kernel's tables
// fails first.
func TestExMasterRetires(t *testing.T) {
	for _, fails := range []time.Duration{0, 100 * time.Millisecond, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w, sa := exMaster(t, fails > 0)
			defer w.stop()
			n := w.nodes[0]
			want := beyondSuccessor(sa)
			for end := time.Now().Add(fails); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if r := n.elector.readiness(); r.InSync {
					t.Fatalf("reading fails for %v: in sync (%s) with a counter of %d, want at least %d", fails,
						r.Reason, n.kernel.oseq(sa.Key), want)
				}
			}
			n.kernel.faults.dumpFails.Store(false)
			time.Sleep(time.Second)
			if got := n.kernel.oseq(sa.Key); got < want {
				t.Errorf("reading fails for %v: counter of the ex-master %d, want at least %d", fails, got, want)
			}
			if r := n.elector.readiness(); !r.InSync {
				t.Errorf("reading fails for %v: not in sync afterwards: %s", fails, r.Reason)
			}
			// The survivor of a split hears what this node has sent, not what it has skipped.
			if n.engine.groups[simGroup].used.sent[sa.Key] != 1000 {
				t.Errorf("reading fails for %v: it has noted %d as sent, want 1000", fails,
					n.engine.groups[simGroup].used.sent[sa.Key])
			}
		})
	}
}

// TestExMasterThatHasNotRetiredIsNotPrepared: an election that asks all the same
// gets its answer when the counters are raised.
func TestExMasterThatHasNotRetiredIsNotPrepared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sa := exMaster(t, true)
		defer w.stop()
		n := w.nodes[0]
		n.elector.prepare(wire.RoleMaster, 2)
		time.Sleep(5 * time.Second)
		if got := n.elector.answered(); len(got) > 0 {
			t.Fatalf("prepared with a counter of %d, want at least %d", n.kernel.oseq(sa.Key), beyondSuccessor(sa))
		}
		n.kernel.faults.dumpFails.Store(false)
		time.Sleep(time.Second)
		if got := n.elector.answered(); len(got) != 1 || got[0] != 2 {
			t.Errorf("answers %v, want one for term 2", got)
		}
		if got := n.kernel.oseq(sa.Key); got < beyondSuccessor(sa) {
			t.Errorf("prepared with a counter of %d, want at least %d", got, beyondSuccessor(sa))
		}
	})
}

// TestPreparedWithoutMemory: a process that has followed no stream since its start does
// not know what its node did before, and what another has used since. It raises the
// counters in its kernel before it says that it is prepared, once.
func TestPreparedWithoutMemory(t *testing.T) {
	for _, esn := range []bool{false, true} {
		for _, fails := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, esn)
				n := w.nodes[0]
				n.kernel.foreign(ops...)
				n.kernel.traffic(1000)
				n.boot(100)
				defer w.stop()
				n.role(wire.RoleBackup, 1)
				time.Sleep(3 * time.Second)
				n.kernel.faults.dumpFails.Store(fails)
				sa := ops[0].SA
				want := sadb.DefaultMargin().Forgotten(sa.ESN(), 1000)
				n.elector.prepare(wire.RoleMaster, 2)
				time.Sleep(5 * time.Second)
				if got := n.elector.answered(); fails == (len(got) > 0) {
					t.Fatalf("ESN %v, reading fails %v: prepared for %v with a counter of %d, want %d", esn, fails, got,
						n.kernel.oseq(sa.Key), want)
				}
				n.kernel.faults.dumpFails.Store(false)
				time.Sleep(time.Second)
				n.elector.prepare(wire.RoleMaster, 3)
				time.Sleep(time.Second)
				if got := n.kernel.oseq(sa.Key); got != want {
					t.Errorf("ESN %v, reading fails %v: prepared with a counter of %d, want %d", esn, fails, got, want)
				}
			})
		}
	}
}

// TestMasterAgainRetiresAsMaster: where the election does not ask, the counters are
// raised by the first reading of the new mastership.
func TestMasterAgainRetiresAsMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sa := exMaster(t, true)
		defer w.stop()
		n := w.nodes[0]
		n.role(wire.RoleMaster, 2)
		n.kernel.faults.dumpFails.Store(false)
		time.Sleep(3 * time.Second)
		if got := n.kernel.oseq(sa.Key); got < beyondSuccessor(sa) {
			t.Errorf("MASTER again with a counter of %d, want at least %d", got, beyondSuccessor(sa))
		}
		if len(n.kernel.lowered) > 0 {
			t.Errorf("lowered: %v", n.kernel.lowered)
		}
	})
}

// TestRetireIsRepeatedWhereTheKernelRefuses: one refused counter is one that is not
// raised, and the others are not raised twice.
func TestRetireIsRepeatedWhereTheKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sa := exMaster(t, true)
		defer w.stop()
		n := w.nodes[0]
		n.kernel.faults.refused.Store(true)
		n.kernel.faults.dumpFails.Store(false)
		time.Sleep(5 * time.Second)
		if r := n.elector.readiness(); r.InSync {
			t.Fatalf("in sync (%s) with a counter of %d", r.Reason, n.kernel.oseq(sa.Key))
		}
		n.kernel.faults.refused.Store(false)
		time.Sleep(5 * time.Second)
		if got := n.kernel.oseq(sa.Key); got != beyondSuccessor(sa) {
			t.Errorf("counter %d, want %d", got, beyondSuccessor(sa))
		}
		if r := n.elector.readiness(); !r.InSync {
			t.Errorf("not in sync: %s", r.Reason)
		}
	})
}

// slowSnapshot is a pair whose standby gets a batch of its first snapshot each bumpDelay/4.
func slowSnapshot(t *testing.T) (w *world, sas []sadb.Op) {
	w = newWorld(t, 2)
	sas, _ = many(rand.New(rand.NewPCG(1, 2)), 1000)
	w.nodes[0].kernel.foreign(sas...)
	w.lose = func(_ int, m wire.Message) bool {
		if _, ok := m.(*wire.Batch); ok {
			time.Sleep(bumpDelay / 4)
		}
		return false
	}
	w.join(100)
	return w, sas
}

// TestSlowSnapshotRaisesNothing: a standby to which a snapshot comes slowly knows of
// each SA that it has been told where the counter stands. It raises none further than
// the lead, so its MASTER's counters stay where they are.
func TestSlowSnapshotRaisesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sas := slowSnapshot(t)
		defer w.stop()
		a, b := w.nodes[0].kernel, w.nodes[1].kernel
		before := a.count()
		time.Sleep(10 * bumpDelay)
		w.equal("after the snapshot")
		raised := 0
		for _, op := range sas {
			if lead, _ := sadb.DefaultMargin().Lead(op.SA.ESN(), 0, 0); b.oseq(op.SA.Key) > lead {
				raised++
			}
		}
		if raised > 0 {
			t.Errorf("%d counters of the standby are raised further than the lead", raised)
		}
		if n := a.count() - before; n != 0 {
			t.Errorf("%d changes of the MASTER's kernel", n)
		}
	})
}

// TestTakeoverDuringASnapshot: no counters come while a snapshot does, so a standby that
// is to be MASTER in the middle of one raises those that it was told.
func TestTakeoverDuringASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := slowSnapshot(t)
		defer w.stop()
		a, b := w.nodes[0].kernel, w.nodes[1]
		time.Sleep(bumpDelay * 3 / 4)
		used := a.traffic(2_000_000)
		w.cut(0, 1)
		b.elector.prepare(wire.RoleMaster, 2)
		time.Sleep(time.Second)
		if got := b.elector.answered(); len(got) != 1 {
			t.Fatalf("prepared for %v", got)
		}
		told := 0
		for k, span := range used {
			if !b.kernel.has(k) {
				continue
			}
			told++
			if got := b.kernel.oseq(k); got < span[1] {
				t.Fatalf("%s: the counter is %d, %d was sent", k, got, span[1])
			}
		}
		if told == 0 || told == len(used) {
			t.Errorf("%d of %d SAs were told: this is not in the middle of a snapshot", told, len(used))
		}
	})
}

// TestAskedWhileUntoldCountersAreRaised: the election asks in the middle of a snapshot,
// while the node raises what the snapshot has not told. What it was told comes next,
// and then the answer.
func TestAskedWhileUntoldCountersAreRaised(t *testing.T) {
	rig := newTurnsRig(10)
	rig.standby(true)
	g, asked := rig.g, uint64(2)
	g.rcv.BeginSnapshot(g.rcv.Pos().StreamID, g.rcv.Pos().Seq+1, 0, 0)
	before := g.rcv.Outbound()
	g.term, g.promotion.asked, g.raising = asked, &asked, &counterRaise{untold: true}
	rig.e.raised(t.Context(), g)
	if g.raising != nil || g.promotion.asked != nil {
		t.Errorf("retiring %v, asked %v", g.raising != nil, g.promotion.asked != nil)
	}
	for k, now := range g.rcv.Outbound() {
		if now <= before[k] {
			t.Errorf("%s: prepared with a counter of %d, which was told", k, now)
		}
	}
}
