package engine

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// follow asks the member that is master, with the highest term, for its
// stream, unless it is followed already, or has been asked and may yet answer;
// again asks all the same.
func (e *Engine) follow(g *group, again bool) {
	x := g.rcv.Reception()
	if g.role == wire.RoleMaster || x.Closed() || !g.rcv.Adopted() {
		return
	}
	var best *member
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.state.Role != wire.RoleMaster || ms.state.Term < g.rcv.Pos().Term {
			continue
		}
		// A master that has not filled its stream yet says so again when it has.
		if ms.state.Have.Node != m.hello.Node || ms.state.Have.Term != ms.state.Term {
			continue
		}
		if best == nil || ms.state.Term > best.groups[g.name].state.Term {
			best = m
		}
	}
	if best == nil {
		return
	}
	ms := best.groups[g.name]
	id := ms.state.Have.StreamID
	if x.Follows(best, id) && !again {
		return
	}
	x.Ask(best, id, time.Now())
	ms.requested = id
	e.tellMaxima(g, best)
	have := g.rcv.Pos()
	if x.WantsAll() {
		have = wire.StreamPos{} // so that all of it comes
	}
	e.send(best, &wire.Request{Group: g.name, Have: have})
}

// streamBegins accepts a stream of a member that is master of the group.
func (e *Engine) streamBegins(ctx context.Context, m *member, handle uint32, id wire.StreamID,
	begin func(*group) bool) {
	g := e.groups[id.Group]
	if g == nil {
		e.refuse(m, "stream of an unknown group")
		return
	}
	ms := m.groups[g.name]
	if ms == nil || ms.requested != id || id.Node != m.hello.Node {
		e.refuse(m, "stream that was not asked for")
		return
	}
	x := g.rcv.Reception()
	if !x.Follows(m, id) || id.Term < g.rcv.Pos().Term {
		return // too late: older never overrides newer
	}
	x.Bind(handle, time.Now())
	if !begin(g) {
		return
	}
	g.maximaHeard()
	g.rcv.SetKernel(e.sameKernel(m), e.sameOrder(m))
	g.term = max(g.term, id.Term)
}

// receiving returns the group whose stream from m has this handle, if it may
// be taken now. What a former master still says is dropped without an answer.
func (e *Engine) receiving(m *member, handle uint32) *group {
	for _, g := range e.order {
		if g.rcv.Reception().Takes(m, handle) {
			g.gap.heardAt, g.gap.heardFrom = time.Now(), m.session.Peer()
			g.rcv.Reception().Hear(g.gap.heardAt)
			return g
		}
	}
	return nil
}

// missed asks again for a stream of which something has not come: the master has
// shown the number seq. whole asks for all there is.
func (e *Engine) missed(m *member, g *group, seq uint64, whole bool) {
	e.log.Warn("something of the master's stream has not come, asking for it again", "group", g.name,
		"peer", m.session.Peer(),
		"held", g.rcv.Pos().Seq, "shown", seq)
	x := g.rcv.Reception()
	x.Miss(seq)
	if whole {
		x.WantAll()
	}
	e.follow(g, false)
	e.reportReadiness(g, time.Now())
}

func (e *Engine) batch(ctx context.Context, m *member, g *group, b *wire.Batch) {
	now := time.Now()
	mono := now.Sub(e.start)
	next := g.rcv.Pos().Seq + 1
	if b.First > next {
		e.missed(m, g, b.First-1, false)
		return
	}
	if b.First != next {
		e.refuse(m, "numbers of the stream are not in order")
		return
	}
	missing := g.rcv.Reception().Missing(g.rcv.Pos())
	e.stats.RecordsReceived += uint64(len(b.Records))
	g.rcv.ApplyAll(now, mono, b.Records, func(ops []sadb.Op) { e.exec(ctx, g, ops) })
	if g.rcv.OwesAnswer() {
		e.ack(m, g, b.Stream)
	}
	if missing && !g.rcv.Reception().Missing(g.rcv.Pos()) {
		e.reportReadiness(g, now)
	}
}

// ack tells the master what the kernel holds: as a standby, and before the election
// has its answer, since operations may have been dropped after that.
func (e *Engine) ack(m *member, g *group, handle uint32) {
	if g.sending() {
		return
	}
	e.send(m, g.rcv.Answer(handle))
}

// handoverTo is the master's word that it is fenced and that we hold its final
// counters.
func (e *Engine) handoverTo(m *member, h *wire.Handover) {
	g := e.groups[h.Group]
	if g == nil || g.role == wire.RoleMaster || g.source() != m || !g.rcv.Pos().Complete || h.Term != g.rcv.Pos().Term {
		return
	}
	g.gap.handoverAt = time.Now()
	g.gap.silentFrom = g.gap.handoverAt
	var silent time.Duration
	if o := m.groups[g.name].outage; !o.Over && o.Term == h.Term {
		silent = o.Gap
		g.gap.silentFrom = g.gap.handoverAt.Add(-silent)
	}
	e.log.Info("master hands over", "group", g.name, "peer", m.session.Peer(), "term", h.Term)
	e.elector.Takeover(g.name, h.Term, silent)
}
