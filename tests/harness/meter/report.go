package meter

import (
	"fmt"
	"slices"
	"time"

	"sasyncd/tests/harness"
)

// Report says what became of the packets of a period.
type Report struct {
	Name      string
	Sent      int // in the period
	Lost      int // of those
	Duplicate int // arrivals in the period
	Reordered int // arrivals in the period, behind a later packet
	// Gap is the longest time between two arrivals that touches the period, or
	// until its end, Idle aside; GapAt is when it began.
	Gap   time.Duration
	GapAt time.Time
	// Idle is how long, within that gap, the sender did not run: nobody can say
	// what the network would have done, least of all where one processor runs
	// sender and network.
	Idle time.Duration
	// Both, and Stall, are those of a machine of ordinary speed: in a guest that
	// is slow ([harness.Slow]) all intervals are longer, and this undoes it.
	// Stall is the longest time between two sends.
	Stall time.Duration
}

func (r Report) String() string {
	return fmt.Sprintf("%-12s sent %d, lost %d, duplicate %d, reordered %d, longest gap %.1f ms (and %.1f ms in "+
		"which the sender stood still) at %s, sender's longest pause %.1f ms",
		r.Name, r.Sent, r.Lost, r.Duplicate, r.Reordered, ms(r.Gap), ms(r.Idle), r.GapAt.Format("15:04:05.000"),
		ms(r.Stall))
}

// add sums up two reports of the same period.
func (r *Report) add(o Report) {
	r.Sent += o.Sent
	r.Lost += o.Lost
	r.Duplicate += o.Duplicate
	r.Reordered += o.Reordered
	if o.Gap > r.Gap {
		r.Gap, r.Idle, r.GapAt = o.Gap, o.Idle, o.GapAt
	}
	r.Stall = max(r.Stall, o.Stall)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Total reports on the whole time. While the flow runs, packets under way count as lost.
func (f *Flow) Total() Report {
	return f.Between(f.start, time.Now())
}

// Between reports on the period from one time to another, or to the last send
// of a flow that was stopped earlier.
func (f *Flow) Between(from, to time.Time) Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.end.IsZero() && f.end.Before(to) {
		to = f.end
	}
	a, b := int64(from.Sub(f.start)), int64(to.Sub(f.start))
	within := func(at int64) bool { return at >= a && at < b }
	r := Report{Name: f.Name, Duplicate: count(f.dups, within), Reordered: count(f.reorder, within)}
	for seq, at := range f.sent {
		if !within(at) {
			continue
		}
		r.Sent++
		if f.received[seq] == 0 {
			r.Lost++
		}
	}
	_, r.Stall, _ = longest(f.sent, a, b, nil)
	// Kernel time stamps of packets that met on two queues may be out of order.
	arrivals := slices.Clone(f.arrivals)
	slices.Sort(arrivals)
	var at int64
	at, r.Gap, r.Idle = longest(arrivals, a, b, f.sent)
	r.GapAt = f.start.Add(time.Duration(at))
	slow := time.Duration(harness.Slow())
	r.Gap, r.Idle, r.Stall = r.Gap/slow, r.Idle/slow, r.Stall/slow
	return r
}

func count(times []int64, within func(int64) bool) int {
	n := 0
	for _, at := range times {
		if within(at) {
			n++
		}
	}
	return n
}

// longest finds the longest pause between neighbours of an ascending list that
// overlaps [a, b), and when it began. The start counts as the first event, and
// b as the last when nothing follows. What of a pause a sender stood still is
// not counted.
func longest(times []int64, a, b int64, sent []int64) (at int64, gap, still time.Duration) {
	prev := int64(0)
	judge := func(next int64) {
		if prev < b && next > a && time.Duration(next-prev) > gap {
			i := idle(sent, prev, next)
			if g := time.Duration(next-prev) - i; g > gap {
				at, gap, still = prev, g, i
			}
		}
		prev = next
	}
	for _, x := range times {
		judge(x)
	}
	if prev < b {
		judge(b)
	}
	return at, gap, still
}

// regular is a pause of the sender that is not remarkable.
func regular() int64 { return int64(harness.Scaled(4 * guestTick)) }

// idle is how long within [a, b) the sender paused, regular pauses aside.
func idle(sent []int64, a, b int64) time.Duration {
	sum := int64(0)
	i, _ := slices.BinarySearch(sent, a)
	for i = max(i, 1); i < len(sent) && sent[i-1] < b; i++ {
		sum += max(0, min(sent[i], b)-max(sent[i-1], a)-regular())
	}
	return time.Duration(sum)
}

// Silence is how long ago the last packet arrived.
func (f *Flow) Silence() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := int64(0)
	if n := len(f.arrivals); n > 0 {
		last = f.arrivals[n-1]
	}
	return time.Since(f.start) - time.Duration(last)
}

// Received is the number of packets that arrived so far.
func (f *Flow) Received() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.arrivals) - len(f.dups)
}

// Sent is the number of packets sent so far.
func (f *Flow) Sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sent)
}
