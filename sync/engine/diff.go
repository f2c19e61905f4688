package engine

import (
	"context"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Difference is one item in which this node's kernel differs from what its
// group's master published, or from a peer's kernel. It holds no keys.
type Difference struct {
	Group string `json:"group"`
	// How is "missing" (published or with the peer, not in this kernel), "extra"
	// (in this kernel only) or "differs".
	How  string `json:"how"`
	Item string `json:"item"`
	// Fields says in what it differs, when a peer was asked.
	Fields []FieldDifference `json:"fields,omitempty"`
}

// Diff compares this node's kernel with what was published: on a standby by
// the master whose stream it follows, on the master by itself, where a
// difference is a deletion that is held back or a change not yet noticed.
func (e *Engine) Diff(ctx context.Context) ([]Difference, error) {
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	out := []Difference{}
	err = e.do(ctx, func() {
		for _, g := range e.order {
			out = append(out, g.diff(g.pick(snap))...)
		}
	})
	return out, err
}

func (g *group) diff(snap *sadb.Snapshot) []Difference {
	var out []Difference
	add := func(how, item string) { out = append(out, Difference{Group: g.name, How: how, Item: item}) }
	sas, policies := g.published()
	for _, sa := range snap.SAs {
		want, ok := sas[sa.Key]
		switch {
		case !ok:
			add("extra", sa.Key.String())
		case want != replica.CoreDigest(sa):
			add("differs", sa.Key.String())
		}
		delete(sas, sa.Key)
	}
	for k := range sas {
		add("missing", k.String())
	}
	for _, p := range snap.Policies {
		want, ok := policies[p.Key]
		switch {
		case !ok:
			add("extra", p.Key.String())
		case want != replica.PolicyDigest(p):
			add("differs", p.Key.String())
		}
		delete(policies, p.Key)
	}
	for k := range policies {
		add("missing", k.String())
	}
	return out
}

// published returns the digests of everything that should be in the kernel.
func (g *group) published() (map[sadb.SAKey]wire.Sum, map[sadb.PolicyKey]wire.Sum) {
	if g.pub != nil {
		return g.pub.Digests()
	}
	return g.rcv.Digests()
}
