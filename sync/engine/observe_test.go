package engine

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

func TestHeadroom(t *testing.T) {
	for _, tt := range []struct {
		esn  bool
		oseq uint64
		rate float64
		want float64
	}{
		{false, 0, 0, math.Inf(1)},
		{false, math.MaxUint32 - 1000, 100, 10},
		{false, math.MaxUint32, 100, 0},
		{true, math.MaxUint32, 1e6, float64(math.MaxUint64) / 1e6},
	} {
		if got := headroom(tt.esn, tt.oseq, tt.rate); math.Abs(got-tt.want) > tt.want/1e6 {
			t.Errorf("ESN %t at %d with %v packets a second: %v s, want %v", tt.esn, tt.oseq, tt.rate, got, tt.want)
		}
	}
}

// TestPublisherHeadroom: it is that of the busiest SA since the reading before.
func TestPublisherHeadroom(t *testing.T) {
	at := time.Now()
	p := newPublisher(wire.StreamID{}, at)
	read := func(after time.Duration, oseq ...uint64) {
		snap := &sadb.Snapshot{}
		for i, v := range oseq {
			sa := &sadb.SA{Key: sadb.SAKey{SPI: uint32(i + 1)}, Dir: sadb.DirOut}
			sa.OSeq = v
			snap.SAs = append(snap.SAs, sa)
		}
		p.reconcile(at.Add(after), snap, newTouched())
	}
	read(0, 100, math.MaxUint32-5000)
	if !math.IsInf(p.headroom, 1) {
		t.Errorf("headroom %v before anything moved", p.headroom)
	}
	read(2*time.Second, 200, math.MaxUint32-4000)
	if want := 4000.0 / 500; math.Abs(p.headroom-want) > 0.01 {
		t.Errorf("headroom %v s, want %v", p.headroom, want)
	}
	read(3*time.Second, 200, math.MaxUint32-4000)
	if !math.IsInf(p.headroom, 1) {
		t.Errorf("headroom %v while nothing moves", p.headroom)
	}
}

func TestDurationBuckets(t *testing.T) {
	var d Duration
	for _, v := range []time.Duration{50 * time.Microsecond, time.Millisecond, time.Minute} {
		d.add(v)
	}
	if d.Count != 3 || d.Buckets[0] != 1 || d.Buckets[3] != 1 || d.Last != 60 {
		t.Errorf("%+v", d)
	}
	if len(d.Buckets) != len(durationBounds()) {
		t.Errorf("%d buckets for %d bounds", len(d.Buckets), len(durationBounds()))
	}
}

func TestErrnoName(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("add: %w", syscall.ENOSYS): "ENOSYS", syscall.EMFILE: errnoOther, errors.New("x"): errnoOther,
	} {
		if got := errnoName(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

func TestTrafficIsCounted(t *testing.T) {
	o := newObserved()
	o.meet("p")
	o.pass("p", true, &wire.Batch{Records: []wire.Record{{Kind: wire.PutSA}, {Kind: wire.PutSA}, {Kind: wire.DelPolicy}, {Kind: 200}}})
	o.pass("p", false, &wire.Counters{Entries: make([]wire.CounterEntry, 7)})
	var s Status
	o.copyTo(&s)
	got := map[Traffic]uint64{}
	for _, c := range s.Traffic {
		got[c.Traffic] = c.Count
	}
	for k, want := range map[Traffic]uint64{{"p", true, "put-sa"}: 2, {"p", true, "del-policy"}: 1, {"p", false, "counter"}: 7,
		{"p", false, "put-sa"}: 0, {"p", true, "counter"}: 0} {
		if n, ok := got[k]; !ok || n != want {
			t.Errorf("%+v: %d (%t), want %d", k, n, ok, want)
		}
	}
}

func TestWhyASnapshot(t *testing.T) {
	id, other := wire.StreamID{Group: "g", Term: 2}, wire.StreamID{Group: "g", Term: 1}
	for have, want := range map[wire.StreamPos]string{
		{}:                                SnapshotFirst,
		{StreamID: other, Complete: true}: SnapshotOther,
		{StreamID: id, Complete: true}:    SnapshotGap,
	} {
		if got := wantsSnapshot(have, id); got != want {
			t.Errorf("%+v: %s, want %s", have, got, want)
		}
	}
}
