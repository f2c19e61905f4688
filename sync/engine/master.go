package engine

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// publishDump is publishRead for a dump that nothing came between. A reading
// under way is older.
func (e *Engine) publishDump(g *group, snap *sadb.Snapshot) {
	now := time.Now()
	gone := g.pub.compare(now, snap, newTouched(), func(recs []wire.Record) { e.publishFound(g, recs) })
	if g.holds.len() > 0 {
		for _, sa := range snap.SAs {
			g.holds.putSA(sa.Key)
		}
		for _, p := range snap.Policies {
			g.holds.putPolicy(p.Key)
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
func (e *Engine) publishRead(g *group, now time.Time, gone missing) {
	if g.flushed && !e.cfg.ForwardFlush {
		g.pub.haunt(gone)
		gone = missing{}
	}
	g.flushed = false
	// What goes together does not cover each other.
	g.pub.uncoverAll(gone.sas)
	out := outbox{e: e, g: g}
	for _, k := range gone.sas {
		out.item()
		out.add(e.goneSA(g, now, k)...)
	}
	out.flush()
	for _, k := range gone.policies {
		if g.pub.item(); g.holds.holdPolicy(k, now.Add(holdTime)) {
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
func (o *outbox) item() { o.g.pub.itemAfter(o.flush) }

func (e *Engine) unhold(g *group, r wire.Record) {
	switch r.Kind {
	case wire.PutSA:
		g.holds.putSA(r.SA.Key)
	case wire.PutPolicy:
		g.holds.putPolicy(r.Policy.Key)
	}
}

// forwardDue publishes the deletions that have been held back long enough. A flush
// is forwarded whole or not at all: half of it would leave the next master with
// tunnels of which one direction is missing. So once the first record is sent, giving
// up the task sends the others at once.
func (e *Engine) forwardDue(g *group, now time.Time) {
	g.holds.release(now, func(k sadb.SAKey) bool { g.pub.item(); return g.pub.covered(k) }) // by what came after the deletion
	due := g.holds.due(now, g.pub.item)
	out := outbox{e: e, g: g}
	next := func() bool {
		switch {
		case len(due.sas) > 0:
			k := due.sas[0]
			if due.sas = due.sas[1:]; !g.holds.takeSA(k) {
				return true
			}
			if r, ok := g.pub.deleteSA(now, k); ok {
				out.add(r)
			}
		case len(due.policies) > 0:
			k := due.policies[0]
			if due.policies = due.policies[1:]; !g.holds.takePolicy(k) {
				return true
			}
			if r, ok := g.pub.deletePolicy(now, k); ok {
				out.add(r)
			}
		default:
			return false
		}
		return true
	}
	g.finish = func() {
		for next() {
		}
		out.flush()
	}
	for next() {
		out.item()
	}
	g.finish = nil
	out.flush()
}

// goneSA publishes a deletion that ends a rekey and holds back any other.
func (e *Engine) goneSA(g *group, now time.Time, k sadb.SAKey) []wire.Record {
	if g.pub.covered(k) {
		if r, ok := g.pub.deleteSA(now, k); ok {
			return []wire.Record{r}
		}
		return nil
	}
	g.pub.uncoverSA(k)
	if g.holds.holdSA(k, now.Add(holdTime)) {
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
		dir, ok := g.scope.sa(ev.SA)
		if !ok {
			return nil
		}
		sa := g.own(ev.SA)
		sa.Dir = dir
		g.touch(e.dumping, sa.Key)
		g.holds.putSA(sa.Key)
		if r, ok := g.pub.putSA(now, sa); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeleteSA, sadb.EventExpireSA:
		if ev.Kind == sadb.EventExpireSA && !ev.Hard {
			return nil
		}
		g.touch(e.dumping, ev.SA.Key)
		if g.pub.sa(ev.SA.Key) == nil {
			return nil
		}
		recs = e.goneSA(g, now, ev.SA.Key)
	case sadb.EventPutPolicy:
		if !g.scope.policy(ev.Policy) {
			return nil
		}
		g.touched.touchPolicy(ev.Policy.Key)
		g.holds.putPolicy(ev.Policy.Key)
		if r, ok := g.pub.putPolicy(now, ev.Policy); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeletePolicy, sadb.EventExpirePolicy:
		if ev.Kind == sadb.EventExpirePolicy && !ev.Hard {
			return nil
		}
		if !g.pub.policyDeleted(ev.Policy.Key) {
			return nil
		}
		g.touched.touchPolicy(ev.Policy.Key)
		if g.holds.holdPolicy(ev.Policy.Key, now.Add(holdTime)) {
			e.stats.HeldDeletes++
		}
	}
	return recs
}

// followPromotion does the part of a promotion that may come after the VIPs:
// restoring soft limits.
func (e *Engine) followPromotion(ctx context.Context, g *group) {
	if len(g.trail) == 0 {
		if g.trail = nil; g.pub != nil {
			g.rcv.letGo()
		}
		return
	}
	chunk := g.trail[:min(applyChunk, len(g.trail))]
	g.trail = g.trail[len(chunk):]
	if g.pub != nil {
		// Limits are restored, and nothing else undone that has happened since.
		for i := range chunk {
			if now := g.pub.sa(chunk[i].SA.Key); now != nil && now.Encap != nil {
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
