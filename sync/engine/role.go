package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// electorEvent follows the election. It may come between two turns of a task, so it
// goes over no items itself: what has to is a task of its own.
func (e *Engine) electorEvent(ctx context.Context, ev ElectorEvent) {
	if ev.Kind == ElectorLost && ev.Group == "" {
		for _, g := range e.order {
			e.electorLost(ctx, g, ev.Reason)
		}
		return
	}
	g := e.groups[ev.Group]
	if g == nil {
		e.log.Warn("election speaks of a group that is not configured", "group", ev.Group)
		return
	}
	switch ev.Kind {
	case ElectorLost:
		e.electorLost(ctx, g, ev.Reason)
	case ElectorHeard:
		g.split.to = wire.NodeID{}
	case ElectorState:
		e.setRole(ctx, g, ev)
	case ElectorFitness:
		e.setFitness(g, ev.Demotion, ev.Willing)
	case ElectorPrepare:
		if ev.To == wire.RoleMaster {
			e.prepareMaster(ctx, g, ev.Term)
		} else {
			e.prepareBackup(ctx, g, ev.Term)
		}
	case ElectorCancel:
		g.promotion.asked, g.leaving.handover, e.dump.policies.known = nil, nil, 0
		g.rcv.Reception().Open()
		g.gap.fencedAt = time.Time{}
		g.promotion.preparedAt, g.leaving.since = time.Time{}, time.Time{}
		e.tellKeying(g)
		if g.role != wire.RoleMaster {
			e.run(g, func() { e.follow(g, true) })
			e.requestDump(ctx) // operations may have been dropped
		}
	}
}

// electorLost silences the group, for which the elector can no longer answer. Its
// role stays: the elector tells it anew when it is back. One that was about to make
// this node MASTER may have done so without a word.
func (e *Engine) electorLost(ctx context.Context, g *group, reason string) {
	e.log.Warn("elector lost, the role stays as it was until it is back", "group", g.name, "reason", reason)
	if g.fit.known {
		e.setFitness(g, g.fit.demotion, false) // nobody is there to take over
	}
	if g.role != wire.RoleMaster && !g.rcv.Reception().Closed() || e.cfg.Fence == nil {
		return
	}
	if err := e.cfg.Fence(ctx, g.own.vips); err != nil {
		e.log.Error("setting the fence failed", "group", g.name, "err", err)
		return
	}
	e.log.Error("fence set, as the elector died on a master", "group", g.name, "role", g.role.String())
	if e.cfg.Keying != nil && g.role == wire.RoleMaster {
		// Behind the fence it would give up its peers and clear the kernel.
		e.cfg.Keying.Passive(g.name, g.term, reason, false, g.own.vips, nil)
	}
}

// prepareMaster makes sure that nothing is missing: the kernel is complete
// already, so all there is to do is to take nothing more from the old master. What
// delays the answer is a raise that is not finished, or policies that the task
// under way is installing.
func (e *Engine) prepareMaster(ctx context.Context, g *group, term uint64) {
	g.rcv.Reception().Close()
	g.promotion.preparedAt = time.Now()
	g.term = max(g.term, term)
	g.promotion.asked = &term
	e.makeWay(g)
	e.prepare(ctx, g)
}

// setRole follows a change of role.
func (e *Engine) setRole(ctx context.Context, g *group, ev ElectorEvent) {
	if !slices.Equal(g.own.vips, sortedAddrs(ev.VIPs)) && len(ev.VIPs) > 0 {
		g.setVIPs(ev.VIPs)
		e.requestDump(ctx)
	}
	g.rcv.Reception().Open()
	e.endHandOver(g)
	e.dump.policies.known = 0 // what depends on them depends on the role
	g.promotion.asked, g.split.preferTraffic = nil, ev.PreferTraffic
	old, oldTerm := g.role, g.term
	g.term = max(g.term, ev.Term)
	if ev.Term == 0 && ev.Role == wire.RoleMaster && old != wire.RoleMaster {
		g.term = e.seenTerm(g) + 1
	}
	g.reason = ev.Reason
	if old != ev.Role {
		g.since = time.Now()
		e.log.Info("role", "group", g.name, "from", old.String(), "to", ev.Role.String(), "term", g.term,
			"reason", ev.Reason)
	}
	switch {
	case ev.Role == wire.RoleMaster && (old != wire.RoleMaster || oldTerm != g.term):
		if old != ev.Role {
			e.noteTakeover(g, time.Now(), ev)
		}
		g.role = ev.Role
		if g.raising != nil {
			e.log.Error("MASTER again before its own counters were raised, raising them now", "group", g.name,
				"term", g.term)
		}
		e.becomeMaster(ctx, g)
	case ev.Role != wire.RoleMaster && old == wire.RoleMaster:
		g.role = ev.Role
		e.loseMaster(ctx, g)
	default:
		g.role = ev.Role
	}
	e.tellKeying(g)
	g.ready.hasReported = false
	e.reportReadiness(g, time.Now())
	e.broadcast(&wire.State{GroupState: g.state()})
	e.run(g, func() { e.follow(g, false) }) // nobody as MASTER
	e.peers.Kick()
}

// seenTerm returns the highest term of which this node has heard: its own memory,
// which survives a restart, and what the members say, of themselves and of the
// streams they hold.
func (e *Engine) seenTerm(g *group) uint64 {
	seen := max(g.term, g.rcv.Pos().Term)
	for _, m := range e.members {
		if ms := m.groups[g.name]; ms != nil {
			seen = max(seen, ms.state.Term, ms.state.Have.Term)
		}
	}
	return seen
}

func sortedAddrs(a []netip.Addr) []netip.Addr {
	a = slices.Clone(a)
	slices.SortFunc(a, netip.Addr.Compare)
	return a
}

// becomeMaster begins a stream of one's own. The kernel is not touched: it was
// complete before. What is published comes from the next dump.
func (e *Engine) becomeMaster(ctx context.Context, g *group) {
	e.stats.Takeovers++
	e.timed(PhasePrepare, &g.promotion.preparedAt)
	g.promotion.promotedAt = time.Now()
	g.split.dual = dual{}
	g.rcv.Reception().Stop()
	g.used.saidAs = wire.StreamID{}
	if g.pub != nil {
		e.giveUp(g) // it is about the stream that ends
	}
	g.pub, g.holds, g.mapped = nil, replica.NewHoldback(), nil
	g.endStreams(e.members)
	g.promotion.softLimitOps, g.promotion.tail = nil, nil
	g.work.turnover++
	n := g.work.turnover
	e.runNext(g, func() {
		if g.work.turnover == n {
			e.promote(ctx, g)
		}
	})
}

// promote is the part of becomeMaster that goes over all items, after the task that
// was under way.
func (e *Engine) promote(ctx context.Context, g *group) {
	g.promotion.softLimitOps = append(g.promotion.softLimitOps, g.rcv.RestoreLimits()...)
	e.takeTail(g)
	g.reading.scan.void = true // it may be older than what the last task did
	e.requestDump(ctx)
}

// endStreams ends what is sent to the members.
func (g *group) endStreams(members map[Session]*member) {
	for _, m := range members {
		if ms := m.groups[g.name]; ms != nil {
			ms.out = nil
		}
	}
}

// loseMaster ends one's own stream. The last act of a master is that raise, so
// that it never sends a number twice should it be promoted again before it has
// heard from its successor. The elector has fenced this node already.
func (e *Engine) loseMaster(ctx context.Context, g *group) {
	g.work.turnover++
	if g.pub == nil && g.raising != nil {
		return // it has been MASTER again without publishing, and still owes what it owed
	}
	e.giveUp(g)
	pub := g.pub
	owed := g.used.jumps.Take()
	g.reading.emptied, g.reading.lostPolicies = false, nil
	g.pub, g.promotion.softLimitOps, g.promotion.tail, g.mapped, g.split.dual = nil, nil, nil, nil, dual{}
	if n := g.holds.Len(); n > 0 {
		e.stats.DroppedDeletes += uint64(n)
	}
	g.holds = replica.NewHoldback()
	was := g.rcv
	g.rcv = g.newReceiver(e.cfg)
	g.endStreams(e.members)
	if pub != nil {
		g.rcv.SetPos(pub.Pos())
	}
	g.rcv.Reception().StepDown(time.Now())
	g.raising = &counterRaise{pub: pub, unread: pub == nil, was: was, jumps: owed}
	e.runNext(g, func() { e.stepDown(ctx, g) })
}

// stepDown makes an ex-master a standby of its own stream, and retires.
func (e *Engine) stepDown(ctx context.Context, g *group) {
	now := time.Now()
	if pub := g.raising.pub; pub != nil {
		g.rcv.Inherit(now, e.mono(), pub)
	}
	snap, err := e.dumpNow(ctx)
	if err != nil {
		e.log.Error("reading the kernel's tables failed, not ready until it succeeds", "group", g.name, "err", err)
		return
	}
	g.rcv.Observe(g.pick(snap), replica.NewTouched())
	e.raiseBeyondSuccessor(ctx, g, time.Now())
}
