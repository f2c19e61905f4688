package engine

import (
	"context"
	"time"

	"sasyncd/sync/wire"
)

// Who carries the traffic (`when-split prefer-traffic`). What counts are packets
// that came in on the group's SAs and that the kernel has authenticated: nobody
// but the remote ends can make them, and they go to the node that the network
// takes for the virtual address.

// dual is a time in which another node is master too.
type dual struct {
	node       wire.NodeID
	term       uint64 // of that node
	since      time.Time
	own, other uint64 // packets received until then
}

const (
	// dualTime is how long two masters are compared. The one that came later
	// must have had the time to be found by the remote ends.
	dualTime = 3 * time.Second
	// trafficTime is how long a packet counts as traffic.
	trafficTime = 5 * time.Second
)

// countReceived adds up what a collection of counters has shown.
func (e *Engine) countReceived(g *group, now time.Time) {
	n := g.pub.TakeReceived()
	if n == 0 {
		return
	}
	g.split.received, g.split.receivedAt = g.split.received+n, now
	e.stepDone(g, StepTraffic, now)
	if !g.split.dual.since.IsZero() {
		e.broadcast(&wire.State{GroupState: g.state()})
	}
}

// traffic reports whether packets have come in lately.
func (g *group) traffic(now time.Time, interval time.Duration) bool {
	return !g.split.receivedAt.IsZero() && now.Sub(g.split.receivedAt) < max(trafficTime, 3*interval)
}

// compares begins to compare this node with another master, and reports whether
// there is something to wait for. The one that would have to yield decides, so
// that there is one decision; the other one lets it know what it receives. A
// term that has been raised meanwhile is the decision.
func (e *Engine) compares(m *member, g *group, gs wire.GroupState, yield bool, now time.Time) bool {
	d := &g.split.dual
	if d.since.IsZero() || d.node != m.hello.Node {
		*d = dual{node: m.hello.Node, term: gs.Term, since: now, own: g.split.received, other: gs.Received}
		e.log.Error("two masters, comparing the traffic that they get", "group", g.name, "term", g.term,
			"peer", m.session.Peer(), "peer_term", gs.Term)
		e.broadcast(&wire.State{GroupState: g.state()})
		return yield
	}
	return yield && gs.Term == d.term
}

// decideDual ends a comparison.
func (e *Engine) decideDual(ctx context.Context, g *group, now time.Time) {
	d := g.split.dual
	if d.since.IsZero() {
		return
	}
	var m *member
	for _, x := range e.members {
		if ms := x.groups[g.name]; x.hello.Node == d.node && ms != nil && ms.state.Role == wire.RoleMaster {
			m = x
		}
	}
	if m == nil {
		g.split.dual = dual{} // it has yielded, or is out of reach again
		return
	}
	gs := m.groups[g.name].state
	if now.Sub(d.since) < dualTime || gs.Term != d.term || !yields(g.term, e.cfg.Node, gs.Term, d.node) {
		return
	}
	own, other := g.split.received-d.own, gs.Received-min(gs.Received, d.other)
	g.split.dual = dual{}
	if own <= other {
		e.giveWay(m, g, gs, now)
		return
	}
	g.term = max(g.term, gs.Term) + 1
	e.stats.SplitsSeen++
	e.log.Error("two masters, staying as this one gets the traffic", "group", g.name, "term", g.term,
		"peer", m.session.Peer(), "packets", own, "peer_packets", other)
	g.ready.hasReported = false
	e.becomeMaster(ctx, g)
	e.broadcast(&wire.State{GroupState: g.state()})
	e.reportReadiness(g, now)
}
