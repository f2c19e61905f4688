package replica

import (
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// freshTables returns a function that returns the same n outbound SAs, new each time, as
// readings do. Their counters stand at 1000.
func freshTables(n int) func() *sadb.Snapshot {
	r := sadbtest.NewRand(1)
	var list []*sadb.SA
	for range n {
		sa := sadbtest.SA(r)
		sa.Dir, sa.OSeq = sadb.DirOut, 1000
		list = append(list, sa)
	}
	return func() *sadb.Snapshot {
		s := &sadb.Snapshot{}
		for _, sa := range list {
			c := *sa
			s.SAs = append(s.SAs, &c)
		}
		return s
	}
}

// TestCountersAreGatheredInTurns: between two turns the next reading may begin, and
// show counters. Nothing that moved is left out of the epoch that is being gathered,
// and what the reading shows is not left out of the next one.
func TestCountersAreGatheredInTurns(t *testing.T) {
	const items = 1000
	for at := range items / TurnItems { // the turn behind which the reading begins
		fresh := freshTables(items)
		now := time.Now()
		p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
		read := func(oseq uint64, part int) {
			for _, sa := range fresh().SAs[:part] {
				sa.OSeq += oseq
				p.ReadWhole(now, sa, 0, NewTouched())
			}
		}
		p.Reconcile(now, fresh(), NewTouched())
		sent := p.epoch
		p.BeginScan(now)
		read(10, items)
		p.end(now, nil, NewTouched())

		turns, part := 0, items/2
		p.Pause = func() {
			if turns == at {
				if turns++; len(p.sending) > turns*TurnItems {
					t.Fatalf("%d SAs are gathered in %d turns, want at most %d in each", len(p.sending), turns,
						TurnItems)
				}
				p.BeginScan(now)
				read(20, part)
				return
			}
			turns++
		}
		first := slices.Clone(p.countersSince(sent))
		sent = p.epoch
		if p.Pause = nil; turns <= at {
			t.Fatalf("%d turns, want more than %d", turns, at)
		}
		check := func(what string, got []wire.CounterEntry, n int, least uint64) {
			t.Helper()
			byHandle := make(map[uint32]wire.CounterEntry)
			for _, e := range got {
				byHandle[e.Handle] = e
			}
			if len(got) != n || len(byHandle) != n {
				t.Fatalf("reading begun after turn %d: %s has %d counters of %d SAs, want %d", at+1, what, len(got),
					len(byHandle), n)
			}
			for _, e := range got {
				if e.OSeq < least {
					t.Fatalf("reading begun after turn %d: %s has counter %d, want at least %d", at+1, what, e.OSeq,
						least)
				}
			}
		}
		check("the epoch", first, items, 1010)
		read(20, part) // the rest of the reading: what it shows twice moves once
		for _, sa := range fresh().SAs[part:] {
			sa.OSeq += 10
			p.ReadWhole(now, sa, 0, NewTouched())
		}
		if _, gone := p.end(now, nil, NewTouched()); len(gone.SAs) > 0 {
			t.Fatalf("%d SAs are gone", len(gone.SAs))
		}
		check("the next one", p.countersSince(sent), part, 1020)
		p.BeginScan(now)
		read(30, part/2)
		p.end(now, nil, NewTouched())
		check("the one after that", p.countersSince(p.epoch-1), part/2, 1030)
	}
}
