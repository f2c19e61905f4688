package replica

import (
	"time"

	"sasyncd/sync/sadb"
)

// Numbers returns the outbound counters that the last reading has shown.
func (p *Publisher) Numbers() map[sadb.SAKey]uint64 {
	out := make(map[sadb.SAKey]uint64) // grows in small steps
	for k, e := range p.sas {
		p.Item()
		out[k] = e.sa.OSeq
	}
	return out
}

// RaiseBeyondSuccessor returns what raises the outbound counters by two nodes' margins from where
// they stood.
func (p *Publisher) RaiseBeyondSuccessor(now time.Time, m sadb.Margin, from map[sadb.SAKey]uint64) (ops []sadb.Op) {
	for k, used := range from {
		p.Item()
		e := p.sas[k]
		if e == nil || e.sa.Dir == sadb.DirIn {
			continue
		}
		if v, _ := m.Retired(e.sa.ESN(), used, e.rate.Peak(), LagBound(m.Interval)); v > e.sa.OSeq {
			p.age(now, e)
			ops = append(ops, counterOp(e.sa, v))
		}
	}
	return ops
}

// counterOp returns what sets an SA's outbound counter. The whole window of an inbound
// one counts as seen then.
func counterOp(sa *sadb.SA, oseq uint64) sadb.Op {
	c := *sa
	c.OSeq, c.Bitmap = oseq, nil
	return sadb.Op{Kind: sadb.OpSetCounters, SA: &c}
}

// RaiseUntold returns what raises the outbound counters of those SAs in the kernel that
// no stream has told, from where they stood; what it finds for the first time it adds to
// from. The rates of those that this node knew before its last mastership was knows, if
// it is not nil; the others are raised by far more.
func (r *Receiver) RaiseUntold(list []*sadb.SA, from map[sadb.SAKey]uint64, was *Receiver) (ops []sadb.Op) {
	for _, sa := range list {
		r.Item()
		if sa.Dir == sadb.DirIn || r.want[sa.Key] != nil {
			continue
		}
		used, ok := from[sa.Key]
		if !ok {
			used = sa.OSeq
			from[sa.Key] = used
		}
		v := r.Margin.Forgotten(sa.ESN(), used)
		if was != nil && was.want[sa.Key] != nil {
			v, _ = r.Margin.Retired(sa.ESN(), used, was.want[sa.Key].rate.Peak(), LagBound(r.Margin.Interval))
		}
		if v > sa.OSeq {
			ops = append(ops, counterOp(sa, v))
		}
	}
	return ops
}

// Outbound returns the counters of the outbound SAs in the kernel.
func (r *Receiver) Outbound() map[sadb.SAKey]uint64 {
	out := make(map[sadb.SAKey]uint64) // grows in small steps
	for k, h := range r.have {
		r.Item()
		if !h.inbound {
			out[k] = h.oseq
		}
	}
	return out
}

// OmitTold takes out of a list of counters those of the SAs that the snapshot under way
// has told.
func (r *Receiver) OmitTold(counters map[sadb.SAKey]uint64) {
	for k := range counters {
		if r.Item(); r.want[k] != nil && r.want[k].gen == r.snap.gen {
			delete(counters, k)
		}
	}
}

// RaiseBeyondSuccessor returns what raises the outbound counters by this node's margin and the
// other's from where they stood; nothing if that is done.
func (r *Receiver) RaiseBeyondSuccessor(now time.Time, from map[sadb.SAKey]uint64) (ops OpList) {
	for k, used := range from {
		r.Item()
		w := r.want[k]
		h, ok := r.holds(k)
		if w == nil || !ok || w.sa.Dir == sadb.DirIn || !r.same(w, h) {
			continue
		}
		v, fits := r.Margin.Retired(w.sa.ESN(), max(used, w.sa.OSeq), w.rate.Peak(), LagBound(r.Margin.Interval))
		if w.short = !fits; v <= h.oseq {
			continue
		}
		c := r.installed(now, w, h)
		c.OSeq, c.Seq, c.Bitmap = v, max(c.Seq, h.seq), nil
		ops.Add(sadb.Op{Kind: sadb.OpSetCounters, SA: c})
	}
	return ops
}
