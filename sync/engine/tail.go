package engine

import (
	"context"
	"time"

	"sasyncd/sync/wire"
)

// A master dies in the middle of telling several standbys: one of them may hold
// deltas that another lacks. Whoever becomes master first takes what a reachable
// standby of the same stream holds beyond it, before it publishes; publishing
// first would sweep those items away.

// tailLimit bounds how long a new master waits for a tail. Nothing else waits:
// VIPs and traffic have moved already.
const tailLimit = 500 * time.Millisecond

// tail is the wait for other standbys' deltas.
type tail struct {
	until   time.Time
	asked   map[*member]bool // who has not answered yet
	streams map[*member]uint32
}

// takeTail asks every reachable standby of the same stream.
func (e *Engine) takeTail(g *group) {
	g.promotion.tail = nil
	pos := g.rcv.Pos()
	if !pos.Complete || g.rcv.NamesOnly() { // MASTER already, under an earlier term
		return
	}
	t := &tail{until: time.Now().Add(tailLimit), asked: make(map[*member]bool), streams: make(map[*member]uint32)}
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.state.Have.StreamID != pos.StreamID || ms.state.Have.Node == m.hello.Node {
			continue
		}
		t.asked[m], ms.tailOf = true, pos.StreamID
		g.promotion.tail = t
		e.send(m, &wire.Request{Group: g.name, Have: pos})
	}
}

// waitsForTail reports whether the new master must not publish yet.
func (g *group) waitsForTail(now time.Time) bool {
	return g.promotion.tail != nil && now.Before(g.promotion.tail.until)
}

// giveTail answers a new master that asks a standby of the same stream.
func (e *Engine) giveTail(m *member, g *group, have wire.StreamPos) bool {
	r := g.rcv
	if !r.Continues(have) {
		return false
	}
	m.nextOut++
	e.send(m, &wire.Resume{Stream: m.nextOut, ID: r.Pos().StreamID, Seq: have.Seq})
	n := have.Seq + 1
	for recs := range r.After(have.Seq) {
		e.send(m, &wire.Batch{Stream: m.nextOut, First: n, Records: recs})
		n += uint64(len(recs))
		e.pause()
	}
	return true
}

// tailEnds notes that a member has told everything it holds: it says its state
// behind its answer, or one that promises nothing more.
func (e *Engine) tailEnds(ctx context.Context, m *member, g *group, have wire.StreamPos) {
	if g.promotion.tail == nil || !g.promotion.tail.asked[m] {
		return
	}
	if pos := g.rcv.Pos(); have.StreamID == pos.StreamID && have.Seq > pos.Seq {
		return // said before it answered
	}
	delete(g.promotion.tail.asked, m)
	if len(g.promotion.tail.asked) == 0 {
		g.promotion.tail = nil
		e.requestDump(ctx)
	}
}

// tailBegins takes the answer, and reports whether it is one. One that comes when
// nobody waits any more is no offence; what follows it is of no stream.
func (e *Engine) tailBegins(m *member, msg *wire.Resume) bool {
	g := e.groups[msg.ID.Group]
	if g == nil || msg.ID.Node == m.hello.Node {
		return false
	}
	if g.promotion.tail != nil && g.promotion.tail.asked[m] && msg.ID == g.rcv.Pos().StreamID {
		g.promotion.tail.streams[m] = msg.Stream
		return true
	}
	ms := m.groups[g.name]
	return ms != nil && ms.tailOf == msg.ID
}

// tailBatch installs deltas of the former master that only the other standby
// had heard.
func (e *Engine) tailBatch(ctx context.Context, m *member, b *wire.Batch) bool {
	for _, g := range e.order {
		if g.promotion.tail == nil || g.promotion.tail.streams[m] != b.Stream || b.Stream == 0 {
			continue
		}
		known := g.rcv.Pos().Seq + 1 - min(b.First, g.rcv.Pos().Seq+1) // told by another one already
		if known >= uint64(len(b.Records)) {
			return true
		}
		for _, rec := range b.Records[known:] {
			e.exec(ctx, g, g.rcv.Apply(time.Now(), e.mono(), rec))
			e.stats.TailRecords++
		}
		return true
	}
	return false
}
