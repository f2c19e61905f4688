package replica

import (
	"math"
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
	p := NewPublisher(wire.StreamID{}, at)
	read := func(after time.Duration, oseq ...uint64) {
		snap := &sadb.Snapshot{}
		for i, v := range oseq {
			sa := &sadb.SA{Key: sadb.SAKey{SPI: uint32(i + 1)}, Dir: sadb.DirOut}
			sa.OSeq = v
			snap.SAs = append(snap.SAs, sa)
		}
		p.Reconcile(at.Add(after), snap, NewTouched())
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
