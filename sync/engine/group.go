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
	// countersOnly: see GroupConfig.
	countersOnly bool
	alone        bool // the only group: a dump is its own
	skip         []netip.Addr
	scope        scope
	vips         []netip.Addr

	role   Role
	term   uint64
	stored uint64 // the term that is remembered
	since  time.Time
	reason string
	fit    fitness // of this node

	task  *task    // under way, see tasks.go
	tasks []func() // behind it
	turns pace     // of its computations, to copy
	// policyOps is how many operations that install a policy are left of the task.
	policyOps int
	// publishing: the task publishes a reading.
	publishing bool
	// finish does at once what is left of the task, where half of it would be worse
	// than none; nil where it may be given up as it is.
	finish   func()
	turnover int // counts changes of role

	pub   *publisher // as MASTER, once the kernel has been read
	holds *holdback
	rcv   *receiver // otherwise; kept while the publisher is not filled yet

	asked    *uint64     // the term of a preparation that is not answered yet
	handing  *handover   // of the preparation to be BACKUP that is not over
	handover *handover   // the same, once the final counters are sent
	retiring *retirement // what this node owes before it is ready

	tail         *tail     // MASTER, not filled yet: waits for another standby
	newer        time.Time // when a newer term was first heard of without its stream
	bumped       uint64    // the term for which counters were raised again
	bumpedUntold uint64    // the same for those that a snapshot which comes has not told yet
	raisedUnread bool      // whether they were raised for what this node did before it started

	touched   *touched
	scan      groupScan
	foreign   time.Time // when to look after a foreign change; zero: never
	collected time.Time // when replicated SAs were last looked through
	flushed   bool      // the master's tables were flushed since the last dump
	emptied   bool      // its SAs were, and are to be put back
	// lostPolicies are the types of policies (sadb.PolicyKey.Sub) that were flushed from a
	// MASTER's kernel and are not back.
	lostPolicies []bool
	mapped       map[sadb.SAKey]mapping
	// offloaded is how many SAs of the group are left out because a device does
	// their cryptography.
	offloaded, offloadedTold int
	told                     Readiness
	toldOnce                 bool
	hints                    hinted
	trail                    []sadb.Op // work of a promotion that may come after the VIPs

	// Times of the changes under way, zero while there is none.
	preparedAt, promotedAt, handingAt time.Time
	// audited is the member whose sums were compared last, agreed what came of
	// it.
	audited string
	agreed  bool

	// sent is what this node sent as master under the stream sentAs, until the next
	// master has heard it; saidAs the stream of the numbers that were said last.
	sent           map[sadb.SAKey]uint64
	sentAs, saidAs wire.StreamID
	jumps          jumps // of a MASTER
	// yielded is when this node last judged that two are master, and splitTerm
	// the other's term then.
	yielded   time.Time
	splitTerm uint64
	// yieldedTo is the master to which this node gave way in a split. While it
	// is alive this node does not contend, whatever the advertisements say.
	yieldedTo wire.NodeID

	preferTraffic bool
	received      uint64 // packets, see wire.GroupState
	receivedAt    time.Time
	dual          dual
	// handedAt is when this node last handed over: its successor is master a
	// moment before the election has told this node that it no longer is.
	handedAt time.Time

	// successor is to whom alone this MASTER hands over until successorTo;
	// holdsFor the master for whose hand-over to another this node holds back.
	successor   wire.NodeID
	successorTo time.Time
	holdsFor    wire.NodeID

	// What the last failover is measured by: when this node was fenced for a
	// hand-over and which term it gave up, when it was told to take over, and
	// when and from whom a master's stream was last heard.
	fencedAt   time.Time
	gaveTerm   uint64
	handoverAt time.Time
	silentFrom time.Time // when the one that handed over was fenced, as far as it told
	heardAt    time.Time
	heardFrom  string
	last       *Failover

	expected uint64 // records of the snapshot that is received
}

func newGroup(gc GroupConfig, cfg Config) *group {
	g := &group{name: gc.Name, whole: gc.Whole, countersOnly: gc.CountersOnly, alone: len(cfg.Groups) == 1, skip: cfg.Skip, since: time.Now(),
		holds: newHoldback(), touched: newTouched(),
	}
	g.rcv = g.newReceiver(cfg)
	g.setVIPs(nil)
	return g
}

// newReceiver returns the group's, empty.
func (g *group) newReceiver(cfg Config) *receiver {
	r := newReceiver(options{margin: cfg.Margin, sweeps: cfg.Sweep, advance: cfg.Advance, countersOnly: g.countersOnly})
	r.pace = g.turns
	return r
}

// source returns the member whose stream comes, or came until the election asked; nil
// for none.
func (g *group) source() *member { return asMember(g.rcv.Rx().source()) }

// asMember returns the member that a reception's source is, nil for none.
func asMember(s Source) *member {
	m, _ := s.(*member)
	return m
}

func (g *group) setVIPs(vips []netip.Addr) {
	g.vips = slices.Clone(vips)
	slices.SortFunc(g.vips, netip.Addr.Compare)
	g.scope = newScope(g.vips, g.whole, g.skip)
	g.scan.void = true
	if g.pub != nil {
		g.pub.lookAgain()
	}
	g.rcv.lookAgain()
}

// pick picks the group's items out of a dump and judges their direction.
func (g *group) pick(snap *sadb.Snapshot) *sadb.Snapshot {
	out := &sadb.Snapshot{}
	turns := g.turns
	g.offloaded = 0
	for _, sa := range snap.SAs {
		turns.item()
		if sa.Offloaded && g.scope.owns(sa) {
			g.offloaded++
		}
		if dir, ok := g.scope.sa(sa); ok {
			sa = g.own(sa)
			sa.Dir = dir
			out.SAs = append(out.SAs, sa)
		}
	}
	out.Policies = g.pickPolicies(snap.Policies)
	return out
}

func (g *group) pickPolicies(list []*sadb.Policy) (own []*sadb.Policy) {
	turns := g.turns
	for _, p := range list {
		turns.item()
		if g.scope.policy(p) {
			own = append(own, p)
		}
	}
	return own
}

// touch notes that an SA changed while a reading is under way.
func (g *group) touch(reading bool, k sadb.SAKey) {
	if reading {
		g.touched.touchSA(k)
	}
}

// touchOp notes the same of an operation's item.
func (g *group) touchOp(reading bool, op sadb.Op) {
	if op.SA != nil {
		g.touch(reading, op.SA.Key)
	}
	if op.Policy != nil && reading {
		g.touched.touchPolicy(op.Policy.Key)
	}
}

// state is what the members are told about the group.
func (g *group) state() wire.GroupState {
	s := wire.GroupState{Name: g.name, VIPs: g.vips, Role: g.role, Term: g.term, Reason: g.reason, Received: g.received}
	if g.pub != nil {
		s.InSync = true
		s.Have = g.pub.pos()
	} else {
		s.InSync = g.told.InSync
		s.Have = g.rcv.Pos()
	}
	return s
}

// known reports whether the group's share of the kernel can be told: before the
// elector has named the virtual IPs nothing seems to belong to it.
func (g *group) known() bool { return g.whole || len(g.vips) > 0 }

// countRepairs leaves out counters, which an audit may raise without anything
// having gone wrong.
func countRepairs(blocks ...[]sadb.Op) (n int) {
	for _, ops := range blocks {
		for _, op := range ops {
			if op.Kind != sadb.OpSetCounters {
				n++
			}
		}
	}
	return n
}

// groupTick does what time asks for. Where a task is under way most of it waits for
// a later tick.
func (e *Engine) groupTick(ctx context.Context, g *group, now time.Time) {
	if g.task == nil && len(g.tasks) == 0 {
		e.run(g, func() { e.groupTurn(ctx, g, now) })
	}
	if g.role == wire.RoleMaster && g.pub != nil {
		e.advanceHandover(g, now)
	}
	e.tellReadiness(g, now)
}

// groupTurn is the part of the tick that may be a task.
func (e *Engine) groupTurn(ctx context.Context, g *group, now time.Time) {
	if g.role == wire.RoleMaster {
		if g.pub != nil {
			e.forwardDue(g, now)
			e.followMappings(ctx, g, now)
			e.jumpsAgain(ctx, g, now)
		} else if g.tail != nil && !g.waitsForTail(now) {
			g.tail = nil
			e.requestDump(ctx)
		}
		e.followPromotion(ctx, g)
		e.decideDual(ctx, g, now)
	} else {
		if !g.foreign.IsZero() && now.After(g.foreign) {
			g.foreign = time.Time{}
			e.requestDump(ctx)
		}
		if g.rcv.Adopted() {
			e.exec(ctx, g, g.rcv.raise(now))
		}
		e.bump(ctx, g, now)
		x := g.rcv.Rx()
		e.follow(g, x.unanswered(now) || g.sent != nil && g.source() != nil)
		if x.snapshot() && g.rcv.unanswered() {
			e.ack(asMember(x.Member()), g, x.Handle())
		}
	}
}

// bump raises a standby's counters once more when another node has become
// master and its stream has not arrived: that node may have used the numbers
// that this standby's margin stands on. Counters that an arriving snapshot has told
// need no more than their lead.
func (e *Engine) bump(ctx context.Context, g *group, now time.Time) {
	arrives := g.rcv.Rx().snapshot() && g.rcv.Pos().Term >= g.term
	bumped := &g.bumped
	if arrives {
		bumped = &g.bumpedUntold
	}
	switch {
	case g.rcv.Pos().Complete && g.rcv.Pos().Term >= g.term, *bumped >= g.term, g.rcv.Pos().Term == 0:
		g.newer = time.Time{}
	case g.newer.IsZero():
		g.newer = now
	case !g.rcv.Adopted() || g.retiring != nil || g.rcv.Rx().closed(): // what there is to raise is not known, or raised already
	case now.Sub(g.newer) >= bumpDelay:
		*bumped = g.term
		if !arrives {
			e.log.Info("raising counters above those of a master whose stream is missing", "group", g.name, "term", g.term)
		}
		g.retiring = &retirement{untold: arrives} // before the first pause: the election may ask then
		e.retire(ctx, g, now)
	}
}
