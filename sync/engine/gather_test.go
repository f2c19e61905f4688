package engine

import (
	"testing"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

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

// TestCountersOfAGivenUpReadingAreSent: the election's question gives up the publishing of
// a reading between two turns. What had moved is sent after the next one all the same.
func TestCountersOfAGivenUpReadingAreSent(t *testing.T) {
	const items = 2500
	given := 0
	for turns := 0; ; turns += 2 {
		rig := newTurnsRig(items)
		to := &heardCounters{handles: make(map[uint32]bool)}
		rig.m.session = to
		rig.g.work.turns.Late = nil // a turn is of so many items
		rig.master()
		p, now := rig.g.pub, time.Now()
		p.BeginScan(now)
		for _, sa := range rig.fresh().SAs {
			sa.OSeq += 10
			p.ReadWhole(now, sa, 0, replica.NewTouched())
		}
		rig.e.run(rig.g, func() { rig.e.masterScanned(t.Context(), rig.g, now, rig.k.snap.Policies) })
		for range turns {
			if rig.e.busy() != nil {
				rig.e.turn()
			}
		}
		ended := rig.g.work.task == nil
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
