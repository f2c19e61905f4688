package compare

import (
	"bytes"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// comparableSA returns an item as it is compared: without what a standby changes on
// purpose.
func comparableSA(sa *sadb.SA) *sadb.SA {
	c := *sa
	c.Limits, c.Dir, c.Counters = sadb.Limits{}, sadb.DirUnknown, sadb.Counters{}
	c.Age, c.Used, c.UseAge = 0, false, 0
	return &c
}

func comparablePolicy(p *sadb.Policy) *sadb.Policy {
	c := *p
	c.Limits, c.Use = sadb.Limits{}, sadb.Use{}
	return &c
}

// Sums returns the sums over what a kernel holds.
func Sums(snap *sadb.Snapshot) (s replica.Sums) {
	for _, sa := range snap.SAs {
		s.AddItem(wire.SAKeyDigest(sa.Key), wire.SADigest(comparableSA(sa)))
	}
	for _, p := range snap.Policies {
		s.AddItem(wire.PolicyKeyDigest(&p.Key), wire.PolicyDigest(comparablePolicy(p)))
	}
	return s
}

// Items returns the items of some buckets, by the digests of their identities
// and without keys.
func Items(snap *sadb.Snapshot, salt wire.NodeID, buckets []uint16) map[wire.Sum]wire.Record {
	var in [replica.SumBuckets]bool
	for _, b := range buckets {
		in[b] = true
	}
	out := make(map[wire.Sum]wire.Record)
	for _, sa := range snap.SAs {
		if k := wire.SAKeyDigest(sa.Key); in[k.Bucket(replica.SumBuckets)] {
			out[k] = wire.Record{Kind: wire.PutSA, SA: wire.Redact(comparableSA(sa), salt)}
		}
	}
	for _, p := range snap.Policies {
		if k := wire.PolicyKeyDigest(&p.Key); in[k.Bucket(replica.SumBuckets)] {
			out[k] = wire.Record{Kind: wire.PutPolicy, Policy: comparablePolicy(p)}
		}
	}
	return out
}

// Found is a difference and where it was found.
type Found struct {
	Difference
	Key wire.Sum
}

// Records compares items of this node with those of a peer.
func Records(group string, here, there map[wire.Sum]wire.Record) []Found {
	var out []Found
	add := func(k wire.Sum, how string, r wire.Record, fields []FieldDifference) {
		out = append(out, Found{Difference{Group: group, How: how, Item: itemName(r), Fields: fields}, k})
	}
	for k, a := range here {
		b, ok := there[k]
		switch {
		case !ok:
			add(k, "extra", a, nil)
		case a.Kind == b.Kind && sameRecord(a, b):
		default:
			add(k, "differs", a, fieldsOf(a, b))
		}
	}
	for k, b := range there {
		if _, ok := here[k]; !ok {
			add(k, "missing", b, nil)
		}
	}
	return out
}

func itemName(r wire.Record) string {
	if r.SA != nil {
		return r.SA.Key.String()
	}
	return r.Policy.Key.String()
}

func sameRecord(a, b wire.Record) bool {
	if a.SA != nil && b.SA != nil {
		return bytes.Equal(wire.AppendSA(nil, a.SA), wire.AppendSA(nil, b.SA))
	}
	return a.Policy != nil && b.Policy != nil && bytes.Equal(wire.AppendPolicy(nil, a.Policy),
		wire.AppendPolicy(nil, b.Policy))
}
