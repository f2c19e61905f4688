package sadb

import "time"

// Bounds on how far a standby's outbound counter may lead (facts measured on
// Linux 6.1 with both kinds of SA).
const (
	// MaxLeadESN is where a jump stops being safe for a 64-bit counter: a
	// receiver infers the high word from the low one (RFC 4303 appendix A),
	// so a jump of 2^32 or more is refused for good and 2^31 is always safe.
	MaxLeadESN = uint64(1) << 31
	// MaxLegacy is the highest value a 32-bit counter is raised to. Above
	// it too few numbers are left to work with before a rekey.
	MaxLegacy = uint64(0xF0000000)
)

// Margin decides how far a standby keeps its outbound counters ahead of the
// last value it has heard from the master, so that a takeover never sends a
// sequence number twice. The zero value is not useful; see DefaultMargin.
type Margin struct {
	// ESN and Legacy are the smallest leads, in packets, for 64-bit and
	// 32-bit counters.
	ESN, Legacy uint64
	// Interval is how often the master reports counters, Detection how long
	// the election needs to notice a dead master.
	Interval, Detection time.Duration
}

// DefaultMargin is the margin of a configuration that says nothing.
func DefaultMargin() Margin {
	return Margin{ESN: 67108864, Legacy: 1048576, Interval: time.Second, Detection: time.Second}
}

// rateFactor is how much faster than its observed peak an SA may send before
// the lead is too small.
const rateFactor = 4

// Lead returns how many packets ahead the standby must be for an SA whose
// highest observed rate is peak packets per second and whose last report is
// stale old: the configured minimum, or rateFactor times what the SA could
// have sent since, whichever is larger. The lead is limited to what a receiver
// accepts; covered is false when that limit is smaller than what is needed.
func (m Margin) Lead(esn bool, peak float64, stale time.Duration) (lead uint64, covered bool) {
	lead, limit := m.Legacy, MaxLegacy
	if esn {
		lead, limit = m.ESN, MaxLeadESN-1
	}
	window := (m.Interval + m.Detection + stale).Seconds()
	if need := rateFactor * peak * window; need > float64(lead) {
		if need > float64(limit) {
			return limit, false
		}
		lead = uint64(need)
	}
	if lead > limit {
		return limit, false
	}
	return lead, true
}

// Ahead returns the outbound counter that a standby must hold when the master
// last reported oseq. A 32-bit counter is not raised beyond MaxLegacy; covered
// is false when the space left is smaller than the lead, and then the SA must
// be rekeyed before it may be used after a takeover.
func Ahead(esn bool, oseq, lead uint64) (value uint64, covered bool) {
	if esn {
		if oseq+lead < oseq { // 2^64 is out of reach, but never wrap
			return oseq, false
		}
		return oseq + lead, true
	}
	switch {
	case oseq >= MaxLegacy:
		return oseq, false
	case oseq+lead > MaxLegacy:
		return MaxLegacy, false
	}
	return oseq + lead, true
}

// excessLeads is how many leads a standby's outbound counter may stand ahead of the
// master's last word before the master must know of it, see Exceeds.
const excessLeads = 2

// Exceeds reports whether the counter of a standby stands so far ahead of a master's
// that an ex-master would not be beyond it by what Retired adds: further than
// excessLeads leads of an SA that sends at up to peak packets per second.
func (m Margin) Exceeds(esn bool, standby, master uint64, peak float64) bool {
	lead, _ := m.Lead(esn, peak, 0)
	return standby > master && standby-master > excessLeads*lead
}

// Retired returns the outbound counter of an ex-master's SA on which it has sent up
// to oseq, at up to peak packets per second: beyond what its successor may have used
// since. That one had heard the master within stale, began at most excessLeads leads
// ahead, and has used at most one lead more. It is a jump that a receiver accepts.
// covered is as in Ahead.
func (m Margin) Retired(esn bool, oseq uint64, peak float64, stale time.Duration) (value uint64, covered bool) {
	lead, _ := m.Lead(esn, peak, stale)
	lead *= excessLeads + 1
	if esn {
		lead = min(lead, MaxLeadESN)
	}
	return Ahead(esn, oseq, lead)
}

// forgottenESN is how far a 64-bit counter is raised whose rate nobody knows. It is half
// of MaxLeadESN, so that a second process without memory stays within what a receiver
// accepts though nothing was sent between the two.
const forgottenESN = MaxLeadESN / 2

// forgottenLegacy is how far at most a 32-bit counter is raised whose rate nobody knows: a
// sixteenth of its numbers, 25 seconds at ten million packets per second. It is an eighth
// of what is left at most, so that no number of restarts uses an SA up.
const forgottenLegacy = uint64(1) << 28

// Forgotten returns the outbound counter of an SA in the kernel of a node that has
// lost its memory: it stands at oseq, and what rate it had, and whether another node
// has used it since, is not known. A receiver accepts the jump.
func (m Margin) Forgotten(esn bool, oseq uint64) uint64 {
	least, _ := m.Retired(esn, oseq, 0, 0)
	lead := forgottenESN
	if !esn {
		lead = min(forgottenLegacy, (MaxLegacy-min(oseq, MaxLegacy))/8)
	}
	value, _ := Ahead(esn, oseq, lead)
	return max(value, least)
}

// Rate follows the highest packet rate of one SA. It is fed with the SA's count
// of packets and not with its sequence number, which jumps at every takeover.
// It is small because a standby holds one for every SA.
type Rate struct {
	packets uint64
	at      time.Duration // of the last report, on the caller's monotonic clock
	peak    float32
	last    float32 // between the last two reports
	seen    bool
}

// peakHalfLife is how long a burst keeps half of its weight. It is long
// because an SA that burst once may burst again.
const peakHalfLife = 10 * time.Minute

// Report notes that the count of packets stood at n at the given monotonic
// time. A count that went back (a new master that had heard less) starts over
// without forgetting the peak.
func (r *Rate) Report(n uint64, at time.Duration) {
	if r.seen && n >= r.packets && at > r.at {
		dt := (at - r.at).Seconds()
		r.peak *= float32(halfLife(dt))
		r.last = float32(float64(n-r.packets) / max(dt, shortest))
		r.peak = max(r.peak, r.last)
	}
	r.packets, r.at, r.seen = n, at, true
}

// Remember takes over the peak that another follower of the same SA has seen.
func (r *Rate) Remember(o *Rate) { r.peak = max(r.peak, o.peak) }

// Peak returns the highest rate seen, in packets per second, decayed.
func (r *Rate) Peak() float64 { return float64(r.peak) }

// Last returns the rate between the last two reports, in packets per second.
func (r *Rate) Last() float64 { return float64(r.last) }

// shortest is the least time, in seconds, for which a rate is told. Reports that a
// busy sender or a full link delays come together, and tell nothing of it.
const shortest = 0.1

// halfLife returns 2^(-dt/peakHalfLife) to first order; reports come every
// second or so, where the error is below one part in a million.
func halfLife(dt float64) float64 {
	const ln2 = 0.6931471805599453
	return 1 / (1 + ln2*dt/peakHalfLife.Seconds())
}
