package replica

import (
	"time"

	"sasyncd/sync/sadb"
)

// Jumps are the outbound counters that another node's numbers ask of a MASTER. The zero
// value is none.
type Jumps struct {
	owed map[sadb.SAKey]uint64 // not set yet
	set  map[sadb.SAKey]uint64 // set, and no reading has shown it yet
	next time.Time             // when what the kernel refused is tried again
}

// Owe notes that an outbound counter has to be v at least, and reports whether that is
// more than what is owed already.
func (j *Jumps) Owe(k sadb.SAKey, v uint64) bool {
	if j.owed[k] >= v {
		return false
	}
	if j.owed == nil {
		j.owed = make(map[sadb.SAKey]uint64)
	}
	j.owed[k] = v
	return true
}

// Done notes that the kernel has set a counter.
func (j *Jumps) Done(k sadb.SAKey, v uint64) {
	delete(j.owed, k)
	if j.set == nil {
		j.set = make(map[sadb.SAKey]uint64)
	}
	j.set[k] = v
}

// Due reports whether something is owed that is to be tried now.
func (j *Jumps) Due(now time.Time) bool { return len(j.owed) > 0 && !now.Before(j.next) }

// Drop ends what an SA owes: it is gone.
func (j *Jumps) Drop(k sadb.SAKey) { delete(j.owed, k) }

// Open reports whether something is owed.
func (j *Jumps) Open() bool { return len(j.owed) > 0 }

// Take returns what is owed, and owes nothing any more.
func (j *Jumps) Take() map[sadb.SAKey]uint64 {
	owed := j.owed
	*j = Jumps{}
	return owed
}

// Position returns where a MASTER's counter stands: as the last reading has shown it,
// or where it has been set since.
func (j *Jumps) Position(sa *sadb.SA) uint64 {
	v, ok := j.set[sa.Key]
	if ok && sa.OSeq >= v {
		delete(j.set, sa.Key)
	}
	return max(sa.OSeq, v)
}

// Ops returns some of what is owed, as operations; none if that is all. A jump is never
// backwards, though this node has sent since the last reading.
func (j *Jumps) Ops(now time.Time, p *Publisher, m sadb.Margin) []sadb.Op {
	j.next = now.Add(jumpAgain)
	ops := make([]sadb.Op, 0, min(len(j.owed), TurnOps))
	for k, v := range j.owed {
		sa := p.SA(k)
		if sa == nil || j.Position(sa) >= v {
			delete(j.owed, k)
			continue
		}
		least, _ := sadb.Ahead(sa.ESN(), j.Position(sa), p.sentSince(now, k, m))
		if ops = append(ops, counterOp(p.agedSA(now, k), max(v, least))); len(ops) == TurnOps {
			break
		}
	}
	return ops
}

// jumpAgain is how soon a jump that the kernel refused is tried again.
const jumpAgain = time.Second
