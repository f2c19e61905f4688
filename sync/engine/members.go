package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// member is a connected peer.
type member struct {
	session Session
	hello   *wire.Hello
	groups  map[string]*membership
	routes  map[uint32]*group // groups that its messages are about, by handle; see concerned
	since   time.Time
	nextOut uint32 // handle of the last stream that we send to it
	// report is the member's latest wire.Report, and when it came.
	report   []byte
	reported time.Time
	// inventory: a question of its is being answered.
	inventory bool
}

// membership is what is known of one group on one member.
type membership struct {
	state     wire.GroupState
	fit       fitness
	outage    wire.Outage   // the latest that it told
	out       *outStream    // our stream to it, as MASTER
	requested wire.StreamID // the stream that we asked it for last: it may begin, late as it may be
	tailOf    wire.StreamID // the stream of another node of which we asked it for the end, of late
}

// sorted returns the members by node id, so that choices do not depend on the
// order of a map.
func (e *Engine) sorted() []*member {
	out := make([]*member, 0, len(e.members))
	for _, m := range e.members {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *member) int { return bytes.Compare(a.hello.Node[:], b.hello.Node[:]) })
	return out
}

// broadcast sends one message to every member.
func (e *Engine) broadcast(m wire.Message) {
	for _, mb := range e.sorted() {
		e.send(mb, m)
	}
}

// send queues a message; a member that does not keep up is cut off and
// resynchronised when it comes back, never allowed to stall the master.
func (e *Engine) send(m *member, msg wire.Message) bool {
	if m.session.Send(msg) {
		e.seen.pass(m.session.Peer(), false, msg)
		return true
	}
	for _, ms := range m.groups {
		ms.out = nil
	}
	if m.session.Queued() == 0 {
		return false // over; its end is about to be reported
	}
	e.stats.CutOffs++
	e.log.Warn("cut off a peer that does not keep up", "peer", m.session.Peer())
	m.session.Close(wire.ByeSlow, "queue is full, resynchronise")
	return false
}

// refuse ends a session whose peer sent what makes no sense.
func (e *Engine) refuse(m *member, why string) {
	e.log.Warn("closing a session", "peer", m.session.Peer(), "reason", why)
	m.session.Close(wire.ByeProtocol, why)
}

func (e *Engine) peerEvent(ctx context.Context, ev PeerEvent) {
	switch ev.Kind {
	case PeerUp:
		m := &member{session: ev.Session, hello: ev.Hello, groups: make(map[string]*membership),
			routes: make(map[uint32]*group), since: time.Now()}
		e.members[ev.Session] = m
		e.seen.meet(m.session.Peer())
		for _, g := range e.order {
			e.run(g, func() {
				for _, gs := range ev.Hello.Groups {
					if gs.Name == g.name {
						e.memberState(ctx, m, gs)
					}
				}
				// The hello was written when the connection was made; say what is true now.
				e.send(m, &wire.State{GroupState: g.state()})
				e.tellFitness(m, g)
			})
		}
		e.tellReport(m)
	case PeerDown:
		m := e.members[ev.Session]
		if m == nil {
			return
		}
		delete(e.members, ev.Session)
		e.unanswered(m)
		for _, g := range e.order {
			e.run(g, func() {
				g.rcv.rx.lose(m, time.Now())
				e.follow(g, false)
				e.tellReadiness(g, time.Now())
			})
		}
	case PeerMessage:
		if m := e.members[ev.Session]; m != nil {
			e.seen.pass(m.session.Peer(), true, ev.Message)
			if g := e.concerned(m, ev.Message); g != nil {
				e.run(g, func() { e.message(ctx, m, ev.Message) })
			} else {
				e.message(ctx, m, ev.Message)
			}
		}
	}
}

// concerned returns the group whose stream a message is about, nil for none. It has
// to wait for the group's task.
func (e *Engine) concerned(m *member, msg wire.Message) *group {
	switch msg := msg.(type) {
	case *wire.State:
		return e.groups[msg.Name]
	case *wire.Request:
		return e.groups[msg.Group]
	case *wire.Resume:
		return m.route(e.groups[msg.ID.Group], msg.Stream)
	case *wire.SnapBegin:
		return m.route(e.groups[msg.ID.Group], msg.Stream)
	case *wire.Batch:
		return m.routes[msg.Stream]
	case *wire.SnapEnd:
		return m.routes[msg.Stream]
	case *wire.Counters:
		return m.routes[msg.Stream]
	case *wire.Digest:
		return m.routes[msg.Stream]
	case *wire.BucketItems:
		return m.routes[msg.Stream]
	case *wire.Ack:
		return e.sentTo(m, msg.Stream)
	case *wire.BucketRequest:
		return e.sentTo(m, msg.Stream)
	case *wire.Handover:
		return e.groups[msg.Group]
	case *wire.Maxima:
		return e.groups[msg.ID.Group]
	case *wire.Succession:
		return e.groups[msg.Group]
	case *wire.Fitness:
		return e.groups[msg.Group]
	case *wire.Outage:
		return e.groups[msg.Group]
	}
	return nil
}

// route notes that a member's messages with a handle are about g from now on.
func (m *member) route(g *group, handle uint32) *group {
	if g != nil {
		maps.DeleteFunc(m.routes, func(_ uint32, o *group) bool { return o == g })
		m.routes[handle] = g
	}
	return g
}

// sentTo returns the group whose stream to a member has a handle.
func (e *Engine) sentTo(m *member, handle uint32) *group {
	for name, ms := range m.groups {
		if ms.out != nil && ms.out.handle == handle {
			return e.groups[name]
		}
	}
	return nil
}

func (e *Engine) message(ctx context.Context, m *member, msg wire.Message) {
	switch msg := msg.(type) {
	case *wire.State:
		e.memberState(ctx, m, msg.GroupState)
	case *wire.Request:
		e.request(m, msg)
	case *wire.Resume:
		if e.tailBegins(m, msg) {
			return
		}
		e.streamBegins(ctx, m, msg.Stream, msg.ID, func(g *group) bool {
			if g.rcv.pos.StreamID != msg.ID || g.rcv.pos.Seq != msg.Seq || !g.rcv.pos.Complete {
				e.refuse(m, "resumed a stream that was not asked for")
				return false
			}
			g.rcv.resume(msg.Seq)
			return true
		})
	case *wire.SnapBegin:
		e.streamBegins(ctx, m, msg.Stream, msg.ID, func(g *group) bool {
			g.rcv.begin(msg.ID, msg.Seq, msg.SAs, msg.Policies)
			g.expected = uint64(msg.SAs) + uint64(msg.Policies)
			return true
		})
	case *wire.Batch:
		if e.tailBatch(ctx, m, msg) {
			return
		}
		if g := e.receiving(m, msg.Stream); g != nil {
			e.batch(ctx, m, g, msg)
		}
	case *wire.SnapEnd:
		if g := e.receiving(m, msg.Stream); g != nil {
			if all := uint64(msg.SAs) + uint64(msg.Policies); g.rcv.rx.snapshot() && (msg.Seq != g.rcv.pos.Seq || all != g.rcv.records) {
				e.missed(m, g, msg.Seq, true)
				return
			}
			e.execAll(ctx, g, g.rcv.end(msg.Seq))
			e.tellBeyond(g, m) // before it counts as complete
			e.stats.SnapshotsReceived++
			refused, _ := g.rcv.lost()
			e.log.Info("snapshot complete", "group", g.name, "peer", m.session.Peer(), "term", g.rcv.pos.Term,
				"sas", len(g.rcv.want), "policies", len(g.rcv.wantPolicy), "refused", refused)
			e.ack(m, g, msg.Stream)
			e.tellReadiness(g, time.Now())
		}
	case *wire.Counters:
		if g := e.receiving(m, msg.Stream); g != nil {
			now := time.Now()
			e.exec(ctx, g, g.rcv.setCounters(now, now.Sub(e.start), msg.Entries))
			e.tellBeyond(g, m)
			// Only the last message of an epoch, which is not full, is answered: an
			// epoch is held when all of it is, and answers to each would cost both
			// sides more than the counters do.
			if len(msg.Entries) < counterBatch {
				g.rcv.epoch = max(g.rcv.epoch, msg.Epoch)
				e.ack(m, g, msg.Stream)
			}
		}
	case *wire.Ack:
		e.acked(m, msg)
	case *wire.Handover:
		e.handoverTo(m, msg)
	case *wire.Maxima:
		e.maxima(ctx, m, msg)
	case *wire.Digest:
		if g := e.receiving(m, msg.Stream); g != nil {
			e.compareDigest(m, g, msg)
		}
	case *wire.BucketRequest:
		e.sendBuckets(m, msg)
	case *wire.BucketItems:
		if g := e.receiving(m, msg.Stream); g != nil {
			ops := g.rcv.repairBucket(time.Now(), e.mono(), msg)
			e.stats.Repairs += uint64(countRepairs(ops))
			e.exec(ctx, g, ops)
		}
	case *wire.Compare:
		e.compared(ctx, m, msg)
	case *wire.Inventory:
		e.answered(m, msg.Token, msg)
	case *wire.Succession:
		e.succeed(ctx, m, msg)
	case *wire.Consent:
		e.answered(m, msg.Token, msg)
	case *wire.Fitness:
		e.memberFitness(m, msg)
	case *wire.Outage:
		if ms := m.groups[msg.Group]; ms != nil {
			ms.outage = *msg
		}
	case *wire.Report:
		m.report, m.reported = msg.JSON, time.Now()
	case *wire.Gossip, *wire.Unknown:
	default:
		e.refuse(m, "unexpected "+msg.Type().String()+" message")
	}
}

// memberState notes what a member says of a group and decides whether to
// follow it.
func (e *Engine) memberState(ctx context.Context, m *member, gs wire.GroupState) {
	g := e.groups[gs.Name]
	if g == nil {
		return
	}
	if !wire.Believable(g.term, gs.Term) || !wire.Believable(g.term, gs.Have.Term) {
		e.refuse(m, fmt.Sprintf("its term %d of group %s is too far above %d, the highest one known here; see docs/operations.md",
			max(gs.Term, gs.Have.Term), g.name, g.term))
		return
	}
	ms := m.groups[gs.Name]
	if ms == nil {
		ms = &membership{}
		if m.tellsFitness() {
			ms.fit.demotion = wire.MaxDemotion // until it tells
		}
		m.groups[gs.Name] = ms
	}
	ms.state = gs
	e.succeeded(m, g, gs, time.Now())
	if gs.Term > g.term && g.role != wire.RoleMaster {
		g.term = gs.Term
	}
	if gs.Role == wire.RoleMaster && g.role == wire.RoleMaster {
		e.twoMasters(m, g, gs)
		return
	}
	if g.role == wire.RoleMaster {
		e.tailEnds(ctx, m, g, gs.Have)
		if gs.Have.Term > g.term {
			e.laterTerm(ctx, m, g, gs)
		}
		return
	}
	if gs.Role != wire.RoleMaster {
		// The master we followed has stepped down; all it said has arrived.
		g.rcv.rx.lose(m, time.Now())
	}
	e.follow(g, false)
	e.tellReadiness(g, time.Now())
}

// follow asks the member that is master, with the highest term, for its
// stream, unless it is followed already, or has been asked and may yet answer;
// again asks all the same.
func (e *Engine) follow(g *group, again bool) {
	x := &g.rcv.rx
	if g.role == wire.RoleMaster || x.closed() || !g.rcv.adopted {
		return
	}
	var best *member
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.state.Role != wire.RoleMaster || ms.state.Term < g.rcv.pos.Term {
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
	if x.follows(best, id) && !again {
		return
	}
	x.ask(best, id, time.Now())
	ms.requested = id
	e.tellMaxima(g, best)
	have := g.rcv.pos
	if x.whole {
		have = wire.StreamPos{} // so that all of it comes
	}
	e.send(best, &wire.Request{Group: g.name, Have: have})
}

// streamBegins accepts a stream of a member that is master of the group.
func (e *Engine) streamBegins(ctx context.Context, m *member, handle uint32, id wire.StreamID, begin func(*group) bool) {
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
	x := &g.rcv.rx
	if !x.follows(m, id) || id.Term < g.rcv.pos.Term {
		return // too late: older never overrides newer
	}
	x.bind(handle, time.Now())
	if !begin(g) {
		return
	}
	g.maximaHeard()
	g.rcv.alike = e.alike(m)
	g.term = max(g.term, id.Term)
}

// receiving returns the group whose stream from m has this handle, if it may
// be taken now. What a former master still says is dropped without an answer.
func (e *Engine) receiving(m *member, handle uint32) *group {
	for _, g := range e.order {
		if g.rcv.rx.takes(m, handle) {
			g.heardAt, g.heardFrom = time.Now(), m.session.Peer()
			g.rcv.rx.heard = g.heardAt
			return g
		}
	}
	return nil
}

// missed asks again for a stream of which something has not come: the master has
// shown the number seq. whole asks for all there is.
func (e *Engine) missed(m *member, g *group, seq uint64, whole bool) {
	e.log.Warn("something of the master's stream has not come, asking for it again", "group", g.name, "peer", m.session.Peer(),
		"held", g.rcv.pos.Seq, "shown", seq)
	x := &g.rcv.rx
	x.miss(seq)
	x.whole = x.whole || whole
	e.follow(g, false)
	e.tellReadiness(g, time.Now())
}

func (e *Engine) batch(ctx context.Context, m *member, g *group, b *wire.Batch) {
	now := time.Now()
	mono := now.Sub(e.start)
	next := g.rcv.pos.Seq + 1
	if b.First > next {
		e.missed(m, g, b.First-1, false)
		return
	}
	if b.First != next {
		e.refuse(m, "numbers of the stream are not in order")
		return
	}
	missing := g.rcv.rx.missing(g.rcv.pos)
	e.stats.RecordsReceived += uint64(len(b.Records))
	ops := make([]sadb.Op, 0, 2*len(b.Records))
	pending := g.rcv.pending
	pending.reset()
	for _, rec := range b.Records {
		// What to do for a record depends on what the kernel has, so a second
		// record for one item waits for the first.
		if pending.has(rec) {
			e.exec(ctx, g, ops)
			ops = ops[:0]
			pending.reset()
		}
		pending.add(rec)
		ops = append(ops, g.rcv.apply(now, mono, rec)...)
	}
	e.exec(ctx, g, ops)
	if g.rcv.owesAnswer() {
		e.ack(m, g, b.Stream)
	}
	if missing && !g.rcv.rx.missing(g.rcv.pos) {
		e.tellReadiness(g, now)
	}
}

// ack tells the master what the kernel holds: as a standby, and before the election
// has its answer, since operations may have been dropped after that.
func (e *Engine) ack(m *member, g *group, handle uint32) {
	if g.sending() {
		return
	}
	p := g.rcv.pos
	g.rcv.answered, g.rcv.answeredSeq = g.rcv.applied, p.Seq
	e.send(m, &wire.Ack{Stream: handle, Seq: p.Seq, Epoch: g.rcv.epoch, SnapDone: p.Complete && !g.rcv.rx.snapshot(), Installed: uint32(g.rcv.applied)})
}

// handoverTo is the master's word that it is fenced and that we hold its final
// counters.
func (e *Engine) handoverTo(m *member, h *wire.Handover) {
	g := e.groups[h.Group]
	if g == nil || g.role == wire.RoleMaster || g.rcv.rx.source() != m || !g.rcv.pos.Complete || h.Term != g.rcv.pos.Term {
		return
	}
	g.handoverAt = time.Now()
	g.silentFrom = g.handoverAt
	var silent time.Duration
	if o := m.groups[g.name].outage; !o.Over && o.Term == h.Term {
		silent = o.Gap
		g.silentFrom = g.handoverAt.Add(-silent)
	}
	e.log.Info("master hands over", "group", g.name, "peer", m.session.Peer(), "term", h.Term)
	e.elector.Takeover(g.name, h.Term, silent)
}
