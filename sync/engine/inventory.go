package engine

import (
	"bytes"
	"context"
	"fmt"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// inventory reads what the kernel holds of a group.
func (e *Engine) inventory(ctx context.Context, group string) (*sadb.Snapshot, error) {
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	var out *sadb.Snapshot
	err = e.do(ctx, func() {
		if g := e.groups[group]; g != nil && g.known() {
			out = g.pick(snap)
		}
	})
	if err == nil && out == nil {
		err = fmt.Errorf("group %s: its virtual addresses are not known yet", group)
	}
	return out, err
}

// inventoryBatch is how many records travel in one message.
const inventoryBatch = 64

// compared answers a peer's question, one at a time: it costs a reading of the
// kernel's tables.
func (e *Engine) compared(ctx context.Context, m *member, msg *wire.Compare) {
	sorry := func(why string) { e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Error: why}) }
	switch g := e.groups[msg.Group]; {
	case m.inventory:
		sorry("the answer to an earlier question is not finished")
		return
	case g == nil || !g.known():
		sorry("group " + msg.Group + " is not configured here, or its virtual addresses are not known")
		return
	case msg.Of != replica.SumBuckets:
		sorry(fmt.Sprintf("%d buckets are not what this version has", msg.Of))
		return
	}
	m.inventory = true
	go func() {
		snap, err := e.inventory(ctx, msg.Group)
		var records []wire.Record
		if err == nil && len(msg.Buckets) > 0 {
			for _, r := range itemsOf(snap, msg.Salt, msg.Buckets) {
				records = append(records, r)
			}
		}
		_ = e.do(ctx, func() { // fails when the engine has ended
			m.inventory = false
			switch {
			case e.members[m.session] != m:
			case err != nil:
				sorry("reading the tables failed")
			case len(records) > compareMost:
				sorry(fmt.Sprintf("%d items at once are too many", len(records)))
			case len(msg.Buckets) == 0:
				s := sumsOf(snap)
				e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Sums: s[:]})
			default:
				for more := true; more; {
					n := min(len(records), inventoryBatch)
					more = n < len(records)
					if !e.send(m, &wire.Inventory{Token: msg.Token, Last: !more, Records: records[:n]}) {
						return
					}
					records = records[n:]
				}
			}
		})
	}()
}

// bare returns an item as it is compared: without what a standby changes on
// purpose.
func bare(sa *sadb.SA) *sadb.SA {
	c := *sa
	c.Limits, c.Dir, c.Counters = sadb.Limits{}, sadb.DirUnknown, sadb.Counters{}
	c.Age, c.Used, c.UseAge = 0, false, 0
	return &c
}

func barePolicy(p *sadb.Policy) *sadb.Policy {
	c := *p
	c.Limits, c.Use = sadb.Limits{}, sadb.Use{}
	return &c
}

// sumsOf returns the sums over what a kernel holds.
func sumsOf(snap *sadb.Snapshot) (s replica.Sums) {
	for _, sa := range snap.SAs {
		s.AddItem(wire.SAKeyDigest(sa.Key), wire.SADigest(bare(sa)))
	}
	for _, p := range snap.Policies {
		s.AddItem(wire.PolicyKeyDigest(&p.Key), wire.PolicyDigest(barePolicy(p)))
	}
	return s
}

// itemsOf returns the items of some buckets, by the digests of their identities
// and without keys.
func itemsOf(snap *sadb.Snapshot, salt wire.NodeID, buckets []uint16) map[wire.Sum]wire.Record {
	var in [replica.SumBuckets]bool
	for _, b := range buckets {
		in[b] = true
	}
	out := make(map[wire.Sum]wire.Record)
	for _, sa := range snap.SAs {
		if k := wire.SAKeyDigest(sa.Key); in[k.Bucket(replica.SumBuckets)] {
			out[k] = wire.Record{Kind: wire.PutSA, SA: wire.Redact(bare(sa), salt)}
		}
	}
	for _, p := range snap.Policies {
		if k := wire.PolicyKeyDigest(&p.Key); in[k.Bucket(replica.SumBuckets)] {
			out[k] = wire.Record{Kind: wire.PutPolicy, Policy: barePolicy(p)}
		}
	}
	return out
}

// found is a difference and where it was found.
type found struct {
	Difference
	key wire.Sum
}

// compareRecords compares items of this node with those of a peer.
func compareRecords(group string, here, there map[wire.Sum]wire.Record) []found {
	var out []found
	add := func(k wire.Sum, how string, r wire.Record, fields []FieldDifference) {
		out = append(out, found{Difference{Group: group, How: how, Item: itemName(r), Fields: fields}, k})
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
	return a.Policy != nil && b.Policy != nil && bytes.Equal(wire.AppendPolicy(nil, a.Policy), wire.AppendPolicy(nil, b.Policy))
}
