package engine

import (
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// journalRecords bounds the journal: about ten minutes of 100 rekeys a second.
// A peer that was away for longer gets a snapshot.
const journalRecords = 1 << 16

// journal is the tail of a stream's deltas, for peers that reconnect after a
// short cut and for telling how old the oldest unacknowledged delta is. It names
// SAs and does not hold them (letgo.go).
type journal struct {
	limit   int
	first   uint64 // number of entries[0]
	entries []journalEntry
}

type journalEntry struct {
	at  time.Time
	rec wire.Record // by name: recall makes it whole
}

func (j *journal) add(seq uint64, at time.Time, r wire.Record) {
	if len(j.entries) == 0 {
		j.first = seq
	}
	if len(j.entries) >= j.limit {
		// Drop a quarter at once, so that the cost of moving is spread.
		n := max(j.limit/4, 1)
		j.entries = slices.Delete(j.entries, 0, n)
		j.first += uint64(n)
	}
	j.entries = append(j.entries, journalEntry{at, nameOnly(r)})
}

// since returns the entries after seq of a stream whose last delta is head; ok
// is false when some of them are no longer held.
func (j *journal) since(seq, head uint64) (e []journalEntry, ok bool) {
	switch {
	case seq == head:
		return nil, true
	case seq > head || len(j.entries) == 0 || seq+1 < j.first:
		return nil, false
	}
	return j.entries[seq+1-j.first:], true
}

// forget empties the journal, for what every peer gets by snapshot anyway.
func (j *journal) forget() { j.entries, j.first = nil, 0 }
