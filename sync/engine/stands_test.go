package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// stand has a counter of the kernel stand at v, as an earlier mastership leaves it.
func (k *simKernel) stand(key sadb.SAKey, v uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := *k.sas[key]
	c.OSeq = v
	k.sas[key] = &c
}

// TestSuccessorFarAhead: the counters of a standby stand ten leads ahead of its
// MASTER's. It takes over, uses a lead of numbers that nobody hears of, and dies while
// the ex-master cannot read its own tables. The ex-master sends none of these numbers,
// also where it heard of the standby's counters by resuming a stream, or where its
// kernel refused them at first.
func TestSuccessorFarAhead(t *testing.T) {
	const lead = 1000
	for name, meet := range map[string]func(*world){
		"found by a reading": func(*world) {},
		"known at the end of a snapshot": func(w *world) {
			w.nodes[1].kill()
			w.nodes[1].boot(20)
			w.nodes[1].role(wire.RoleBackup, 1)
			w.connect(0, 1)
		},
		"known when a stream is resumed": func(w *world) {
			w.cut(0, 1)
			time.Sleep(3 * time.Second)
			w.connect(0, 1)
		},
		"told in vain at first": func(w *world) {
			w.losing(func(_ int, m wire.Message) bool { _, ok := m.(*wire.Maxima); return ok })
			time.Sleep(5 * time.Second)
			w.losing(nil)
		},
		"refused by the master's kernel at first": func(w *world) {
			w.nodes[0].kernel.faults.refused.Store(true)
			time.Sleep(5 * time.Second)
			w.nodes[0].kernel.faults.refused.Store(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				w.margin.ESN, w.margin.Legacy = lead, lead
				a, b := w.nodes[0], w.nodes[1]
				ops := append(tunnel(rand.New(rand.NewPCG(1, 2)), 1, false), tunnel(rand.New(rand.NewPCG(3, 4)), 2,
					true)...)
				a.kernel.foreign(ops...)
				w.join(1)
				defer w.stop()
				time.Sleep(3 * time.Second)
				out := []sadb.SAKey{ops[0].SA.Key, ops[5].SA.Key}
				for _, k := range out {
					b.kernel.stand(k, a.kernel.oseq(k)+10*lead)
				}
				meet(w)
				time.Sleep(5 * time.Second)
				a.kernel.traffic(10)
				a.kernel.faults.dumpFails.Store(true)
				a.role(wire.RoleBackup, 1)
				w.cut(0, 1)
				b.role(wire.RoleMaster, 2)
				b.kernel.traffic(lead)
				used := make(map[sadb.SAKey]uint64)
				for _, k := range out {
					used[k] = b.kernel.oseq(k)
				}
				b.kill()
				a.kernel.faults.dumpFails.Store(false)
				time.Sleep(2 * time.Second)
				a.role(wire.RoleMaster, 3)
				for k, span := range a.kernel.traffic(1) {
					if span[0] <= used[k] {
						t.Errorf("the ex-master sends %d on %s, its successor has sent up to %d", span[0], k, used[k])
					}
				}
				if len(a.kernel.lowered) > 0 || len(b.kernel.lowered) > 0 {
					t.Errorf("lowered: %v %v", a.kernel.lowered, b.kernel.lowered)
				}
				restarted := name == "known at the end of a snapshot" // it does not know what it has sent
				if n := w.counts(0).SplitJumps; n != 0 && !restarted {
					t.Errorf("%d jumps counted as after a split", n)
				}
				b.boot(30)
			})
		})
	}
}

// TestMasterDoesNotJumpForAHealthyStandby: margins, readings, hand-overs and returns
// without trouble use no numbers up.
func TestMasterDoesNotJumpForAHealthyStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lead = 1000
		w := newWorld(t, 2)
		w.margin.ESN, w.margin.Legacy = lead, lead
		ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)
		w.nodes[0].kernel.foreign(ops...)
		w.join(1)
		defer w.stop()
		n, sent, term := 0, uint64(0), uint64(1)
		for i := range 20 {
			for range 100 {
				for _, span := range w.nodes[n].kernel.traffic(1 + uint64(i*i)) {
					sent = span[1]
				}
				time.Sleep(100 * time.Millisecond)
			}
			if i%5 == 4 {
				term++
				w.nodes[n].role(wire.RoleBackup, term)
				n = 1 - n
				w.nodes[n].role(wire.RoleMaster, term)
			} else if got := w.nodes[n].kernel.oseq(ops[0].SA.Key); got != sent {
				t.Errorf("round %d: the master's counter is %d after number %d", i, got, sent)
			}
		}
	})
}

// TestJumpsAreOwedBeyondMastership: the survivor of a split loses mastership before
// its kernel has taken the jumps above the other's numbers. It still makes them.
func TestJumpsAreOwedBeyondMastership(t *testing.T) {
	const sent = 200_000_000 // beyond the margin
	for _, role := range []wire.Role{wire.RoleBackup, wire.RoleMaster} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)
			w.nodes[0].kernel.foreign(ops...)
			w.join(100)
			defer w.stop()
			a, b := w.nodes[0], w.nodes[1]
			time.Sleep(3 * time.Second)
			w.cut(0, 1)
			b.role(wire.RoleMaster, 2)
			time.Sleep(time.Second)
			a.kernel.traffic(sent)
			b.kernel.traffic(10)
			time.Sleep(2 * time.Second)
			a.role(wire.RoleBackup, 2)
			time.Sleep(time.Second)
			b.kernel.faults.refused.Store(true)
			w.connect(0, 1)
			time.Sleep(500 * time.Millisecond)
			w.cut(0, 1)
			b.role(wire.RoleBackup, 2)
			time.Sleep(time.Second)
			if r := b.elector.readiness(); r.InSync {
				t.Errorf("in sync (%s) with jumps that are owed", r.Reason)
			}
			if role == wire.RoleMaster { // without being asked whether it is prepared
				b.role(role, 3)
			}
			b.kernel.faults.refused.Store(false)
			time.Sleep(5 * time.Second)
			if got := b.kernel.oseq(ops[0].SA.Key); got <= sent {
				t.Errorf("%s again: the other node has sent %d, the counter stands at %d", role, sent, got)
			}
		})
	}
}
