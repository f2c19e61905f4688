package replica

import (
	"time"

	"sasyncd/sync/sadb"
)

// PoliciesOf returns the published policies of a type (sadb.PolicyKey.Sub) as operations,
// but for those that the kernel has said to be deleted.
func (p *Publisher) PoliciesOf(sub bool) (ops []sadb.Op) {
	for k, e := range p.policies {
		p.Item()
		if k.Sub == sub && !e.retained && !e.deleted {
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: e.policy})
		}
	}
	return ops
}

// Reinsertion returns what puts all published SAs into an empty kernel, the oldest
// first. Outbound counters go ahead as a standby's do.
func (p *Publisher) Reinsertion(now time.Time, m sadb.Margin) (ops []sadb.Op) {
	for _, e := range p.byAge(now) {
		p.Item()
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

// Reinserted notes that an operation of reinsertion has been carried out, and reports
// whether the SA is still published. The IKE daemon that has started does not know it.
func (p *Publisher) Reinserted(now time.Time, sa *sadb.SA) bool {
	e := p.sas[sa.Key]
	if e == nil {
		return false
	}
	p.take(now, e)
	p.noteCounters(now, e, &sa.Counters, sa.Used, sa.UseAge)
	return true
}
