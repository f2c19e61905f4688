package engine

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// unheard returns the SAs of a master whose counters a standby would not take: it
// does not know their handles, or knows them as those of other SAs.
func (w *world) unheard(master, standby *simNode) (lost []sadb.SAKey, of int) {
	var records []wire.Record
	_ = master.engine.do(w.t.Context(), func() { records = w.published(master) })
	_ = standby.engine.do(w.t.Context(), func() {
		r := standby.engine.groups[simGroup].rcv
		for _, rec := range records {
			if sa := r.Named(rec.Handle); sa == nil || sa.Key != rec.SA.Key {
				lost = append(lost, rec.SA.Key)
			}
		}
	})
	return lost, len(records)
}

// published returns the records of the SAs that a master publishes. The engine must wait
// meanwhile.
func (w *world) published(master *simNode) (sas []wire.Record) {
	all := make([]uint16, replica.SumBuckets)
	for i := range all {
		all[i] = uint16(i)
	}
	for _, b := range master.engine.groups[simGroup].pub.Buckets(time.Now(), all) {
		for _, rec := range b.Records {
			if rec.Kind == wire.PutSA {
				sas = append(sas, rec)
			}
		}
	}
	return sas
}

// TestFailBackAfterAnSAWasWithdrawn: one outbound SA is near its end, so the
// standby withdraws it and, once it is MASTER, has other numbers for all others.
// The ex-master follows, there is traffic, and the new master dies: no number that
// it sent may be sent again.
func TestFailBackAfterAnSAWasWithdrawn(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("link down during the hand-over %v", away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				defer w.stop()
				r := rand.New(rand.NewPCG(3, 3))
				a, b := w.nodes[0], w.nodes[1]
				for i := range 6 {
					ops := tunnel(r, 2*i+1, false)
					if i <= 1 {
						ops[0].SA.OSeq = sadb.MaxLegacy - 1000
					}
					for _, op := range ops {
						if op.SA != nil && !away { // as static keys have, and libreswan's
							op.SA.Limits.HardAdd, op.SA.Limits.SoftAdd = 0, 0
						}
					}
					a.kernel.foreign(ops...)
				}
				w.join(1)
				time.Sleep(3 * time.Second)
				highest := make(map[sadb.SAKey]uint64)
				use := func(n *simNode, packets uint64) {
					for k, span := range n.kernel.traffic(packets) {
						if span[0] <= highest[k] {
							t.Errorf("node %d sends %d on %s, %d was sent before", n.i, span[0], k, highest[k])
						}
						highest[k] = span[1]
					}
				}
				use(a, 10)
				time.Sleep(2 * time.Second)
				a.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
				time.Sleep(300 * time.Millisecond)
				a.role(wire.RoleBackup, 1)
				if away {
					w.cut(0, 1)
				}
				b.role(wire.RoleMaster, 2)
				if away {
					time.Sleep(2 * time.Second)
					w.connect(0, 1)
				}
				time.Sleep(3 * time.Second)
				if lost, of := w.unheard(b, a); len(lost) > 0 {
					t.Errorf("the standby does not take the counters of %d of %d SAs", len(lost), of)
				}
				for range 300 { // 30 s of 50,000 packets a second
					use(b, 5000)
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(2 * time.Second)
				if s := a.status(); !s.InSync {
					t.Errorf("the standby is not in sync: %s", s.Why)
				}
				b.kill()
				a.role(wire.RoleMaster, 3)
				use(a, 1)
				b.boot(9)
			})
		})
	}
}

// TestRekeysWhileAStandbyIsAway: rekeys, a hand-over, the sync link is away while
// more is rekeyed. The ex-master that is in sync again takes the counters of every
// SA.
func TestRekeysWhileAStandbyIsAway(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			defer w.stop()
			r := rand.New(rand.NewPCG(seed, 3))
			a, b := w.nodes[0], w.nodes[1]
			sas := make([][]sadb.Op, 10)
			for i := range sas {
				sas[i] = tunnel(r, i, false)
				a.kernel.foreign(sas[i]...)
			}
			rekey := func(n *simNode, i int) {
				fresh := tunnel(r, i, false)[:2]
				n.kernel.foreign(fresh...)
				n.kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: sas[i][0].SA}, sadb.Op{Kind: sadb.OpDeleteSA,
					SA: sas[i][1].SA})
				sas[i] = fresh
				time.Sleep(1500 * time.Millisecond)
			}
			w.join(1)
			time.Sleep(3 * time.Second)
			for range r.IntN(10) {
				rekey(a, r.IntN(10))
			}
			a.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
			time.Sleep(300 * time.Millisecond)
			a.role(wire.RoleBackup, 1)
			time.Sleep(50 * time.Millisecond)
			w.cut(0, 1)
			b.role(wire.RoleMaster, 2)
			time.Sleep(2 * time.Second)
			for range 1 + r.IntN(5) {
				rekey(b, r.IntN(10))
			}
			w.connect(0, 1)
			time.Sleep(5 * time.Second)
			if s := a.status(); !s.InSync {
				t.Errorf("seed %d: the standby is not in sync: %s", seed, s.Why)
			}
			if lost, of := w.unheard(b, a); len(lost) > 0 || of != 20 {
				t.Errorf("seed %d: the standby does not take the counters of %d of %d SAs", seed, len(lost), of)
			}
		})
	}
}

// TestUnknownHandlesAreNoticed takes handles from a standby as only a defect
// could. Once counters have come for them it is not in sync; the audit asks for
// everything again, and then it knows them and is in sync.
func TestUnknownHandlesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		var audited atomic.Bool
		audited.Store(true)
		w.lose = func(_ int, m wire.Message) bool { return m.Type() == wire.TypeDigest && !audited.Load() }
		master, standby := w.nodes[0], w.nodes[1]
		r := rand.New(rand.NewPCG(14, 1))
		for i := range 20 {
			master.kernel.foreign(tunnel(r, i, false)...)
		}
		w.join(1)
		time.Sleep(5 * time.Second)
		var records []wire.Record
		_ = master.engine.do(t.Context(), func() { records = w.published(master) })
		_ = standby.engine.do(t.Context(), func() {
			r := standby.engine.groups[simGroup].rcv
			wrong := &wire.BucketItems{Seq: r.Pos().Seq, Of: replica.SumBuckets, More: true}
			for _, rec := range records {
				if rec.SA.Dir == sadb.DirOut && len(wrong.Records) < 3 {
					sa := *rec.SA // the receiver keeps it
					rec.Handle, rec.SA = rec.Handle+1000, &sa
					wrong.Records = append(wrong.Records, rec)
				}
			}
			r.RepairBucket(time.Now(), 0, wrong)
		})
		if lost, _ := w.unheard(master, standby); len(lost) != 3 {
			t.Fatalf("%d handles are unknown, want 3", len(lost))
		}
		audited.Store(false)
		master.kernel.traffic(10)
		time.Sleep(6 * time.Second)
		if r := w.ready(1); r.InSync {
			t.Error("a standby that does not take all counters says that it is in sync")
		}
		audited.Store(true)
		time.Sleep(10 * time.Second)
		if s := standby.status(); !s.InSync {
			t.Errorf("not in sync 10 s later: %s", s.Why)
		}
		if lost, _ := w.unheard(master, standby); len(lost) != 0 {
			t.Errorf("%d handles are still unknown", len(lost))
		}
		if c := w.counts(1); c.DigestMismatches != 1 {
			t.Errorf("%d mismatches were counted, want 1", c.DigestMismatches)
		}
	})
}
