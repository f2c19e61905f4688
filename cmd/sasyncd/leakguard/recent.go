package leakguard

import "time"

// recent counts what a counter has counted within Recent.
type recent struct {
	total uint64 // as read last
	parts []part // oldest first
}

// part is what was counted in up to tendEach from a time on.
type part struct {
	began time.Time
	n     uint64
}

// add takes a reading of the counter, and returns what it has counted within Recent.
func (r *recent) add(now time.Time, total uint64) (sum uint64) {
	for len(r.parts) > 0 && now.Sub(r.parts[0].began) >= Recent {
		r.parts = r.parts[1:]
	}
	if total > r.total {
		last := len(r.parts) - 1
		if last < 0 || now.Sub(r.parts[last].began) >= tendEach {
			r.parts = append(r.parts, part{began: now})
			last++
		}
		r.parts[last].n += total - r.total
	}
	r.total = total
	for _, p := range r.parts {
		sum += p.n
	}
	return sum
}
