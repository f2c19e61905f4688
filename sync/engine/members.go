package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sasyncd/sync/replica"
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
	outage    wire.Outage       // the latest that it told
	out       *replica.Follower // our stream to it, as MASTER
	requested wire.StreamID     // the stream that we asked it for last: it may begin, late as it may be
	tailOf    wire.StreamID     // the stream of another node of which we asked it for the end, of late
}

// Peer returns the member's name.
func (m *member) Peer() string { return m.session.Peer() }

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
		e.seen.count(m.session.Peer(), false, msg)
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
		e.seen.registerPeer(m.session.Peer())
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
				g.rcv.Reception().Lose(m, time.Now())
				e.follow(g, false)
				e.reportReadiness(g, time.Now())
			})
		}
	case PeerMessage:
		if m := e.members[ev.Session]; m != nil {
			e.seen.count(m.session.Peer(), true, ev.Message)
			if o, is := ev.Message.(*wire.Outage); is {
				e.masterIsFenced(m, o)
			}
			if ack, is := ev.Message.(*wire.Ack); is {
				e.acked(m, ack)
			} else if g := e.concerned(m, ev.Message); g != nil {
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
		if ms.out != nil && ms.out.Handle() == handle {
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
			if g.rcv.Pos().StreamID != msg.ID || g.rcv.Pos().Seq != msg.Seq || !g.rcv.Pos().Complete {
				e.refuse(m, "resumed a stream that was not asked for")
				return false
			}
			g.rcv.Resume(msg.Seq)
			return true
		})
	case *wire.SnapBegin:
		e.streamBegins(ctx, m, msg.Stream, msg.ID, func(g *group) bool {
			g.rcv.BeginSnapshot(msg.ID, msg.Seq, msg.SAs, msg.Policies)
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
			if !g.rcv.SnapshotCame(msg.Seq, uint64(msg.SAs)+uint64(msg.Policies)) {
				e.missed(m, g, msg.Seq, true)
				return
			}
			e.execAll(ctx, g, g.rcv.EndSnapshot(msg.Seq))
			e.tellBeyond(g, m) // before it counts as complete
			e.stats.SnapshotsReceived++
			refused, _ := g.rcv.Lost()
			sas, policies := g.rcv.Size()
			e.log.Info("snapshot complete", "group", g.name, "peer", m.session.Peer(), "term", g.rcv.Pos().Term,
				"sas", sas, "policies", policies, "refused", refused)
			e.ack(m, g, msg.Stream)
			e.reportReadiness(g, time.Now())
		}
	case *wire.Counters:
		if g := e.receiving(m, msg.Stream); g != nil {
			now := time.Now()
			e.exec(ctx, g, g.rcv.SetCounters(now, now.Sub(e.start), msg.Entries))
			e.tellBeyond(g, m)
			// Only the last message of an epoch, which is not full, is answered: an
			// epoch is held when all of it is, and answers to each would cost both
			// sides more than the counters do.
			if len(msg.Entries) < counterBatch {
				g.rcv.EndEpoch(msg.Epoch)
				e.ack(m, g, msg.Stream)
			}
		}
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
			ops := g.rcv.RepairBucket(time.Now(), e.mono(), msg)
			e.stats.Repairs += uint64(replica.OpList{ops}.Repairs())
			e.exec(ctx, g, ops)
		}
	case *wire.Compare:
		e.compared(ctx, m, msg)
	case *wire.Inventory:
		e.answered(m, msg.Token, msg)
	case *wire.Succession:
		e.handleSuccession(ctx, m, msg)
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
		e.refuse(m, fmt.Sprintf("its term %d of group %s is too far above %d, the highest one known here; see "+
			"docs/operations.md",
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
	e.noteSuccessor(m, g, gs, time.Now())
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
		g.rcv.Reception().Lose(m, time.Now())
	}
	e.follow(g, false)
	e.reportReadiness(g, time.Now())
}
