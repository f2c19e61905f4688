package replica

import (
	"iter"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// JournalRecords bounds the journal: about ten minutes of 100 rekeys a second.
// A peer that was away for longer gets a snapshot.
const JournalRecords = 1 << 16

// journal is the tail of a stream's deltas, for peers that reconnect after a
// short cut and for telling how old the oldest unacknowledged delta is. It names
// SAs and does not hold them: see nameOnly.
//
// The entries are in blocks, so that an addition moves none: the longest turn of
// the engine would otherwise grow with the journal.
type journal struct {
	limit  int
	first  uint64           // number of the first entry
	held   int              // how many there are
	blocks [][]journalEntry // all but the last are full
}

// block returns how many entries a block holds.
func (j *journal) block() int { return min(journalBlock, max(j.limit/4, 1)) }

const journalBlock = 256

type journalEntry struct {
	at  time.Time
	rec wire.Record // by name: recall makes it whole
}

func (j *journal) add(seq uint64, at time.Time, r wire.Record) {
	if j.held == 0 {
		j.first = seq
	}
	size := j.block()
	if j.held >= j.limit {
		j.held -= len(j.blocks[0])
		j.first += uint64(len(j.blocks[0]))
		j.blocks = slices.Delete(j.blocks, 0, 1)
	}
	last := len(j.blocks) - 1
	if last < 0 || len(j.blocks[last]) == size {
		j.blocks = append(j.blocks, make([]journalEntry, 0, size))
		last++
	}
	j.blocks[last] = append(j.blocks[last], journalEntry{at, nameOnly(r)})
	j.held++
}

// entry returns the one of a number, nil if it is not held.
func (j *journal) entry(seq uint64) *journalEntry {
	if seq < j.first || seq-j.first >= uint64(j.held) {
		return nil
	}
	i, size := int(seq-j.first), j.block()
	return &j.blocks[i/size][i%size]
}

// reaches reports whether the journal has all that follows seq in a stream whose
// last delta is head.
func (j *journal) reaches(seq, head uint64) bool {
	return seq == head || seq < head && j.entry(seq+1) != nil
}

// after yields the entries that follow seq, at most most at a time.
func (j *journal) after(seq uint64, most int) iter.Seq[[]*journalEntry] {
	return func(yield func([]*journalEntry) bool) {
		for {
			var chunk []*journalEntry
			for e := j.entry(seq + 1); e != nil && len(chunk) < most; e = j.entry(seq + 1) {
				chunk = append(chunk, e)
				seq++
			}
			if len(chunk) == 0 || !yield(chunk) {
				return
			}
		}
	}
}

// forget empties the journal, for what every peer gets by snapshot anyway.
func (j *journal) forget() { j.blocks, j.first, j.held = nil, 0, 0 }
