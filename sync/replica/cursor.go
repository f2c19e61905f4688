package replica

import (
	"cmp"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// cursor walks what is published for one peer's snapshot: policies first, then
// SAs, oldest first. What it yields is current at the moment it is sent; what a
// delta has changed or deleted meanwhile is in the same ordered sequence.
type cursor struct {
	policies []*pubPolicy
	sas      []*pubSA
}

func (p *Publisher) snapshot(now time.Time) *cursor {
	c := &cursor{policies: make([]*pubPolicy, 0, len(p.policies))}
	for _, e := range p.policies {
		p.Item()
		c.policies = append(c.policies, e)
	}
	c.sas = p.byAge(now)
	return c
}

// byAge returns the published SAs, the oldest first, with their ages of now. Equal ages
// come in the order of publication, which handles keep.
func (p *Publisher) byAge(now time.Time) []*pubSA {
	list := make([]*pubSA, 0, len(p.sas))
	for _, e := range p.sas {
		p.Item()
		p.age(now, e)
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *pubSA) int {
		p.compared()
		return cmp.Or(cmp.Compare(b.sa.Age, a.sa.Age), cmp.Compare(a.handle, b.handle))
	})
	return list
}

// next returns up to n records, fewer only at the end.
func (p *Publisher) next(now time.Time, c *cursor, n int) []wire.Record {
	recs := make([]wire.Record, 0, min(n, len(c.policies)+len(c.sas)))
	for len(recs) < n && len(c.policies) > 0 {
		if e := c.policies[0]; !e.gone {
			recs = append(recs, wire.Record{Kind: wire.PutPolicy, Policy: e.policy})
		}
		c.policies = c.policies[1:]
	}
	for len(recs) < n && len(c.sas) > 0 {
		if e := c.sas[0]; !e.gone {
			p.age(now, e)
			recs = append(recs, wire.Record{Kind: wire.PutSA, Handle: e.handle, SA: e.sa})
		}
		c.sas[0] = nil
		c.sas = c.sas[1:]
	}
	return recs
}

func (c *cursor) done() bool { return len(c.policies) == 0 && len(c.sas) == 0 }
