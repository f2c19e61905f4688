package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// group is one set of virtual IPs with a master of its own.
type group struct {
	name  string
	whole bool
	skip  []netip.Addr
	scope scope
	vips  []netip.Addr

	role   Role
	term   uint64
	since  time.Time
	reason string

	pub   *publisher // as MASTER, once the kernel has been read
	holds *holdback
	rcv   *receiver // otherwise; kept while the publisher is not filled yet

	// preparing: the election is about to make this node MASTER; what the old
	// master still sends is not taken any more.
	preparing bool
	handover  *handover

	tail        *tail   // MASTER, not filled yet: waits for another standby
	from        *member // the member whose stream is followed
	contactLost time.Time
	newer       time.Time // when a newer term was first heard of without its stream
	bumped      uint64    // the term for which counters were raised again

	touched *touched
	foreign time.Time // when to look after a foreign change; zero: never
	flushed bool      // the master's tables were flushed since the last dump
	// offloaded is how many SAs of the group are left out because a device does
	// their cryptography.
	offloaded, offloadedTold int
	told                     Readiness
	toldOnce                 bool
	trail                    []sadb.Op // work of a promotion that may come after the VIPs

	sent    map[sadb.SAKey]uint64 // what this node sent as master, until it has told
	sentAs  wire.StreamID
	yielded time.Time // when it was last told to yield to another master
	// yieldedTo is the master to which this node gave way in a split. While it
	// is alive this node does not contend, whatever the advertisements say.
	yieldedTo wire.NodeID
	// handedAt is when this node last handed over: its successor is master a
	// moment before the election has told this node that it no longer is.
	handedAt time.Time
}

// handover is a planned loss of mastership that waits for the successor's
// acknowledgement of the final counters.
type handover struct {
	term  uint64
	epoch uint64
	until time.Time
}

func newGroup(gc GroupConfig, cfg Config) *group {
	g := &group{name: gc.Name, whole: gc.Whole, skip: cfg.Skip, since: time.Now(),
		holds: newHoldback(), touched: newTouched(),
		rcv: newReceiver(cfg.Margin, cfg.Sweep)}
	g.setVIPs(nil)
	return g
}

func (g *group) setVIPs(vips []netip.Addr) {
	g.vips = slices.Clone(vips)
	slices.SortFunc(g.vips, netip.Addr.Compare)
	g.scope = newScope(g.vips, g.whole, g.skip)
}

// select_ picks the group's items out of a dump and judges their direction.
func (g *group) select_(snap *sadb.Snapshot) *sadb.Snapshot {
	out := &sadb.Snapshot{}
	g.offloaded = 0
	for _, sa := range snap.SAs {
		if sa.Offloaded && g.scope.owns(sa) {
			g.offloaded++
		}
		if dir, ok := g.scope.sa(sa); ok {
			c := *sa // several groups may look at one dump
			c.Dir = dir
			out.SAs = append(out.SAs, &c)
		}
	}
	for _, p := range snap.Policies {
		if g.scope.policy(p) {
			out.Policies = append(out.Policies, p)
		}
	}
	return out
}

// touch notes that an operation changed an item while a dump may be under way.
func (g *group) touch(op sadb.Op) {
	if op.SA != nil {
		g.touched.sas[op.SA.Key] = true
	}
	if op.Policy != nil {
		g.touched.policies[op.Policy.Key] = true
	}
}

// state is what the members are told about the group.
func (g *group) state() wire.GroupState {
	s := wire.GroupState{Name: g.name, VIPs: g.vips, Role: g.role, Term: g.term, Reason: g.reason}
	if g.pub != nil {
		s.InSync = true
		s.Have = wire.StreamPos{StreamID: g.pub.stream, Seq: g.pub.seq, Complete: true}
	} else {
		s.InSync = g.told.InSync
		s.Have = g.rcv.pos
	}
	return s
}

// electorEvent follows the election.
func (e *Engine) electorEvent(ctx context.Context, ev ElectorEvent) {
	if ev.Kind == ElectorLost {
		e.electorLost(ctx, ev.Reason)
		return
	}
	g := e.groups[ev.Group]
	if g == nil {
		e.log.Warn("election speaks of a group that is not configured", "group", ev.Group)
		return
	}
	switch ev.Kind {
	case ElectorHeard:
		g.yieldedTo = wire.NodeID{}
	case ElectorState:
		e.setRole(ctx, g, ev)
	case ElectorPrepare:
		if ev.To == wire.RoleMaster {
			e.prepareMaster(g, ev.Term)
		} else {
			e.prepareBackup(ctx, g, ev.Term)
		}
	case ElectorCancel:
		g.preparing = false
		g.handover = nil
		if g.role != wire.RoleMaster {
			e.follow(g, true)
		}
	}
}

// electorLost silences what the elector can no longer answer for. Roles stay:
// the elector tells them anew when it is back.
func (e *Engine) electorLost(ctx context.Context, reason string) {
	e.log.Warn("elector lost, roles stay as they were until it is back", "reason", reason)
	for _, g := range e.order {
		if g.role != wire.RoleMaster || e.cfg.Fence == nil {
			continue
		}
		if err := e.cfg.Fence(ctx, g.vips); err != nil {
			e.log.Error("setting the fence failed", "group", g.name, "err", err)
			continue
		}
		e.log.Error("fence set, as the elector died on a master", "group", g.name)
	}
}

// prepareMaster makes sure that nothing is missing: the kernel is complete
// already, so all there is to do is to close the door behind the old master.
func (e *Engine) prepareMaster(g *group, term uint64) {
	g.preparing = true
	g.term = max(g.term, term)
	e.elector.Prepared(g.name, term)
}

// prepareBackup sends the exact counters of a fenced master to its standbys.
// The answer to the election waits for a complete standby's acknowledgement,
// or for the limit.
func (e *Engine) prepareBackup(ctx context.Context, g *group, term uint64) {
	if g.pub == nil {
		e.elector.Prepared(g.name, term)
		return
	}
	snap, err := e.dumpNow(ctx)
	if err != nil {
		e.log.Error("reading the final counters failed", "group", g.name, "err", err)
		e.elector.Prepared(g.name, term)
		return
	}
	e.publishDump(g, g.select_(snap), newTouched())
	g.handover = &handover{term: term, epoch: g.pub.epoch, until: time.Now().Add(handoverLimit)}
	e.advanceHandover(g, time.Now())
}

// advanceHandover answers the election once a successor holds the final
// counters, and tells that successor to take over without waiting.
func (e *Engine) advanceHandover(g *group, now time.Time) {
	h := g.handover
	if h == nil || g.pub == nil {
		return
	}
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.out == nil || ms.out.cursor != nil || !ms.out.snapDone || !ms.state.InSync {
			continue
		}
		if ms.out.ackEpoch < h.epoch || ms.out.ackSeq < g.pub.seq {
			continue
		}
		g.handover, g.handedAt = nil, now
		e.elector.Prepared(g.name, h.term)
		m.session.Send(&wire.Handover{Group: g.name, Term: h.term})
		e.log.Info("hand-over", "group", g.name, "to", m.session.Peer(), "term", h.term)
		return
	}
	if !now.Before(h.until) {
		g.handover = nil
		e.log.Warn("hand-over without acknowledgement by a standby", "group", g.name, "term", h.term)
		e.elector.Prepared(g.name, h.term)
	}
}

// setRole follows a change of role.
func (e *Engine) setRole(ctx context.Context, g *group, ev ElectorEvent) {
	if !slices.Equal(g.vips, sortedAddrs(ev.VIPs)) && len(ev.VIPs) > 0 {
		g.setVIPs(ev.VIPs)
		g.rcv.adopted = false // what belongs to the group is not known yet
		e.requestDump(ctx)
	}
	g.preparing = false
	old, oldTerm := g.role, g.term
	g.term = max(g.term, ev.Term)
	g.reason = ev.Reason
	if old != ev.Role {
		g.since = time.Now()
		e.log.Info("role", "group", g.name, "from", old.String(), "to", ev.Role.String(), "term", g.term, "reason", ev.Reason)
	}
	switch {
	case ev.Role == wire.RoleMaster && (old != wire.RoleMaster || oldTerm != g.term):
		g.role = ev.Role
		e.becomeMaster(ctx, g)
	case ev.Role != wire.RoleMaster && old == wire.RoleMaster:
		g.role = ev.Role
		e.loseMaster(ctx, g)
	default:
		g.role = ev.Role
	}
	g.toldOnce = false
	e.tellReadiness(g, time.Now())
	e.broadcast(&wire.State{GroupState: g.state()})
	if g.role != wire.RoleMaster {
		e.follow(g, false)
	}
	e.peers.Kick()
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
	g.handover, g.from = nil, nil
	g.pub, g.holds = nil, newHoldback()
	for _, m := range e.members {
		if ms := m.groups[g.name]; ms != nil {
			ms.out = nil
		}
	}
	g.trail = nil
	for _, w := range g.rcv.want {
		if w.limits != w.sa.Limits {
			sa := *w.sa
			sa.Limits = w.sa.Limits
			g.trail = append(g.trail, sadb.Op{Kind: sadb.OpUpdateSA, SA: &sa})
		}
	}
	e.takeTail(g)
	e.requestDump(ctx)
}

// loseMaster ends one's own stream. The last act of a master is to raise its
// own outbound counters beyond what its successor may use, so that it can
// never send a number twice should it be promoted again before it has heard
// from the successor. The elector has fenced this node already.
func (e *Engine) loseMaster(ctx context.Context, g *group) {
	pub := g.pub
	g.pub, g.handover, g.trail = nil, nil, nil
	if n := g.holds.len(); n > 0 {
		e.stats.DroppedDeletes += uint64(n)
	}
	g.holds = newHoldback()
	r := newReceiver(e.cfg.Margin, e.cfg.Sweep)
	g.rcv = r
	now := time.Now()
	for _, m := range e.members {
		if ms := m.groups[g.name]; ms != nil {
			ms.out = nil
		}
	}
	if pub != nil {
		r.inherit(now, e.mono(), pub)
	}
	g.contactLost = now
	snap, err := e.dumpNow(ctx)
	if err != nil {
		e.log.Error("reading the kernel's tables failed", "group", g.name, "err", err)
		return
	}
	own := g.select_(snap)
	g.noteSent(pub, own)
	r.observe(own, newTouched())
	e.exec(ctx, g, r.retire(now))
}

// groupDumped compares a fresh dump with what is published or wanted.
func (e *Engine) groupDumped(ctx context.Context, g *group, snap *sadb.Snapshot) {
	now := time.Now()
	if g.offloaded != g.offloadedTold {
		e.log.Warn("SAs offloaded to a device are not replicated: their IV is the bare sequence number", "group", g.name, "sas", g.offloaded)
		g.offloadedTold = g.offloaded
	}
	if g.role == wire.RoleMaster {
		if g.pub == nil {
			if g.waitsForTail(now) {
				return
			}
			g.tail = nil
			g.pub = newPublisher(wire.StreamID{Group: g.name, Term: g.term, Node: e.cfg.Node, Nonce: e.cfg.Nonce})
			g.pub.reconcile(now, snap, g.touched)
			g.pub.journal.forget()
			e.log.Info("publishing", "group", g.name, "term", g.term, "sas", len(g.pub.sas), "policies", len(g.pub.policies))
			e.broadcast(&wire.State{GroupState: g.state()})
			return
		}
		e.publishDump(g, snap, g.touched)
		return
	}
	first := !g.rcv.adopted
	g.rcv.observe(snap, g.touched)
	if g.rcv.pos.Complete && !g.rcv.inSnap && !g.preparing {
		ops := g.rcv.repair(now)
		if n := countRepairs(ops); n > 0 {
			e.stats.Repairs += uint64(n)
			e.log.Warn("repaired what differed from the master", "group", g.name, "operations", n)
		}
		e.exec(ctx, g, ops)
	}
	if first {
		e.follow(g, false)
	}
}

// countRepairs leaves out counters, which an audit may raise without anything
// having gone wrong.
func countRepairs(ops []sadb.Op) int {
	n := 0
	for _, op := range ops {
		if op.Kind != sadb.OpSetCounters {
			n++
		}
	}
	return n
}

// publishDump sends what a dump shows to be new, holds back what is gone, and
// sends the counters that moved.
func (e *Engine) publishDump(g *group, snap *sadb.Snapshot, t *touched) {
	now := time.Now()
	recs, gone := g.pub.reconcile(now, snap, t)
	for _, r := range recs {
		e.unhold(g, r)
	}
	for _, sa := range snap.SAs {
		g.holds.putSA(sa.Key)
	}
	for _, p := range snap.Policies {
		g.holds.putPolicy(p.Key)
	}
	if g.flushed && !e.cfg.ForwardFlush {
		g.pub.haunt(gone)
		gone = missing{}
	}
	g.flushed = false
	for _, k := range gone.sas {
		recs = append(recs, e.goneSA(g, now, k)...)
	}
	for _, k := range gone.policies {
		if g.holds.holdPolicy(k, now.Add(holdTime)) {
			e.stats.HeldDeletes++
		}
	}
	e.publish(g, recs)
	e.sendCounters(g, now)
}

func (e *Engine) unhold(g *group, r wire.Record) {
	switch r.Kind {
	case wire.PutSA:
		g.holds.putSA(r.SA.Key)
	case wire.PutPolicy:
		g.holds.putPolicy(r.Policy.Key)
	}
}

// goneSA publishes the deletion of an SA whose traffic another one covers and
// holds back any other.
func (e *Engine) goneSA(g *group, now time.Time, k sadb.SAKey) []wire.Record {
	if g.pub.covered(k) {
		if r, ok := g.pub.deleteSA(now, k); ok {
			return []wire.Record{r}
		}
		return nil
	}
	if g.holds.holdSA(k, now.Add(holdTime)) {
		e.stats.HeldDeletes++
	}
	return nil
}

// kernelEvent follows one change of the kernel's tables.
func (e *Engine) kernelEvent(ctx context.Context, ev sadb.Event) {
	switch ev.Kind {
	case sadb.EventResync:
		e.stats.Resyncs++
		e.log.Warn("events of the kernel were lost, reading its tables", "reason", ev.Reason)
		e.requestDump(ctx)
		return
	case sadb.EventFlushSA, sadb.EventFlushPolicy:
		if !ev.Own {
			e.log.Warn("the kernel's tables were flushed", "forwarded", e.cfg.ForwardFlush)
			for _, g := range e.order {
				g.flushed = true
			}
			e.dumpStale = e.dumping // it may show half of the flush
			e.requestDump(ctx)
		}
		return
	}
	if ev.Own {
		return
	}
	now := time.Now()
	for _, g := range e.order {
		if g.role == wire.RoleMaster {
			if g.pub != nil {
				e.masterEvent(g, now, ev)
			}
		} else if g.concerns(ev) && g.foreign.IsZero() {
			g.foreign = now.Add(foreignDelay)
		}
	}
}

// concerns reports whether an event is about the group.
func (g *group) concerns(ev sadb.Event) bool {
	switch ev.Kind {
	case sadb.EventPutSA:
		_, ok := g.scope.sa(ev.SA)
		return ok
	case sadb.EventDeleteSA, sadb.EventExpireSA:
		return ev.SA != nil && (g.rcv.want[ev.SA.Key] != nil)
	case sadb.EventPutPolicy:
		return g.scope.policy(ev.Policy)
	case sadb.EventDeletePolicy, sadb.EventExpirePolicy:
		return ev.Policy != nil && g.rcv.wantPolicy[ev.Policy.Key] != nil
	}
	return false
}

func (e *Engine) masterEvent(g *group, now time.Time, ev sadb.Event) {
	var recs []wire.Record
	switch ev.Kind {
	case sadb.EventPutSA:
		dir, ok := g.scope.sa(ev.SA)
		if !ok {
			return
		}
		sa := *ev.SA
		sa.Dir = dir
		g.touched.sas[sa.Key] = true
		g.holds.putSA(sa.Key)
		if r, ok := g.pub.putSA(now, &sa); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeleteSA, sadb.EventExpireSA:
		if ev.Kind == sadb.EventExpireSA && !ev.Hard {
			return
		}
		if g.pub.sas[ev.SA.Key] == nil {
			return
		}
		g.touched.sas[ev.SA.Key] = true
		recs = e.goneSA(g, now, ev.SA.Key)
	case sadb.EventPutPolicy:
		if !g.scope.policy(ev.Policy) {
			return
		}
		g.touched.policies[ev.Policy.Key] = true
		g.holds.putPolicy(ev.Policy.Key)
		if r, ok := g.pub.putPolicy(now, ev.Policy); ok {
			recs = append(recs, r)
		}
	case sadb.EventDeletePolicy, sadb.EventExpirePolicy:
		if ev.Kind == sadb.EventExpirePolicy && !ev.Hard {
			return
		}
		if g.pub.policies[ev.Policy.Key] == nil {
			return
		}
		g.touched.policies[ev.Policy.Key] = true
		if g.holds.holdPolicy(ev.Policy.Key, now.Add(holdTime)) {
			e.stats.HeldDeletes++
		}
	}
	e.publish(g, recs)
}

// groupTick does what time asks for.
func (e *Engine) groupTick(ctx context.Context, g *group, now time.Time) {
	if g.role == wire.RoleMaster {
		if g.pub != nil {
			due := g.holds.due(now)
			var recs []wire.Record
			for _, k := range due.sas {
				if r, ok := g.pub.deleteSA(now, k); ok {
					recs = append(recs, r)
				}
			}
			for _, k := range due.policies {
				if r, ok := g.pub.deletePolicy(now, k); ok {
					recs = append(recs, r)
				}
			}
			e.publish(g, recs)
			e.advanceHandover(g, now)
		} else if g.tail != nil && !g.waitsForTail(now) {
			g.tail = nil
			e.requestDump(ctx)
		}
		e.followPromotion(ctx, g)
	} else {
		if !g.foreign.IsZero() && now.After(g.foreign) {
			g.foreign = time.Time{}
			e.requestDump(ctx)
		}
		if g.rcv.adopted {
			e.exec(ctx, g, g.rcv.raise(now))
		}
		e.bump(ctx, g, now)
		if g.from == nil {
			e.follow(g, false)
		}
	}
	e.tellReadiness(g, now)
}

// followPromotion does the part of a promotion that may come after the VIPs:
// restoring soft limits.
func (e *Engine) followPromotion(ctx context.Context, g *group) {
	if len(g.trail) == 0 {
		return
	}
	chunk := g.trail[:min(applyChunk, len(g.trail))]
	g.trail = g.trail[len(chunk):]
	for i, err := range e.kernel.Apply(ctx, chunk) {
		if err != nil {
			e.kernelError(g, chunk[i], err)
		}
	}
}

// bump raises a standby's counters once more when another node has become
// master and its stream has not arrived: that node may have used the numbers
// that this standby's margin stands on.
func (e *Engine) bump(ctx context.Context, g *group, now time.Time) {
	switch {
	case g.rcv.pos.Complete && g.rcv.pos.Term >= g.term, g.bumped >= g.term, g.rcv.pos.Term == 0:
		g.newer = time.Time{}
	case g.newer.IsZero():
		g.newer = now
	case now.Sub(g.newer) >= bumpDelay:
		g.bumped = g.term
		e.log.Info("raising counters above those of a master whose stream is missing", "group", g.name, "term", g.term)
		e.exec(ctx, g, g.rcv.retire(now))
	}
}

// tellReadiness tells the election how fit this node is, when that changed.
func (e *Engine) tellReadiness(g *group, now time.Time) {
	r := e.readiness(g, now)
	if g.toldOnce && r == g.told {
		return
	}
	if g.toldOnce && r.InSync != g.told.InSync {
		e.log.Info("readiness", "group", g.name, "in_sync", r.InSync, "reason", r.Reason)
	}
	changed := r.InSync != g.told.InSync || !g.toldOnce
	g.told, g.toldOnce = r, true
	e.elector.Ready(g.name, r)
	if changed {
		e.broadcast(&wire.State{GroupState: g.state()})
	}
}

func (e *Engine) readiness(g *group, now time.Time) Readiness {
	r := Readiness{Term: g.term}
	reachable, yielded := 0, false
	for _, m := range e.members {
		ms := m.groups[g.name]
		if ms == nil {
			continue
		}
		reachable++
		r.Term = max(r.Term, ms.state.Term)
		r.PeerReady = r.PeerReady || ms.state.InSync
		yielded = yielded || m.hello.Node == g.yieldedTo && ms.state.Role == wire.RoleMaster
		if ms.state.Role == wire.RoleMaster || ahead(ms.state.Have, g.rcv.pos) {
			r.Behind = true
		}
	}
	switch {
	case g.role == wire.RoleMaster:
		r.InSync, r.Behind, r.Reason = true, false, "master"
	case yielded:
		r.Behind, r.Reason = true, "gave way to another master that is alive"
	case !g.rcv.adopted:
		r.Reason = "kernel not read yet"
	case g.rcv.pos.Complete && g.from != nil:
		r.InSync, r.Reason = true, "follows the master"
	case g.rcv.pos.Complete && now.Sub(g.contactLost) < contactGrace && !r.Behind:
		r.InSync, r.Reason = true, "complete when contact was lost"
	case !r.Behind && reachable >= e.cfg.Peers:
		r.InSync, r.Reason = true, "no member holds more"
	case r.Behind:
		r.Reason = "a member holds more"
	default:
		r.Reason = "not all members heard"
	}
	return r
}

// ahead reports whether a holds more than b.
func ahead(a, b wire.StreamPos) bool {
	if !a.Complete || !b.Complete {
		return a.Complete && !b.Complete
	}
	if a.Term != b.Term {
		return a.Term > b.Term
	}
	return a.StreamID == b.StreamID && a.Seq > b.Seq
}
