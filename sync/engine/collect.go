package engine

import (
	"context"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// After a takeover the IKE daemon negotiates every tunnel afresh, and nobody
// but sasyncd knows of the replicated SAs any more. They stay until they are
// superseded: until SAs that were made here since carry the same traffic, and
// the remote has stopped using the old ones.

// supersededEvery is how often replicated SAs are looked through.
const supersededEvery = 5 * time.Second

// deleteSuperseded deletes what is superseded.
func (e *Engine) deleteSuperseded(ctx context.Context, g *group, now time.Time) {
	if now.Sub(g.reading.collected) < supersededEvery {
		return
	}
	g.reading.collected = now
	old := g.pub.Superseded(now)
	if len(old) == 0 {
		return
	}
	old = old[:min(len(old), replica.TurnOps)] // the rest has time
	ops := make([]sadb.Op, len(old))
	for i, k := range old {
		ops[i] = sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: k}}
	}
	var recs []wire.Record
	for i, err := range e.apply(ctx, ops) {
		if err != nil {
			e.kernelError(g, ops[i], err)
			continue
		}
		g.touchOp(e.dump.running, ops[i])
		if r, ok := g.pub.DeleteSA(now, old[i]); ok {
			recs = append(recs, r)
		}
		e.stats.Collected++
	}
	e.log.Info("replicated SAs collected, as others carry their traffic", "group", g.name, "sas", len(recs))
	e.publish(g, recs)
}

// endOutlived publishes the deletion of SAs that `flushmode never` kept published after a
// flush, and whose lifetime is over.
func (e *Engine) endOutlived(g *group, now time.Time) {
	if e.cfg.ForwardFlush {
		return // nothing is kept
	}
	var recs []wire.Record
	for _, k := range g.pub.Outlived(now) {
		if r, ok := g.pub.DeleteSA(now, k); ok {
			recs = append(recs, r)
		}
	}
	e.publish(g, recs)
}
