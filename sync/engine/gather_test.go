package engine

import (
	"slices"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// TestCountersAreGatheredInTurns: between two turns the next reading may begin, and
// show counters. Nothing that moved is left out of the epoch that is being gathered,
// and what the reading shows is not left out of the next one.
func TestCountersAreGatheredInTurns(t *testing.T) {
	const items = 1000
	for at := range items / turnItems { // the turn behind which the reading begins
		rig := newTurnsRig(items)
		now := time.Now()
		p := newPublisher(wire.StreamID{Group: simGroup, Term: 1}, now)
		read := func(oseq uint64, part int) {
			for _, sa := range rig.fresh().SAs[:part] {
				sa.OSeq += oseq
				p.readWhole(now, sa, 0, newTouched())
			}
		}
		p.reconcile(now, rig.fresh(), newTouched())
		sent := p.epoch
		p.begin(now)
		read(10, items)
		p.end(now, rig.k.snap.Policies, newTouched())

		turns, part := 0, items/2
		p.pause = func() {
			if turns == at {
				if turns++; len(p.sending) > turns*turnItems {
					t.Fatalf("%d SAs are gathered in %d turns, want at most %d in each", len(p.sending), turns, turnItems)
				}
				p.begin(now)
				read(20, part)
				return
			}
			turns++
		}
		first := slices.Clone(p.countersSince(sent))
		sent = p.epoch
		if p.pause = nil; turns <= at {
			t.Fatalf("%d turns, want more than %d", turns, at)
		}
		check := func(what string, got []wire.CounterEntry, n int, least uint64) {
			t.Helper()
			byHandle := make(map[uint32]wire.CounterEntry)
			for _, e := range got {
				byHandle[e.Handle] = e
			}
			if len(got) != n || len(byHandle) != n {
				t.Fatalf("reading begun after turn %d: %s has %d counters of %d SAs, want %d", at+1, what, len(got), len(byHandle), n)
			}
			for _, e := range got {
				if e.OSeq < least {
					t.Fatalf("reading begun after turn %d: %s has counter %d, want at least %d", at+1, what, e.OSeq, least)
				}
			}
		}
		check("the epoch", first, items, 1010)
		read(20, part) // the rest of the reading: what it shows twice moves once
		for _, sa := range rig.fresh().SAs[part:] {
			sa.OSeq += 10
			p.readWhole(now, sa, 0, newTouched())
		}
		if _, gone := p.end(now, rig.k.snap.Policies, newTouched()); len(gone.sas) > 0 {
			t.Fatalf("%d SAs are gone", len(gone.sas))
		}
		check("the next one", p.countersSince(sent), part, 1020)
		p.begin(now)
		read(30, part/2)
		p.end(now, nil, newTouched())
		check("the one after that", p.countersSince(p.epoch-1), part/2, 1030)
	}
}

// heardCounters notes whose counters it is sent.
type heardCounters struct {
	nullSession
	handles map[uint32]bool
}

func (h *heardCounters) Send(m wire.Message) bool {
	if c, ok := m.(*wire.Counters); ok {
		for _, e := range c.Entries {
			h.handles[e.Handle] = true
		}
	}
	return true
}

// TestCountersOfAGivenUpReadingAreSent: a hand-over gives up the publishing of a
// reading between two turns. The successor hears of all that had moved all the same.
func TestCountersOfAGivenUpReadingAreSent(t *testing.T) {
	const items = 2500
	given := 0
	for turns := 0; ; turns += 2 {
		rig := newTurnsRig(items)
		to := &heardCounters{handles: make(map[uint32]bool)}
		rig.m.session = to
		rig.g.turns.late = nil // a turn is of so many items
		rig.master()
		p, now := rig.g.pub, time.Now()
		p.begin(now)
		for _, sa := range rig.fresh().SAs {
			sa.OSeq += 10
			p.readWhole(now, sa, 0, newTouched())
		}
		rig.e.run(rig.g, func() { rig.e.masterScanned(t.Context(), rig.g, now, rig.k.snap.Policies) })
		for range turns {
			if rig.e.busy() != nil {
				rig.e.turn()
			}
		}
		ended := rig.g.task == nil
		rig.e.giveUp(rig.g)
		if n := len(to.handles); n > 0 && n < items {
			given++
		}
		rig.e.publishDump(rig.g, rig.fresh()) // in which nothing has moved
		if n := len(to.handles); n != items {
			t.Errorf("given up after %d turns: the standby has heard %d of %d counters", turns+1, n, items)
		}
		if ended {
			break
		}
	}
	if given == 0 {
		t.Error("never given up between two messages: this is not what is meant")
	}
}
