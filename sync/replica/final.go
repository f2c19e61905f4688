package replica

import (
	"cmp"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// A planned hand-over brings exact counters to the successor while nobody sends. What
// that takes must not grow with the number of SAs. So the MASTER reads and sends before
// the hand-over the counters of SAs that have moved lately, FinalSAs of them at most, and
// those of the others after it: an ex-master tells the highest numbers that it has used,
// and a new one takes of these and its own the larger. Until then its counters are ahead
// by their margins, as after a failure.

// FinalSAs is the most SAs whose counters are read and sent behind the fence. They fit
// into one message, and take a few milliseconds on both sides.
const FinalSAs = 512

// lately is how many collections of counters an SA may rest and still have moved lately.
const lately = 2

// remember keeps what has moved until now as what moved before.
func (p *Publisher) remember() {
	oldest := p.earlier[lately-1]
	copy(p.earlier[1:], p.earlier[:lately-1])
	p.earlier[0] = p.moved
	if p.gathering {
		oldest = nil // countersSince may still have the list
	}
	clear(oldest)
	p.moved = oldest[:0]
}

// Recent returns up to n SAs whose counters have moved lately, those of the latest
// collection first. It looks at few more than it returns.
func (p *Publisher) Recent(n int) []sadb.SAKey {
	keys := make([]sadb.SAKey, 0, n)
	known := make(map[*pubSA]bool, n)
	looks := (1 + lately) * n
	for _, list := range [...][]*pubSA{p.moved, p.earlier[0], p.earlier[1]} {
		for _, e := range list {
			if looks--; looks < 0 || len(keys) == n {
				return keys
			}
			if !e.gone && !known[e] {
				known[e] = true
				keys = append(keys, e.sa.Key)
			}
		}
	}
	return keys
}

// Final takes what the kernel of a fenced MASTER has told of the SAs that keys name, and
// returns their counters as an epoch of their own, by handle. What it does not name stays
// to be sent with a later one. A reading under way is void.
func (p *Publisher) Final(now time.Time, keys []sadb.SAKey, readings []sadb.Reading) []wire.CounterEntry {
	p.mark++
	p.epoch = p.mark
	for i := range readings {
		r := &readings[i]
		if e := p.sas[r.Key]; e != nil {
			p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
		}
	}
	p.outs[p.epoch%outEpochs] = p.out
	entries := make([]wire.CounterEntry, 0, len(keys))
	for _, k := range keys {
		if e := p.sas[k]; e != nil {
			entries = append(entries, e.counters())
		}
	}
	slices.SortFunc(entries, func(a, b wire.CounterEntry) int { return cmp.Compare(a.Handle, b.Handle) })
	return entries
}

// counters returns the SA's counters as they are sent.
func (e *pubSA) counters() wire.CounterEntry {
	return wire.CounterEntry{Handle: e.handle, OSeq: e.sa.OSeq, Seq: e.sa.Seq, Bytes: e.sa.Bytes, Packets: e.sa.Packets}
}
