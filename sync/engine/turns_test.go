package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// applyTime is what a call of a slow kernel takes: 25,000 operations a second.
const applyTime = 4 * time.Millisecond

// slowly has the kernel take its time from now on.
func (k *simKernel) slowly() { k.faults.perApply.Store(int64(applyTime)) }

// many returns the SAs of n further generations of tunnel 1, and n policies that a
// peer could have for it.
func many(r *rand.Rand, n int) (sas, policies []sadb.Op) {
	for i := range n {
		sas = append(sas, generation(r, 1)...)
		policies = append(policies, sadb.Op{Kind: sadb.OpAddPolicy, Policy: policyOf(i)})
	}
	return sas, policies
}

// largePair is a pair in sync with many SAs and policies.
func largePair(t *testing.T, n, policies int) (w *world, all []sadb.Op) {
	w = newWorld(t, 2)
	r := rand.New(rand.NewPCG(1, 2))
	sas, pols := many(r, n)
	all = append(append(tunnel(r, 1, false), sas...), pols[:policies]...)
	w.nodes[0].kernel.foreign(all...)
	w.join(100)
	time.Sleep(10 * time.Second)
	w.equal("at the beginning")
	return w, all
}

// answeredWithin waits for an answer to a preparation.
func (e *simElector) answeredWithin(d time.Duration) (after time.Duration, ok bool) {
	for began := time.Now(); time.Since(began) <= d; time.Sleep(time.Millisecond) {
		if len(e.answered()) > 0 {
			return time.Since(began), true
		}
	}
	return d, false
}

// TestPrepareDoesNotWaitForRepair: a standby whose tables were flushed puts back
// 3,000 SAs. The election's question is answered between two turns; nothing is
// missing when the node has become MASTER, and no counter is lowered that it sends
// with meanwhile.
func TestPrepareDoesNotWaitForRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, all := largePair(t, 1500, 0)
		defer w.stop()
		n := w.nodes[1]
		n.kernel.slowly()
		n.kernel.flush()
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		if got := n.kernel.size(); got == 0 || got >= len(all)-replica.TurnOps {
			t.Fatalf("the repair has put back %d of %d items, want it to be under way", got, len(all))
		}
		n.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
		if after, ok := n.elector.answeredWithin(time.Second); !ok || after > 2*applyTime {
			t.Errorf("prepare answered after %v, want at most %v", after, 2*applyTime)
		}
		used := n.kernel.traffic(2_000_000) // the fence is open before the election says so
		time.Sleep(20 * time.Millisecond)
		n.role(wire.RoleMaster, 2)
		w.nodes[0].role(wire.RoleBackup, 2)
		time.Sleep(10 * time.Second)
		if len(n.kernel.lowered) > 0 {
			t.Errorf("%d counters lowered: %s", len(n.kernel.lowered), n.kernel.lowered[0])
		}
		for k, span := range used {
			if now := n.kernel.oseq(k); now < span[1] {
				t.Fatalf("%s: %d is its counter, %d was sent", k, now, span[1])
			}
		}
		missing := 0
		for _, op := range all {
			if op.SA != nil && !n.kernel.has(op.SA.Key) {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%d SAs are missing on the new master", missing)
		}
		w.equal("after the takeover")
	})
}

// TestPreparedWaitsForPolicies: traffic would leave in plaintext without those that
// are being put back.
func TestPreparedWaitsForPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const policies = 1000
		w, _ := largePair(t, policies, policies)
		defer w.stop()
		n := w.nodes[1]
		n.kernel.slowly()
		n.kernel.flush()
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		n.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
		if _, ok := n.elector.answeredWithin(time.Second); !ok {
			t.Fatal("no answer")
		}
		n.kernel.mu.Lock()
		pols, sas := len(n.kernel.policies), len(n.kernel.sas)
		n.kernel.mu.Unlock()
		if pols != policies+3 {
			t.Errorf("prepared with %d of %d policies", pols, policies+3)
		}
		if sas > 2*replica.TurnOps {
			t.Errorf("prepared only when %d of %d SAs were back, want it at once after the policies", sas, 2*policies+2)
		}
	})
}

// TestElectionIsLookedAtInEveryWork: no call of the kernel has more than 100
// operations, and what the election says is taken between two of them.
func TestElectionIsLookedAtInEveryWork(t *testing.T) {
	cases := []struct {
		name string
		node int
		work func(w *world)
	}{
		{"repair", 1, func(w *world) { w.nodes[1].kernel.flush() }},
		{"sweep", 1, func(w *world) {
			sas, _ := many(rand.New(rand.NewPCG(5, 5)), 550)
			w.nodes[1].kernel.foreign(sas...)
		}},
		{"retire", 0, func(w *world) {
			w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleBackup,
				Term: 1, VIPs: simVIPs}
		}},
		{"bump", 1, func(w *world) {
			w.cut(0, 1)
			w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleBackup,
				Term: 5, VIPs: simVIPs}
		}},
		{"raise", 1, func(w *world) { w.cut(0, 1) }},
		{"RefreshAges", 1, func(w *world) { w.nodes[1].wall.Store(int64(time.Hour)) }},
		{"reinsert", 0, func(w *world) { w.nodes[0].kernel.flushSAs() }},
		{"counters", 1, func(w *world) { w.nodes[0].kernel.traffic(100_000_000) }},
		{"restored limits", 1, func(w *world) {
			w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleMaster,
				Term: 2, VIPs: simVIPs}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				r := rand.New(rand.NewPCG(1, 2))
				sas, _ := many(r, 550)
				w.nodes[0].kernel.foreign(append(tunnel(r, 1, false), sas...)...)
				w.nodes[0].keying = &simKeying{flushes: true}
				w.join(100)
				defer w.stop()
				for i := range 5 {
					w.nodes[0].kernel.traffic(uint64(i+1) * 100_000) // so that there are rates
					time.Sleep(time.Second)
				}
				n := w.nodes[c.node]
				n.kernel.slowly()
				before := n.kernel.count()
				c.work(w)
				var longest time.Duration
				for range 250 { // 5 s at least
					n.elector.events <- ElectorEvent{Kind: ElectorHeard, Group: simGroup}
					began := time.Now()
					for len(n.elector.events) > 0 {
						time.Sleep(500 * time.Microsecond)
					}
					longest = max(longest, time.Since(began))
					time.Sleep(20 * time.Millisecond)
				}
				if ops := n.kernel.count() - before; ops < 5*replica.TurnOps {
					t.Errorf("%d operations, want at least %d: this is not the work that is meant", ops,
						5*replica.TurnOps)
				}
				if longest > applyTime+time.Millisecond {
					t.Errorf("the election had to wait for %v, want at most one call of the kernel, %v", longest,
						applyTime)
				}
				if most := n.kernel.faults.most.Load(); most > replica.TurnOps {
					t.Errorf("%d operations in one call, want at most %d", most, replica.TurnOps)
				}
			})
		})
	}
}

// turnWork is what one turn has done.
type turnWork struct {
	items   int // that a computation has counted, to within those of one look at the clock
	ops     int // of the kernel
	records int // and counters, sent
}

// TestTurnsAreShort: with many times the SAs and policies of a turn no work of a group goes
// over more in one turn than it may, whether it computes, speaks to the kernel or sends.
func TestTurnsAreShort(t *testing.T) {
	const items = 10_000
	tables := newTurnsRig(items).k.snap
	for _, w := range works {
		t.Run(w.name, func(t *testing.T) {
			rig := newTurnsRig(0)
			rig.k.snap = tables
			var now, most, all turnWork
			// The clock is looked at after so many items; a turn does not end by it here.
			rig.g.work.turns.Late = func() bool { now.items += lookEvery; return false }
			rig.g.rcv.Pace = rig.g.work.turns
			rig.k.counted = &now.ops
			rig.m.session = countingSession{records: &now.records}
			work := w.prepare(rig)
			now = turnWork{}
			over := func() {
				most = turnWork{max(most.items, now.items), max(most.ops, now.ops), max(most.records, now.records)}
				all = turnWork{all.items + now.items, all.ops + now.ops, all.records + now.records}
				now = turnWork{}
			}
			done := false
			rig.e.run(rig.g, func() { work(); done = true })
			for over(); !done || rig.e.busy() != nil; over() {
				if rig.e.busy() == nil {
					(<-rig.e.calls)()
				}
				rig.e.turn()
			}
			// Two computations may share a turn, one's last items and the other's first.
			if most.items > 2*replica.TurnItems || most.ops > replica.TurnOps || most.records > counterBatch {
				t.Errorf("most in one turn: %+v", most)
			}
			if all.items+all.ops+all.records < items/2 {
				t.Errorf("%+v in all turns: this is not the work that is meant", all)
			}
		})
	}
}

// lookEvery is after how many items a computation looks at the clock.
const lookEvery = 16

// countingSession counts the records and counters that it is sent.
type countingSession struct {
	nullSession
	records *int
}

func (s countingSession) Send(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.Batch:
		*s.records += len(m.Records)
	case *wire.BucketItems:
		*s.records += len(m.Records)
	case *wire.Counters:
		*s.records += len(m.Entries)
	case *wire.Maxima:
		*s.records += len(m.Entries)
	}
	return true
}

// TestMasterAgainBeforeItHasSteppedDown: the election changes its mind between two
// turns of the raise.
func TestMasterAgainBeforeItHasSteppedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, all := largePair(t, 300, 0)
		defer w.stop()
		n := w.nodes[0]
		sent := n.kernel.traffic(1000)
		time.Sleep(2 * time.Second)
		n.kernel.slowly()
		for term := uint64(2); term < 6; term++ {
			n.role(wire.RoleBackup, term-1)
			time.Sleep(15 * time.Millisecond)
			n.role(wire.RoleMaster, term)
			time.Sleep(15 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if len(n.kernel.lowered) > 0 {
			t.Errorf("%d counters lowered: %s", len(n.kernel.lowered), n.kernel.lowered[0])
		}
		lead, _ := sadb.DefaultMargin().Lead(false, 0, 0)
		for k, span := range sent {
			if got := n.kernel.oseq(k); got < span[1]+2*lead {
				t.Fatalf("%s stands at %d, want at least %d", k, got, span[1]+2*lead)
			}
		}
		if got := n.status(); got.SAs != len(all)-3 || got.Role != "MASTER" {
			t.Errorf("%s with %d SAs, want MASTER with %d", got.Role, got.SAs, len(all)-3)
		}
		w.equal("after the changes")
	})
}
