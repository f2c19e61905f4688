package replica

import "sasyncd/sync/wire"

// counterHandles is the table of the numbers by which the counters of one stream
// name SAs. Two streams give the same number to different SAs, so each stream has
// a table of its own, and a number means nothing outside the table that bound it.
type counterHandles struct {
	id    wire.StreamID
	table uint32 // counts the tables, from 1 on
	bound map[uint32]*wantSA
}

// counterHandle is an SA's place in the table of one stream. It names the table,
// so it is dead once the stream is: it can neither find nor free a place in the
// table of another stream. The zero counterHandle is a place in no table. Only
// counterHandles makes and changes one.
type counterHandle struct {
	table, number uint32
}

// newCounterHandles returns the table of no stream.
func newCounterHandles() counterHandles {
	return counterHandles{table: 1, bound: make(map[uint32]*wantSA)}
}

// enter makes the table that of a stream, with room for n SAs. If it was that of
// another stream, it is empty then, and all handles of before are dead.
func (t *counterHandles) enter(id wire.StreamID, n uint32) {
	if t.id != id {
		*t = counterHandles{id: id, table: t.table + 1, bound: make(map[uint32]*wantSA, min(n, mostExpected))}
	}
}

// bind makes number name w alone, and w have no other number.
func (t *counterHandles) bind(number uint32, w *wantSA) {
	t.Release(w)
	if other := t.bound[number]; other != nil {
		other.handle = counterHandle{}
	}
	t.bound[number], w.handle = w, counterHandle{t.table, number}
}

// Release ends w's handle.
func (t *counterHandles) Release(w *wantSA) {
	if w.handle.table == t.table {
		delete(t.bound, w.handle.number)
	}
	w.handle = counterHandle{}
}

// find returns the SA that number names in this stream, nil for none.
func (t *counterHandles) find(number uint32) *wantSA { return t.bound[number] }
