// Package compare finds what differs between two pictures of a group: kernels of two
// gateways, or a kernel and what was published.
package compare

import (
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

// Published compares what the kernel holds of a group with the digests of what was
// published. It uses both maps up.
func Published(group string, sas map[sadb.SAKey]wire.Sum, policies map[sadb.PolicyKey]wire.Sum,
	snap *sadb.Snapshot) []Difference {
	var out []Difference
	add := func(how, item string) { out = append(out, Difference{Group: group, How: how, Item: item}) }
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
