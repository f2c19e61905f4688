package engine

import (
	"context"
	"testing"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// deltas notes the records that it is sent.
type deltas struct {
	nullSession
	next    uint64 // number of the next one, 0: of any
	records []wire.RecordKind
	torn    bool // a number is missing
}

func (d *deltas) Send(m wire.Message) bool {
	if b, ok := m.(*wire.Batch); ok {
		d.torn = d.torn || d.next != 0 && b.First != d.next
		d.next = b.First + uint64(len(b.Records))
		for i := range b.Records {
			d.records = append(d.records, b.Records[i].Kind)
		}
	}
	return true
}

// TestFlushIsForwardedWholeOrNot: whenever the mastership is lost, the standby has
// been told all of a flush or nothing of it, and the ex-master holds what it has told.
func TestFlushIsForwardedWholeOrNot(t *testing.T) {
	const items = 1000
	none, all := 0, 0
	for turns := 0; ; turns++ {
		rig := newTurnsRig(items)
		to := &deltas{}
		rig.m.session = to
		work := forwarding(rig)
		pub, before := rig.g.pub, rig.g.pub.Seq()
		done := false
		rig.e.run(rig.g, func() { work(); done = true })
		for range turns {
			if rig.e.busy() != nil {
				rig.e.turn()
			}
		}
		ended := done // before the loss
		rig.e.loseMaster(t.Context(), rig.g)
		rig.e.giveUp(rig.g)
		sas, policies := 0, 0
		for _, k := range to.records {
			switch k {
			case wire.DelSA:
				sas++
			case wire.DelPolicy:
				policies++
			}
		}
		leftSAs, leftPolicies := pub.Size()
		switch {
		case sas == 0 && policies == 0 && leftSAs == items && leftPolicies == items:
			none++
		case sas == items && policies == items && leftSAs == 0 && leftPolicies == 0:
			all++
		default:
			t.Errorf("lost after %d turns: %d of %d SAs and %d of %d policies are deleted at the standby, %d and %d "+
				"are left here",
				turns+1, sas, items, policies, items, leftSAs, leftPolicies)
		}
		if got := pub.Seq() - before; to.torn || got != uint64(len(to.records)) || rig.g.rcv.Pos().Seq != pub.Seq() {
			t.Errorf("lost after %d turns: %d numbers are given, %d records sent, in order: %v", turns+1, got,
				len(to.records), !to.torn)
		}
		if ended {
			break
		}
	}
	if none < 3 || all < 2*items/replica.TurnItems-1 {
		t.Errorf("lost before the first record %d times and after it %d times: this is not what is meant", none, all)
	}
}

// forwarding has the rig, MASTER, forward a flush of all that it publishes.
func forwarding(r *turnsRig) func() {
	r.master()
	now := time.Now()
	for _, sa := range r.k.snap.SAs {
		r.g.holds.HoldSA(sa.Key, now)
	}
	for _, p := range r.k.snap.Policies {
		r.g.holds.HoldPolicy(p.Key, now)
	}
	return func() { r.e.groupTurn(context.Background(), r.g, now) }
}
