package engine

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
)

// reinsert puts back what the start of an IKE daemon has flushed from the kernel
// of a master. Outbound counters go ahead as a standby's do, for the last
// reading is up to an interval old.
func (e *Engine) reinsert(ctx context.Context, g *group, now time.Time) {
	sas := make([]*sadb.SA, 0, len(g.pub.sas))
	for _, p := range g.pub.sas {
		p.age(now)
		sas = append(sas, p.sa)
	}
	sortByHandle(sas, func(k sadb.SAKey) uint32 { return g.pub.sas[k].handle })
	var ops []sadb.Op
	for _, sa := range oldestFirst(sas) {
		c := *sa
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
		for i, err := range e.kernel.Apply(ctx, chunk) {
			if err != nil {
				e.kernelError(g, chunk[i], err)
				continue
			}
			n++
			g.touch(chunk[i])
			// The daemon that has started knows none of them.
			p := g.pub.sas[chunk[i].SA.Key]
			g.pub.take(now, p)
			g.pub.noteCounters(now, p, chunk[i].SA)
		}
	}
	e.stats.Reinserted += uint64(n)
	e.log.Warn("the ike daemon has flushed the SAs at its start, they are back", "group", g.name, "sas", n)
}
