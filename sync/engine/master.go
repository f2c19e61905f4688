package engine

import (
	"context"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// publishDump is publishRead for a dump that nothing came between. A reading
// under way is older.
func (e *Engine) publishDump(g *group, snap *sadb.Snapshot) {
	now := time.Now()
	gone := g.pub.Compare(now, snap, replica.NewTouched(), func(recs []wire.Record) { e.publishFound(g, recs) })
	if g.holds.Len() > 0 {
		for _, sa := range snap.SAs {
			g.holds.CancelSA(sa.Key)
		}
		for _, p := range snap.Policies {
			g.holds.CancelPolicy(p.Key)
		}
	}
	e.publishRead(g, now, gone)
}

// publishFound sends what a reading has shown to be new or changed.
func (e *Engine) publishFound(g *group, recs []wire.Record) {
	for _, r := range recs {
		e.unhold(g, r)
	}
	e.publish(g, recs)
}

// publishRead holds back what a reading has shown to be gone, and sends the
// counters that moved.
func (e *Engine) publishRead(g *group, now time.Time, gone replica.Missing) {
	if g.reading.flushed && !e.cfg.ForwardFlush {
		g.pub.RetainFlushed(gone)
		gone = replica.Missing{}
	}
	g.reading.flushed = false
	// What goes together does not cover each other.
	g.pub.UncoverAll(gone.SAs)
	out := outbox{e: e, g: g}
	for _, k := range gone.SAs {
		out.item()
		out.add(e.goneSA(g, now, k)...)
	}
	out.flush()
	for _, k := range gone.Policies {
		if g.pub.Item(); g.holds.HoldPolicy(k, now.Add(holdTime)) {
			e.stats.HeldDeletes++
		}
	}
	e.sendCounters(g, now)
}

// outbox collects the records of a computation over many items and sends them
// before each of its pauses: a number that is given is sent before the turn ends.
type outbox struct {
	e    *Engine
	g    *group
	recs []wire.Record
}

func (o *outbox) add(recs ...wire.Record) { o.recs = append(o.recs, recs...) }

func (o *outbox) flush() {
	o.e.publish(o.g, o.recs)
	o.recs = nil
}

// item counts one item.
func (o *outbox) item() { o.g.pub.ItemAfter(o.flush) }

func (e *Engine) unhold(g *group, r wire.Record) {
	switch r.Kind {
	case wire.PutSA:
		g.holds.CancelSA(r.SA.Key)
	case wire.PutPolicy:
		g.holds.CancelPolicy(r.Policy.Key)
	}
}

// forwardDue publishes the deletions that have been held back long enough. A flush
// is forwarded whole or not at all: half of it would leave the next master with
// tunnels of which one direction is missing. So once the first record is sent, giving
// up the task sends the others at once.
func (e *Engine) forwardDue(g *group, now time.Time) {
	// by what came after the deletion
	g.holds.Release(now, func(k sadb.SAKey) bool { g.pub.Item(); return g.pub.Covered(k) })
	due := g.holds.Due(now, g.pub.Item)
	out := outbox{e: e, g: g}
	next := func() bool {
		switch {
		case len(due.SAs) > 0:
			k := due.SAs[0]
			if due.SAs = due.SAs[1:]; !g.holds.TakeSA(k) {
				return true
			}
			if r, ok := g.pub.DeleteSA(now, k); ok {
				out.add(r)
			}
		case len(due.Policies) > 0:
			k := due.Policies[0]
			if due.Policies = due.Policies[1:]; !g.holds.TakePolicy(k) {
				return true
			}
			if r, ok := g.pub.DeletePolicy(now, k); ok {
				out.add(r)
			}
		default:
			return false
		}
		return true
	}
	g.work.finish = func() {
		for next() {
		}
		out.flush()
	}
	for next() {
		out.item()
	}
	g.work.finish = nil
	out.flush()
}

// goneSA publishes a deletion that ends a rekey and holds back any other.
func (e *Engine) goneSA(g *group, now time.Time, k sadb.SAKey) []wire.Record {
	if g.pub.Covered(k) {
		if r, ok := g.pub.DeleteSA(now, k); ok {
			return []wire.Record{r}
		}
		return nil
	}
	g.pub.UncoverSA(k)
	if g.holds.HoldSA(k, now.Add(holdTime)) {
		e.stats.HeldDeletes++
	}
	return nil
}

// masterEvent returns what a change of the kernel's tables adds to the stream.
func (e *Engine) masterEvent(g *group, now time.Time, ev sadb.Event) (recs []wire.Record) {
	switch ev.Kind {
	case sadb.EventMapping:
		g.noteMapping(now, ev)
	case sadb.EventPutSA:
		dir, ok := g.own.scope.SA(ev.SA)
		if !ok {
			return nil
		}
		sa := g.keep(ev.SA)
		sa.Dir = dir
		g.touch(e.dump.running, sa.Key)
		g.holds.CancelSA(sa.Key)
		if r, ok := g.pub.PutSA(now, sa); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeleteSA, sadb.EventExpireSA:
		if ev.Kind == sadb.EventExpireSA && !ev.Hard {
			return nil
		}
		g.touch(e.dump.running, ev.SA.Key)
		if g.pub.SA(ev.SA.Key) == nil {
			return nil
		}
		recs = e.goneSA(g, now, ev.SA.Key)
	case sadb.EventPutPolicy:
		if !g.own.scope.Policy(ev.Policy) {
			return nil
		}
		g.reading.touched.AddPolicy(ev.Policy.Key)
		g.holds.CancelPolicy(ev.Policy.Key)
		if r, ok := g.pub.PutPolicy(now, ev.Policy); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeletePolicy, sadb.EventExpirePolicy:
		if ev.Kind == sadb.EventExpirePolicy && !ev.Hard {
			return nil
		}
		if !g.pub.PolicyDeleted(ev.Policy.Key) {
			return nil
		}
		g.reading.touched.AddPolicy(ev.Policy.Key)
		if g.holds.HoldPolicy(ev.Policy.Key, now.Add(holdTime)) {
			e.stats.HeldDeletes++
		}
	}
	return recs
}

// followPromotion does the part of a promotion that may come after the VIPs:
// restoring soft limits.
func (e *Engine) followPromotion(ctx context.Context, g *group) {
	if len(g.promotion.softLimitOps) == 0 {
		if g.promotion.softLimitOps = nil; g.pub != nil {
			g.rcv.KeepNames()
		}
		return
	}
	chunk := g.promotion.softLimitOps[:min(replica.TurnOps, len(g.promotion.softLimitOps))]
	g.promotion.softLimitOps = g.promotion.softLimitOps[len(chunk):]
	if g.pub != nil {
		// Limits are restored, and nothing else undone that has happened since.
		for i := range chunk {
			if now := g.pub.SA(chunk[i].SA.Key); now != nil && now.Encap != nil {
				sa := *chunk[i].SA
				sa.Encap = now.Encap
				chunk[i].SA = &sa
			}
		}
	}
	for i, err := range e.apply(ctx, chunk) {
		if err != nil {
			e.kernelError(g, chunk[i], err)
		}
	}
}
