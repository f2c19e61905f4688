package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// flushedBy follows a flush that is not our own. On a master policies come back at
// once and whoever flushed them, because without them what they protect leaves in
// plaintext. SAs come back, after everything else that has happened, only where a
// flush is how the IKE daemon starts; otherwise it is an operator's wish.
func (e *Engine) flushedBy(ctx context.Context, ev sadb.Event) {
	policies := ev.Kind == sadb.EventFlushPolicy
	e.log.Warn("the kernel's tables were flushed", "policies", policies, "forwarded", e.cfg.ForwardFlush)
	pending := false
	for _, g := range e.order {
		switch master := g.role == wire.RoleMaster && g.pub != nil; {
		case master && policies:
			e.reinsertPolicies(ctx, g, ev.Sub)
		case master && e.flushesOnStart(g):
			g.emptied, pending = true, true
		default:
			g.flushed = true
		}
	}
	e.dumpStale = e.dumping // it may show half of the flush
	if !pending {
		e.requestDump(ctx)
	}
}

// reinsertPolicies puts back the policies of a type, but for those that the kernel
// has said to be deleted. One that is merely missing, as a reading shows that was
// faster than the event, is of the flush.
func (e *Engine) reinsertPolicies(ctx context.Context, g *group, sub bool) {
	var ops []sadb.Op
	for k, p := range g.pub.policies {
		if k.Sub == sub && !p.ghost && !p.deleted {
			g.holds.putPolicy(k)
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p.policy})
		}
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
	list := slices.SortedFunc(maps.Values(g.pub.sas), func(a, b *pubSA) int { return cmp.Compare(b.handle, a.handle) })
	var ops []sadb.Op
	for _, p := range oldestFirst(list, func(p *pubSA) uint64 { g.pub.age(now, p); return p.sa.Age }) {
		c := *p.sa
		c.Bitmap = nil // the whole window counts as seen
		if c.Dir != sadb.DirIn {
			lead, _ := e.cfg.Margin.Lead(c.ESN(), 0, 0)
			v, covered := sadb.Ahead(c.ESN(), c.OSeq, lead)
			if !covered {
				continue // the IKE daemon negotiates it anew
			}
			c.OSeq = v
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
	}
	n := 0
	for len(ops) > 0 {
		chunk := ops[:min(applyChunk, len(ops))]
		ops = ops[len(chunk):]
		for i, err := range e.apply(ctx, chunk) {
			if err != nil {
				e.kernelError(g, chunk[i], err)
				continue
			}
			n++
			g.touchOp(e.dumping, chunk[i])
			// The daemon that has started knows none of them.
			p := g.pub.sas[chunk[i].SA.Key]
			g.pub.take(now, p)
			c := chunk[i].SA
			g.pub.noteCounters(now, p, &c.Counters, c.Used, c.UseAge)
		}
	}
	e.stats.Reinserted += uint64(n)
	e.log.Warn("the ike daemon has flushed the SAs at its start, they are back", "group", g.name, "sas", n)
}
