package engine

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

func TestDurationBuckets(t *testing.T) {
	var d Duration
	for _, v := range []time.Duration{50 * time.Microsecond, time.Millisecond, time.Minute} {
		d.add(v)
	}
	if d.Count != 3 || d.Buckets[0] != 1 || d.Buckets[3] != 1 || d.Last != 60 {
		t.Errorf("%+v", d)
	}
	if len(d.Buckets) != len(DurationBounds()) {
		t.Errorf("%d buckets for %d bounds", len(d.Buckets), len(DurationBounds()))
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
	o.registerPeer("p")
	o.count("p", true, &wire.Batch{Records: []wire.Record{{Kind: wire.PutSA}, {Kind: wire.PutSA},
		{Kind: wire.DelPolicy},
		{Kind: 200}}})
	o.count("p", false, &wire.Counters{Entries: make([]wire.CounterEntry, 7)})
	var s Status
	o.copyTo(&s)
	got := map[Traffic]uint64{}
	for _, c := range s.Traffic {
		got[c.Traffic] = c.Count
	}
	for k, want := range map[Traffic]uint64{{"p", true, "put-sa"}: 2, {"p", true, "del-policy"}: 1,
		{"p", false, "counter"}: 7,
		{"p", false, "put-sa"}:  0, {"p", true, "counter"}: 0} {
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
