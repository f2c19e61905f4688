package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"sasyncd/sync/sadb"
)

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
