package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// flushedBy notes a flush that is not our own. On a master policies come back at
// once and whoever flushed them, because without them what they protect leaves in
// plaintext. SAs come back only where a flush is how the IKE daemon starts; otherwise
// it is an operator's wish. Such a start flushes both tables, in any order, so the SAs
// wait for flushSettle for the policies, which always go first.
func (e *Engine) flushedBy(ctx context.Context, ev sadb.Event) {
	policies := ev.Kind == sadb.EventFlushPolicy
	e.log.Warn("the kernel's tables were flushed", "policies", policies, "forwarded", e.cfg.ForwardFlush)
	for _, g := range e.order {
		switch master := g.role == wire.RoleMaster && g.pub != nil; {
		case master && policies:
			g.reading.lostPolicies = append(g.reading.lostPolicies, ev.Sub)
			e.run(g, func() { e.policiesBack(ctx, g) })
			e.sasBack(ctx, g)
		case master && e.flushesOnStart(g):
			g.reading.emptied = true
			if e.settled == nil {
				e.settled = time.After(flushSettle)
			}
		default:
			g.reading.flushed = true
		}
	}
	e.dump.stale = e.dump.running // it may show half of the flush
	e.requestDump(ctx)
}

// flushSettle is how long the SAs that a starting IKE daemon has flushed stay away for
// the sake of the policies, should it flush these too.
const flushSettle = 2 * time.Millisecond

// sasBack has the SAs of an emptied group put back.
func (e *Engine) sasBack(ctx context.Context, g *group) {
	if g.reading.emptied {
		g.reading.emptied = false
		e.run(g, func() { e.reinsert(ctx, g, time.Now()) })
	}
}

// policiesBack puts back the policies that were flushed.
func (e *Engine) policiesBack(ctx context.Context, g *group) {
	for len(g.reading.lostPolicies) > 0 {
		sub := g.reading.lostPolicies[0]
		g.reading.lostPolicies = g.reading.lostPolicies[1:]
		e.reinsertPolicies(ctx, g, sub)
	}
}

// reinsertPolicies puts back the policies of a type, but for those that the kernel
// has said to be deleted. One that is merely missing, as a reading shows that was
// faster than the event, is of the flush.
func (e *Engine) reinsertPolicies(ctx context.Context, g *group, sub bool) {
	if g.role != wire.RoleMaster || g.pub == nil {
		return
	}
	ops := g.pub.PoliciesOf(sub)
	for _, op := range ops {
		g.pub.Item()
		g.holds.CancelPolicy(op.Policy.Key)
	}
	n := 0
	for chunk := range slices.Chunk(ops, replica.TurnOps) {
		for i, err := range e.apply(ctx, chunk) {
			g.touchOp(e.dump.running, chunk[i])
			switch {
			case err == nil:
				n++
			case !errors.Is(err, fs.ErrExist): // somebody was faster, the IKE daemon for instance
				e.kernelError(g, chunk[i], err)
			}
		}
		e.pause()
	}
	if n > 0 {
		e.stats.PoliciesBack += uint64(n)
		e.log.Warn("the policies were flushed, they are back", "group", g.name, "policies", n)
	}
}

// reinsert puts back what the start of an IKE daemon has flushed from the kernel
// of a master. Outbound counters go ahead as a standby's do, for the last
// reading is up to an interval old.
func (e *Engine) reinsert(ctx context.Context, g *group, now time.Time) {
	if g.role != wire.RoleMaster || g.pub == nil {
		return
	}
	ops := g.pub.Reinsertion(now, e.cfg.Margin)
	n := 0
	for chunk := range slices.Chunk(ops, replica.TurnOps) {
		e.policiesBack(ctx, g) // flushed since the last turn
		e.execOwn(ctx, g, chunk, func(i int, err error) {
			if err == nil && g.pub.Reinserted(now, chunk[i].SA) {
				n++
			}
		})
		e.pause()
	}
	e.stats.Reinserted += uint64(n)
	e.log.Warn("the ike daemon has flushed the SAs at its start, they are back", "group", g.name, "sas", n)
	e.dump.stale = e.dump.running // it may have begun before
	e.requestDump(ctx)
}
