package replica

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// withdraw takes an outbound SA out of the kernel whose counter cannot be kept
// ahead of the master's: after a takeover it must not be used. Its policy then
// finds no SA, and the IKE daemon negotiates a new one.
func (r *Receiver) withdraw(w *wantSA) []sadb.Op {
	if _, ok := r.have[w.sa.Key]; !ok || r.CountersOnly {
		return nil
	}
	return []sadb.Op{{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: w.sa.Key}}}
}

// Excess is how far a counter may stand above what the master sent before a
// standby makes the SA anew with a smaller one, which it may only when it has
// never sent on it. A margin that grew while the master was not heard leaves
// such counters behind; half of what a receiver accepts is left for the future.
const (
	excessESN    = uint64(1) << 30
	excessLegacy = uint64(1) << 28
)

// overshoots reports whether h stands so far above w's need that it should be
// made anew, and may be.
func (r *Receiver) overshoots(w *wantSA, h haveSA, need uint64) bool {
	limit := excessLegacy
	if w.sa.ESN() {
		limit = excessESN
	}
	return h.unused && !r.CountersOnly && h.oseq > need && h.oseq-w.sa.OSeq >= limit
}

// installed returns the SA as this standby's kernel shall hold it: the
// outbound counter ahead by the margin and never below h, ages counted on.
func (r *Receiver) installed(now time.Time, w *wantSA, h haveSA) *sadb.SA {
	c := r.slabs.next()
	*c = *r.local(w.sa)
	c.Limits = standbyLimits(w.sa.Limits)
	c.OSeq = r.ahead(w, 0, h.oseq)
	passed := uint64(max(now.Sub(w.at), 0) / time.Second)
	c.Age += passed
	if c.Used {
		c.UseAge += passed
	}
	return c
}

// advanceShare is the part of the expected progress that an inbound counter is
// advanced by: a little less than all, so that steady traffic loses nothing.
const advanceShare = 0.8

// inbound returns the inbound counter for w.
func (r *Receiver) inbound(w *wantSA) uint64 {
	if !r.Advance || w.sa.Dir != sadb.DirIn {
		return w.sa.Seq
	}
	seq := w.sa.Seq + uint64(advanceShare*w.rate.Last()*r.Margin.Interval.Seconds())
	if !w.sa.ESN() {
		seq = min(seq, 1<<32-1)
	}
	return seq
}

// ahead returns the outbound counter for w and notes whether it is covered.
func (r *Receiver) ahead(w *wantSA, stale time.Duration, floor uint64) uint64 {
	if w.sa.Dir == sadb.DirIn {
		return w.sa.OSeq
	}
	lead, covered := r.Margin.Lead(w.sa.ESN(), w.rate.Peak(), stale)
	v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, lead)
	w.short = !covered || !fits
	return max(v, floor)
}

// counterOps raises the kernel's counters to what w needs; none if they are
// there already.
func (r *Receiver) counterOps(now time.Time, w *wantSA, stale time.Duration) []sadb.Op {
	h, ok := r.holds(w.sa.Key)
	if !ok || !r.same(w, h) {
		return nil
	}
	need := r.ahead(w, stale, 0)
	seq := r.inbound(w)
	if w.short {
		return r.withdraw(w)
	}
	if r.overshoots(w, h, need) {
		return append(r.withdraw(w), sadb.Op{Kind: sadb.OpAddSA, SA: r.installed(now, w, haveSA{})})
	}
	if stale == 0 {
		r.noteBeyond(now, w, h)
	}
	v := max(need, h.oseq)
	if v == h.oseq && seq <= h.seq {
		return nil
	}
	c := r.installed(now, w, h)
	c.OSeq, c.Seq = v, max(seq, h.seq)
	c.Bitmap = nil // the whole window counts as seen
	return []sadb.Op{{Kind: sadb.OpSetCounters, SA: c}}
}

// SetCounters takes a message of the counter stream.
func (r *Receiver) SetCounters(now time.Time, mono time.Duration, entries []wire.CounterEntry) []sadb.Op {
	r.counters = now
	var ops []sadb.Op
	for _, e := range entries {
		w := r.handles.find(e.Handle)
		if w == nil {
			r.unnamed++
			continue
		}
		sa := w.sa
		// Whole seconds move on with their date, or updates more often than
		// one a second would stop the ages.
		passed := max(now.Sub(w.at), 0) / time.Second
		w.at = w.at.Add(passed * time.Second)
		sa.Age += uint64(passed)
		sa.Used = true
		sa.UseAge += uint64(passed)
		sa.OSeq, sa.Seq = max(sa.OSeq, e.OSeq), max(sa.Seq, e.Seq)
		if moved := e.Packets - sa.Packets; e.Packets > sa.Packets && sa.Dir == sadb.DirIn {
			r.in += moved
			r.inBytes += e.Bytes - min(sa.Bytes, e.Bytes)
		} else if e.Packets > sa.Packets {
			r.out += moved
			r.outBytes += e.Bytes - min(sa.Bytes, e.Bytes)
		}
		if e.Packets > sa.Packets {
			w.moved = now
		}
		sa.Bytes, sa.Packets, sa.Bitmap = e.Bytes, e.Packets, nil
		w.rate.Report(sa.Packets, mono)
		ops = append(ops, r.counterOps(now, w, 0)...)
	}
	return ops
}

// Raise widens the margins while no update arrives.
func (r *Receiver) Raise(now time.Time) []sadb.Op {
	stale := now.Sub(r.counters)
	if r.counters.IsZero() || stale < 2*r.Margin.Interval {
		return nil
	}
	var ops []sadb.Op
	for _, w := range r.want {
		r.Item()
		if w.rate.Peak() > 0 {
			ops = append(ops, r.counterOps(now, w, stale)...)
		}
	}
	return ops
}

// RefreshAges writes all ages anew after a step of this node's wall clock, from
// which the kernel computes when a lifetime ends.
func (r *Receiver) RefreshAges(now time.Time) []sadb.Op {
	var ops []sadb.Op
	for k, w := range r.want {
		r.Item()
		h, ok := r.holds(k)
		if !ok || !r.same(w, h) {
			continue
		}
		c := r.installed(now, w, h)
		c.OSeq, c.Seq, c.Bitmap = max(c.OSeq, h.oseq), max(c.Seq, h.seq), nil
		ops = append(ops, sadb.Op{Kind: sadb.OpSetCounters, SA: c})
	}
	return ops
}
