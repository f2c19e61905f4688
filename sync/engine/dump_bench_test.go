package engine

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// benchTables are 10,000 SAs, as a dump hands them out: fresh each time.
func benchTables(n int) func() *sadb.Snapshot {
	r := sadbtest.NewRand(1)
	var list []sadb.SA
	for range n {
		list = append(list, *sadbtest.SA(r))
	}
	seq := uint64(0)
	return func() *sadb.Snapshot {
		seq++
		snap := &sadb.Snapshot{}
		for i := range list {
			sa := list[i]
			sa.Dir = sadb.DirOut
			sa.OSeq += seq
			snap.SAs = append(snap.SAs, &sa)
		}
		return snap
	}
}

// BenchmarkReconcile is what a master does with each reading of its tables.
func BenchmarkReconcile(b *testing.B) {
	tables := benchTables(10_000)
	p := newPublisher(wire.StreamID{Group: "g"}, time.Now())
	now := time.Now()
	p.reconcile(now, tables(), newTouched())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		snap := tables()
		b.StartTimer()
		p.reconcile(now, snap, newTouched())
		p.countersSince(p.epoch - 1)
	}
}

// BenchmarkAudit is what a standby does with each reading of its tables.
func BenchmarkAudit(b *testing.B) {
	tables := benchTables(10_000)
	r := newReceiver(sadb.DefaultMargin(), true, true)
	now := time.Now()
	r.observe(&sadb.Snapshot{}, newTouched())
	r.begin(wire.StreamID{Group: "g"}, 0, 0)
	for i, sa := range tables().SAs {
		for _, op := range r.apply(now, 0, wire.Record{Kind: wire.PutSA, Handle: uint32(i + 1), SA: sa}) {
			r.result(op, nil)
		}
	}
	r.end(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		snap := tables()
		for _, sa := range snap.SAs {
			sa.OSeq, sa.Limits = 1<<40, standbyLimits(sa.Limits) // as a standby's kernel has them
		}
		b.StartTimer()
		r.observe(snap, newTouched())
		r.repair(now)
	}
}
