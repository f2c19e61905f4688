package engine

import (
	"context"

	"sasyncd/sync/compare"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Diff compares this node's kernel with what was published: on a standby by
// the master whose stream it follows, on the master by itself, where a
// difference is a deletion that is held back or a change not yet noticed.
func (e *Engine) Diff(ctx context.Context) ([]compare.Difference, error) {
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	out := []compare.Difference{}
	err = e.inTurns(ctx, func() {
		for _, g := range e.order {
			sas, policies := g.published()
			out = append(out, compare.Published(g.name, sas, policies, g.pick(snap))...)
		}
	})
	return out, err
}

// published returns the digests of everything that should be in the kernel.
func (g *group) published() (map[sadb.SAKey]wire.Sum, map[sadb.PolicyKey]wire.Sum) {
	if g.pub != nil {
		return g.pub.Digests()
	}
	return g.rcv.Digests()
}
