package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

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
			g.lostPolicies = append(g.lostPolicies, ev.Sub)
			e.run(g, func() { e.policiesBack(ctx, g) })
			e.sasBack(ctx, g)
		case master && e.flushesOnStart(g):
			g.emptied = true
			if e.settled == nil {
				e.settled = time.After(flushSettle)
			}
		default:
			g.flushed = true
		}
	}
	e.dumpStale = e.dumping // it may show half of the flush
	e.requestDump(ctx)
}

// flushSettle is how long the SAs that a starting IKE daemon has flushed stay away for
// the sake of the policies, should it flush these too.
const flushSettle = 2 * time.Millisecond

// sasBack has the SAs of an emptied group put back.
func (e *Engine) sasBack(ctx context.Context, g *group) {
	if g.emptied {
		g.emptied = false
		e.run(g, func() { e.reinsert(ctx, g, time.Now()) })
	}
}

// policiesBack puts back the policies that were flushed.
func (e *Engine) policiesBack(ctx context.Context, g *group) {
	for len(g.lostPolicies) > 0 {
		sub := g.lostPolicies[0]
		g.lostPolicies = g.lostPolicies[1:]
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
	ops := g.pub.policiesOf(sub)
	for _, op := range ops {
		g.pub.item()
		g.holds.putPolicy(op.Policy.Key)
	}
	n := 0
	for chunk := range slices.Chunk(ops, applyChunk) {
		for i, err := range e.apply(ctx, chunk) {
			g.touchOp(e.dumping, chunk[i])
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

// policiesOf returns the published policies of a type (sadb.PolicyKey.Sub) as operations,
// but for those that the kernel has said to be deleted.
func (p *publisher) policiesOf(sub bool) (ops []sadb.Op) {
	for k, e := range p.policies {
		p.item()
		if k.Sub == sub && !e.ghost && !e.deleted {
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: e.policy})
		}
	}
	return ops
}

// reinsertion returns what puts all published SAs into an empty kernel, the oldest
// first. Outbound counters go ahead as a standby's do.
func (p *publisher) reinsertion(now time.Time, m sadb.Margin) (ops []sadb.Op) {
	for _, e := range p.byAge(now) {
		p.item()
		c := *e.sa
		c.Bitmap = nil // the whole window counts as seen
		if c.Dir != sadb.DirIn {
			lead, _ := m.Lead(c.ESN(), 0, 0)
			v, covered := sadb.Ahead(c.ESN(), c.OSeq, lead)
			if !covered {
				continue // the IKE daemon negotiates it anew
			}
			c.OSeq = v
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
	}
	return ops
}

// reinserted notes that an operation of reinsertion has been carried out, and reports
// whether the SA is still published. The IKE daemon that has started does not know it.
func (p *publisher) reinserted(now time.Time, sa *sadb.SA) bool {
	e := p.sas[sa.Key]
	if e == nil {
		return false
	}
	p.take(now, e)
	p.noteCounters(now, e, &sa.Counters, sa.Used, sa.UseAge)
	return true
}

// reinsert puts back what the start of an IKE daemon has flushed from the kernel
// of a master. Outbound counters go ahead as a standby's do, for the last
// reading is up to an interval old.
func (e *Engine) reinsert(ctx context.Context, g *group, now time.Time) {
	if g.role != wire.RoleMaster || g.pub == nil {
		return
	}
	ops := g.pub.reinsertion(now, e.cfg.Margin)
	n := 0
	for chunk := range slices.Chunk(ops, applyChunk) {
		e.policiesBack(ctx, g) // flushed since the last turn
		e.execOwn(ctx, g, chunk, func(i int, err error) {
			if err == nil && g.pub.reinserted(now, chunk[i].SA) {
				n++
			}
		})
		e.pause()
	}
	e.stats.Reinserted += uint64(n)
	e.log.Warn("the ike daemon has flushed the SAs at its start, they are back", "group", g.name, "sas", n)
	e.dumpStale = e.dumping // it may have begun before
	e.requestDump(ctx)
}
