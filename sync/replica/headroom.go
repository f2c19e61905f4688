package replica

import (
	"math"
	"time"

	"sasyncd/sync/sadb"
)

// never is the headroom of a counter that does not move.
var never = math.Inf(1)

// headroom returns for how many seconds an outbound counter lasts at a rate of
// packets per second. A kernel refuses to send beyond the last number.
func headroom(esn bool, oseq uint64, rate float64) float64 {
	if rate <= 0 {
		return never
	}
	last := float64(math.MaxUint32)
	if esn {
		last = float64(math.MaxUint64)
	}
	return max(last-float64(oseq), 0) / rate
}

// collectedAt begins a collection of counters at now; the room is that of
// the SA that would run out first at the rate since the collection before.
func (p *Publisher) collectedAt(now time.Time) {
	p.since = now.Sub(p.collected).Seconds()
	if p.collected.IsZero() {
		p.since = 0
	}
	p.collected, p.room = now, never
}

// updateHeadroom takes into account that an SA's outbound counter has moved.
func (p *Publisher) updateHeadroom(sa *sadb.SA, oseq, moved uint64) {
	if p.since > 0 && sa.Dir != sadb.DirIn {
		p.room = min(p.room, headroom(sa.ESN(), oseq, float64(moved)/p.since))
	}
}

// Leads returns, over the outbound SAs of a standby, by how many packets the
// counter in the kernel leads that of the master, at least (false: there is
// none), and for how many seconds the first to run out would last.
func (r *Receiver) Leads() (lead uint64, any bool, room float64) {
	lead, room = math.MaxUint64, never
	for k, w := range r.want {
		r.Item()
		h, ok := r.have[k]
		if !ok || w.sa.Dir == sadb.DirIn || h.core != w.core {
			continue
		}
		any = true
		ahead := uint64(0)
		if h.oseq > w.sa.OSeq {
			ahead = h.oseq - w.sa.OSeq
		}
		lead = min(lead, ahead)
		room = min(room, headroom(w.sa.ESN(), h.oseq, w.rate.Last()))
	}
	if !any {
		lead = 0
	}
	return lead, any, room
}
