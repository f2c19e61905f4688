package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestHandlesOfTwoStreams numbers SAs in one stream and in the next, which knows
// some of them, others besides, and gives all of them other numbers. In between
// SAs end and are rekeyed. Each number of the new stream names its SA.
func TestHandlesOfTwoStreams(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 14))
		s := newStandby(t)
		s.r.BeginSnapshot(wire.StreamID{Group: "g", Term: 1, Node: wire.NodeID{1}}, 0, 0, 0)
		sas := make([]*sadb.SA, 12)
		for i := range sas {
			sas[i] = outbound(2*i + 1) // 32 bits: the margin is small
		}
		for i, n := range r.Perm(len(sas))[:8] {
			s.put(sas[n], uint32(i+1))
		}
		s.do(slices.Concat(s.r.EndSnapshot(0)...))

		s.r.BeginSnapshot(wire.StreamID{Group: "g", Term: 2, Node: wire.NodeID{2}}, 0, 0, 0)
		number := make(map[uint32]*sadb.SA)
		for i, n := range r.Perm(len(sas))[:8] {
			h := uint32(i + 1)
			switch r.IntN(4) {
			case 0: // rekeyed under its identity, as with static keys
				sa := *sas[n]
				sa.Reqid += 100
				sas[n] = &sa
			case 1: // ends while the snapshot is under way
				s.do(s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.DelSA, SAKey: sas[n].Key}))
			}
			s.put(sas[n], h)
			number[h] = sas[n]
		}
		s.do(slices.Concat(s.r.EndSnapshot(0)...))
		for h, sa := range number {
			s.counters(time.Second, wire.CounterEntry{Handle: h, OSeq: 5_000_000, Packets: 5_000_000})
			if got := s.k[sa.Key].OSeq; got <= 5_000_000 {
				t.Errorf("seed %d: handle %d: the standby's counter is %d, the master's 5000000", seed, h, got)
			}
		}
	}
}

// TestAHandleNamesOneSA: of two SAs to which a stream gives one number, the later
// one has it, and the end of the other does not take it away.
func TestAHandleNamesOneSA(t *testing.T) {
	s := newStandby(t)
	a, b := outbound(1), outbound(3)
	s.put(a, 1)
	s.put(b, 1)
	s.do(s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.DelSA, SAKey: a.Key}))
	s.counters(time.Second, wire.CounterEntry{Handle: 1, OSeq: 5_000_000, Packets: 5_000_000})
	if got := s.k[b.Key].OSeq; got <= 5_000_000 {
		t.Errorf("the standby's counter is %d, the master's 5000000", got)
	}
	if len(s.k) != 1 {
		t.Errorf("%d SAs, want 1", len(s.k))
	}
}
