package replica

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestAnotherSAOfOneIdentity: one with the same keys goes on above the numbers that were
// used with them, one with other keys begins where the master says.
func TestAnotherSAOfOneIdentity(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*sadb.SA)
		goesOn bool
	}{
		"other keys": {func(s *sadb.SA) {
			s.AEAD = &sadb.Algorithm{Name: s.AEAD.Name, TruncBits: s.AEAD.TruncBits,
				Key: sadb.NewSecret([]byte("another key of 20 by"))}
		}, false},
		"another reqid": {func(s *sadb.SA) { s.Reqid++ }, true},
	} {
		s := newStandby(t)
		sa := outbound(2) // ESN
		s.put(sa, 1)
		s.counters(time.Second, wire.CounterEntry{Handle: 1, OSeq: 5 << 32, Packets: 100})
		high := s.k[sa.Key].OSeq
		if high < 5<<32 {
			t.Fatalf("%s: the counter stands at %d", name, high)
		}
		anew := *sa
		anew.OSeq, anew.Packets = 10, 0
		tt.change(&anew)
		s.put(&anew, 2)
		got := s.k[sa.Key]
		if got == nil || got.Reqid != anew.Reqid || !got.AEAD.Key.Equal(anew.AEAD.Key) {
			t.Errorf("%s: the kernel has %+v", name, got)
		} else if tt.goesOn != (got.OSeq >= high) || got.OSeq < 10 {
			t.Errorf("%s: the counter goes from %d to %d", name, high, got.OSeq)
		}
	}
}

// TestWindowOfAnother: a counter that is raised leaves no room in the replay window for
// what the master may have accepted.
func TestWindowOfAnother(t *testing.T) {
	s := newStandby(t)
	sa := inboundOf(2)
	s.put(sa, 1)
	later := *sa
	later.Seq, later.Bitmap = 1000, make([]uint32, later.BitmapLen)
	ops := s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: 1, SA: &later})
	if len(ops) != 1 || ops[0].Kind != sadb.OpSetCounters || ops[0].SA.Seq != 1000 || ops[0].SA.Bitmap != nil {
		t.Errorf("%v", kinds(ops))
	}
}

// TestJournalOfAnSAMadeAnew: whoever missed both hears of the first one only that it is
// gone, and of the second one under its own name.
func TestJournalOfAnSAMadeAnew(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	s := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
	s.BeginSnapshot(p.stream, 0, 0, 0)
	s.EndSnapshot(0)
	follow := func(rec wire.Record, ok bool) wire.Record {
		if !ok {
			t.Fatal("nothing to publish")
		}
		s.Apply(now, 0, rec)
		return rec
	}
	first := outbound(2)
	a := follow(p.PutSA(now, first))
	follow(p.DeleteSA(now, first.Key))
	second := *first
	second.Reqid++
	b := follow(p.PutSA(now, &second))
	if a.Handle == b.Handle {
		t.Fatal("both have one name")
	}
	var master, standby []wire.Record
	for recs := range p.After(now, 0) {
		master = append(master, recs...)
	}
	for recs := range s.After(0) {
		standby = append(standby, recs...)
	}
	for name, recs := range map[string][]wire.Record{"master": master, "standby": standby} {
		if len(recs) != 3 || recs[0].Kind != wire.DelSA || recs[0].Handle != a.Handle || recs[1].Kind != wire.DelSA ||
			recs[2].Kind != wire.PutSA || recs[2].Handle != b.Handle || recs[2].SA.Reqid != second.Reqid {
			t.Errorf("%s: %+v", name, recs)
		}
	}
}

// TestUpdatedSAIsLookedAt: a glance from before a change of an SA does not stand for what
// it is since.
func TestUpdatedSAIsLookedAt(t *testing.T) {
	s := newStandby(t)
	sa := outbound(2)
	s.put(sa, 1)
	r := reading(s.k[sa.Key])
	r.Config = 7
	s.r.BeginScan()
	s.r.ReadWhole(s.k[sa.Key], r.Config, NewTouched())
	if !s.r.Read(r, NewTouched()) {
		t.Fatal("a glance is not enough for an SA that is as it was")
	}
	changed := *s.k[sa.Key]
	changed.Limits.HardAdd++
	s.do([]sadb.Op{{Kind: sadb.OpUpdateSA, SA: &changed}})
	if s.r.Read(r, NewTouched()) {
		t.Error("a glance from before a change is enough")
	}
}
