package replica

import (
	"slices"
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
	p := NewPublisher(wire.StreamID{Group: "g"}, time.Now())
	now := time.Now()
	p.Reconcile(now, tables(), NewTouched())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		snap := tables()
		b.StartTimer()
		p.Reconcile(now, snap, NewTouched())
		p.countersSince(p.epoch - 1)
	}
}

// BenchmarkAudit is what a standby does with each reading of its tables.
func BenchmarkAudit(b *testing.B) {
	tables := benchTables(10_000)
	r := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true, Advance: true})
	now := time.Now()
	r.Observe(&sadb.Snapshot{}, NewTouched())
	r.BeginSnapshot(wire.StreamID{Group: "g"}, 0, 0, 0)
	for i, sa := range tables().SAs {
		for _, op := range r.Apply(now, 0, wire.Record{Kind: wire.PutSA, Handle: uint32(i + 1), SA: sa}) {
			r.Result(op, nil)
		}
	}
	r.EndSnapshot(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		snap := tables()
		for _, sa := range snap.SAs {
			sa.OSeq, sa.Limits = 1<<40, standbyLimits(sa.Limits) // as a standby's kernel has them
		}
		b.StartTimer()
		r.Observe(snap, NewTouched())
		r.Repair(now)
	}
}

// BenchmarkSnapshot is what a standby does with a snapshot of 10,000 SAs, but for
// the kernel's part, and from the first byte: all of it is memory that a fresh
// process has not touched yet.
func BenchmarkSnapshot(b *testing.B) {
	p := NewPublisher(wire.StreamID{Group: "g"}, time.Now())
	p.Reconcile(time.Now(), benchTables(10_000)(), NewTouched())
	var frames [][]byte
	for c := p.snapshot(time.Now()); !c.done(); {
		f, err := wire.AppendFrame(nil, &wire.Batch{Stream: 1, First: 1, Records: p.next(time.Now(), c, BatchRecords)})
		if err != nil {
			b.Fatal(err)
		}
		frames = append(frames, f)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
		r.Observe(&sadb.Snapshot{}, NewTouched())
		r.BeginSnapshot(wire.StreamID{Group: "g"}, 0, 10_000, 0)
		now := time.Now()
		for _, f := range frames {
			m, err := wire.Parse(wire.TypeBatch, f[wire.HeaderLen:])
			if err != nil {
				b.Fatal(err)
			}
			for _, rec := range m.(*wire.Batch).Records {
				for _, op := range r.Apply(now, 0, rec) {
					r.Result(op, nil)
				}
			}
			r.slabs.reset()
		}
		r.EndSnapshot(0)
	}
}

// BenchmarkFlush is what a standby does, but for the kernel's part, when somebody
// has flushed its 10,000 SAs.
func BenchmarkFlush(b *testing.B) {
	r := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true, Advance: true})
	now := time.Now()
	r.Observe(&sadb.Snapshot{}, NewTouched())
	r.BeginSnapshot(wire.StreamID{Group: "g"}, 0, 0, 0)
	for i, sa := range benchTables(10_000)().SAs {
		for _, op := range r.Apply(now, 0, wire.Record{Kind: wire.PutSA, Handle: uint32(i + 1), SA: sa}) {
			r.Result(op, nil)
		}
	}
	r.EndSnapshot(0)
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(&sadb.Snapshot{}, NewTouched())
		for _, op := range slices.Concat(r.Repair(now)...) {
			r.Result(op, nil)
		}
		r.slabs.reset()
	}
}
