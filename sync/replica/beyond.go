package replica

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// No number is sent twice although a node never hears what its successor has used,
// because these hold for the counter of each outbound SA:
//
//  1. A standby's counter stands ahead of all that its master has sent: ahead of the
//     master's last word by a lead, by more the older that word is (sadb.Margin.Lead).
//  2. It stands at most two leads ahead of the master's own counter, where the master
//     counts it as a successor. A counter of a standby is never lowered while it may
//     have been used, so one that was raised for another master, or when it was MASTER
//     itself, may stand further ahead. Then the standby says so, before it acknowledges
//     its tables as complete, and the master jumps to where it stands (maxima, under the
//     id of the master's own stream). Without contact it grows further ahead for as
//     long as it stays in sync, LagBound.
//  3. An ex-master raises its counters by three leads of that age
//     (sadb.Margin.Retired): beyond where its successor began, and a lead beyond that.
//     So does a standby that knows of a newer master and not of its stream (bump).
//  4. A process that has followed no stream since its start knows none of this. Before
//     it says that it is prepared to be MASTER it raises what it finds in the kernel
//     by far more (sadb.Margin.Forgotten). One that is to be MASTER in the middle of a
//     snapshot, while which no counters come, raises them as an ex-master does.
//
// So whoever becomes MASTER without having heard its predecessor begins above what
// that one has used, as long as a node uses at most a lead of numbers unheard.

// noteBeyond notes a counter that stands further ahead of the master's last word than
// the master knows. An old word tells nothing of that.
func (r *Receiver) noteBeyond(now time.Time, w *wantSA, h haveSA) {
	fresh := 2 * r.Margin.Interval
	if w.sa.Dir == sadb.DirIn || now.Sub(r.counters) >= fresh && now.Sub(w.at) >= fresh {
		return
	}
	if r.Margin.Exceeds(w.sa.ESN(), h.oseq, w.sa.OSeq, w.rate.Peak()) {
		r.beyond[w.sa.Key] = h.oseq
	}
}

// HasBeyond reports whether noteBeyond has noted something.
func (r *Receiver) HasBeyond() bool { return len(r.beyond) > 0 }

// TakeBeyond returns up to n of what noteBeyond has noted, and whether that is all.
func (r *Receiver) TakeBeyond(n int) (entries []wire.Maximum, last bool) {
	entries = make([]wire.Maximum, 0, min(len(r.beyond), n))
	for k, v := range r.beyond {
		if len(entries) == n {
			return entries, false
		}
		delete(r.beyond, k)
		r.Item()
		entries = append(entries, wire.Maximum{Key: k, OSeq: v})
	}
	return entries, true
}
