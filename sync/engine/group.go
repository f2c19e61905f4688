package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// group is one set of virtual IPs with a master of its own.
type group struct {
	name string
	// countersOnly: see GroupConfig.
	countersOnly bool
	own          ownership

	role   Role
	term   uint64
	stored uint64 // the term that is remembered
	since  time.Time
	reason string
	fit    fitness // of this node

	work      work
	pub       *replica.Publisher // as MASTER, once the kernel has been read
	holds     *replica.Holdback
	rcv       *replica.Receiver // otherwise; kept while the publisher is not filled yet
	reading   reading
	mapped    map[sadb.SAKey]mapping
	audit     audit
	promotion promotion
	leaving   leaving
	raising   *counterRaise // what this node owes before it is ready
	raises    raises
	used      used
	split     split
	gap       gap
	ready     ready
}

// ownership is what belongs to a group.
type ownership struct {
	whole bool
	alone bool // the only group: a dump is its own
	skip  []netip.Addr
	vips  []netip.Addr
	scope scope.Scope // made of these
}

// ready is what was last reported to the election of how fit this node is.
type ready struct {
	reported    Readiness
	hasReported bool
	hints       hinted
}

// work is what a group does in turns, see tasks.go.
type work struct {
	task    *task        // under way
	waiting []func()     // behind it
	turns   replica.Pace // of its computations, to copy
	// policyOps is how many operations that install a policy are left of the task.
	policyOps int
	// again is how many operations the kernel has refused as it did before.
	again int
	// publishing: the task publishes a reading.
	publishing bool
	// finish does at once what is left of the task, where half of it would be worse
	// than none; nil where it may be given up as it is.
	finish   func()
	turnover int // counts changes of role
}

// reading is what the readings of the kernel's tables are about for a group.
type reading struct {
	touched   *replica.Touched
	scan      groupScan
	foreign   time.Time // when to look after a foreign change; zero: never
	hidden    hidden
	collected time.Time // when replicated SAs were last looked through
	flushed   bool      // the master's tables were flushed since the last dump
	emptied   bool      // its SAs were, and are to be put back
	// lostPolicies are the types of policies (sadb.PolicyKey.Sub) that were flushed from a
	// MASTER's kernel and are not back.
	lostPolicies []bool
	// offloaded is how many SAs of the group are left out because a device does
	// their cryptography.
	offloaded, offloadedTold int
	lackTold                 sadb.Lack
}

// hidden is about what the kernel has and no reading shows: SAs of a virtual IP that the
// group lacks here.
type hidden struct {
	met bool // since the last reading
	// pause is how long the next reading waits, 0 for none. It grows while readings do not
	// show what is met.
	pause time.Duration
}

// audit is what came of the last comparison of sums.
type audit struct {
	by     string // the member whose sums they were, "" for none
	agreed bool
}

// promotion is how far this node is on its way to be MASTER. It begins with the
// election's question, and ends when everything is published and the limits of a MASTER
// are restored.
type promotion struct {
	asked        *uint64   // the term of a question that is not answered yet
	preparedAt   time.Time // when the question came; zero: none is under way
	promotedAt   time.Time // when this node became MASTER; zero once it has published
	tail         *tail     // MASTER, not filled yet: waits for another standby
	softLimitOps []sadb.Op // what may come after the VIPs
}

// leaving is how far this node is on its way from MASTER to BACKUP.
type leaving struct {
	preparing *handover // of the election's question, until its answer counts for nothing
	handover  *handover // the same, once the final counters are sent
	since     time.Time // when the question came; zero: none is under way
	// handedAt is when this node last handed over: its successor is master a
	// moment before the election has told this node that it no longer is.
	handedAt time.Time
	// successor is to whom alone this MASTER hands over until successorTo.
	successor   wire.NodeID
	successorTo time.Time
	// order names the peers that could take over, the one first that the election would
	// choose; nil where that is not known. See Engine.Succession.
	order []string
	// holdsFor is the master for whose hand-over to another this node, a standby, holds
	// back.
	holdsFor wire.NodeID
}

// raises are the occasions for which a standby has raised its counters. Each occasion
// raises them once.
type raises struct {
	newer  time.Time // when a newer term was first heard of without its stream
	bumped uint64    // the term for which counters were raised again
	untold uint64    // the same for those that a snapshot which comes has not told yet
	unread bool      // whether they were raised for what this node did before it started
}

// used are the numbers that nodes have used on the same SAs.
type used struct {
	// sent is what this node sent as master under the stream sentAs, until the next
	// master has heard it; saidAs the stream of the numbers that were said last.
	sent           map[sadb.SAKey]uint64
	sentAs, saidAs wire.StreamID
	jumps          replica.Jumps // of a MASTER
}

// split is what a group knows of another MASTER beside this one.
type split struct {
	// at is when this node last judged that two are master, and term the other's term
	// then.
	at   time.Time
	term uint64
	// to is the master to which this node gave way. While it is alive this node does not
	// contend, whatever the advertisements say.
	to wire.NodeID

	preferTraffic bool
	received      uint64 // packets, see wire.GroupState
	receivedAt    time.Time
	dual          dual
}

// gap is what the last failover is measured by.
type gap struct {
	fencedAt   time.Time  // when this node was fenced for a hand-over
	gaveTerm   uint64     // the term that it gave up
	handoverAt time.Time  // when it was told to take over
	silentFrom time.Time  // when the one that handed over was fenced, as far as it told
	heardAt    time.Time  // when a master's stream was last heard
	heardFrom  string     // and from whom
	past       []Failover // the latest first
	open       []string   // steps of the latest that are to come
}

func newGroup(gc GroupConfig, cfg Config) *group {
	g := &group{name: gc.Name, countersOnly: gc.CountersOnly, since: time.Now(), holds: replica.NewHoldback()}
	g.own.whole, g.own.alone, g.own.skip = gc.Whole, len(cfg.Groups) == 1, cfg.Skip
	g.reading.touched = replica.NewTouched()
	g.rcv = g.newReceiver(cfg)
	g.setVIPs(nil)
	return g
}

// newReceiver returns the group's, empty.
func (g *group) newReceiver(cfg Config) *replica.Receiver {
	r := replica.NewReceiver(replica.Options{Margin: cfg.Margin, Sweeps: cfg.Sweep, Advance: cfg.Advance,
		CountersOnly: g.countersOnly, Features: cfg.Features})
	r.Pace = g.work.turns
	return r
}

// source returns the member whose stream comes, or came until the election asked; nil
// for none.
func (g *group) source() *member { return asMember(g.rcv.Reception().Source()) }

// asMember returns the member that a reception's source is, nil for none.
func asMember(s replica.Source) *member {
	m, _ := s.(*member)
	return m
}

func (g *group) setVIPs(vips []netip.Addr) {
	g.own.vips = slices.Clone(vips)
	slices.SortFunc(g.own.vips, netip.Addr.Compare)
	g.own.scope = scope.New(g.own.vips, g.own.whole, g.own.skip)
	g.reading.scan.void = true
	if g.pub != nil {
		g.pub.LookAgain()
	}
	g.rcv.LookAgain()
}

// pick picks the group's items out of a dump and judges their direction.
func (g *group) pick(snap *sadb.Snapshot) *sadb.Snapshot {
	out := &sadb.Snapshot{}
	turns := g.work.turns
	g.reading.offloaded = 0
	for _, sa := range snap.SAs {
		turns.Item()
		if sa.Offloaded && g.own.scope.Owns(sa) {
			g.reading.offloaded++
		}
		if dir, ok := g.own.scope.SA(sa); ok {
			sa = g.keep(sa)
			sa.Dir = dir
			out.SAs = append(out.SAs, sa)
		}
	}
	out.Policies = g.pickPolicies(snap.Policies)
	return out
}

func (g *group) pickPolicies(list []*sadb.Policy) (own []*sadb.Policy) {
	turns := g.work.turns
	for _, p := range list {
		turns.Item()
		if g.own.scope.Policy(p) {
			own = append(own, p)
		}
	}
	return own
}

// touch notes that an SA changed while a reading is under way.
func (g *group) touch(reading bool, k sadb.SAKey) {
	if reading {
		g.reading.touched.AddSA(k)
	}
}

// touchOp notes the same of an operation's item.
func (g *group) touchOp(reading bool, op sadb.Op) {
	if op.SA != nil {
		g.touch(reading, op.SA.Key)
	}
	if op.Policy != nil && reading {
		g.reading.touched.AddPolicy(op.Policy.Key)
	}
}

// state is what the members are told about the group.
func (g *group) state() wire.GroupState {
	s := wire.GroupState{Name: g.name, VIPs: g.own.vips, Role: g.role, Term: g.term, Reason: g.reason,
		Received: g.split.received}
	if g.pub != nil {
		s.InSync = true
		s.Have = g.pub.Pos()
	} else {
		s.InSync = g.ready.reported.InSync
		s.Have = g.rcv.Pos()
	}
	return s
}

// known reports whether the group's share of the kernel can be told: before the
// elector has named the virtual IPs nothing seems to belong to it.
func (g *group) known() bool { return g.own.whole || len(g.own.vips) > 0 }

// groupTick does what time asks for. Where a task is under way most of it waits for
// a later tick.
func (e *Engine) groupTick(ctx context.Context, g *group, now time.Time) {
	if g.work.task == nil && len(g.work.waiting) == 0 {
		e.run(g, func() { e.groupTurn(ctx, g, now) })
	}
	if g.role == wire.RoleMaster && g.pub != nil {
		e.advanceHandover(g, now)
	}
	if slices.Contains(g.gap.open, StepKeying) && e.cfg.Keying.Status(g.name).State == keyingActive {
		e.stepDone(g, StepKeying, now)
	}
	e.reportReadiness(g, now)
}

// groupTurn is the part of the tick that may be a task.
func (e *Engine) groupTurn(ctx context.Context, g *group, now time.Time) {
	if g.role == wire.RoleMaster {
		if g.pub != nil {
			e.forwardDue(g, now)
			e.followMappings(ctx, g, now)
			e.jumpsAgain(ctx, g, now)
		} else if g.promotion.tail != nil && !g.waitsForTail(now) {
			g.promotion.tail = nil
			e.requestDump(ctx)
		}
		e.followPromotion(ctx, g)
		e.decideDual(ctx, g, now)
	} else {
		if !g.reading.foreign.IsZero() && now.After(g.reading.foreign) {
			g.reading.foreign = time.Time{}
			e.requestDump(ctx)
		}
		if g.rcv.Adopted() {
			e.exec(ctx, g, g.rcv.Raise(now))
		}
		e.bump(ctx, g, now)
		x := g.rcv.Reception()
		e.follow(g, x.Unanswered(now) || g.used.sent != nil && g.source() != nil)
		if x.Snapshot() && g.rcv.Unanswered() {
			e.ack(asMember(x.Member()), g, x.Handle())
		}
	}
}

// bump raises a standby's counters once more when another node has become
// master and its stream has not arrived: that node may have used the numbers
// that this standby's margin stands on. Counters that an arriving snapshot has told
// need no more than their lead.
func (e *Engine) bump(ctx context.Context, g *group, now time.Time) {
	arrives := g.rcv.Reception().Snapshot() && g.rcv.Pos().Term >= g.term
	bumped := &g.raises.bumped
	if arrives {
		bumped = &g.raises.untold
	}
	switch {
	case g.rcv.Pos().Complete && g.rcv.Pos().Term >= g.term, *bumped >= g.term, g.rcv.Pos().Term == 0:
		g.raises.newer = time.Time{}
	case g.raises.newer.IsZero():
		g.raises.newer = now
	// what there is to raise is not known, or raised already
	case !g.rcv.Adopted() || g.raising != nil || g.rcv.Reception().Closed():
	case now.Sub(g.raises.newer) >= bumpDelay:
		*bumped = g.term
		if !arrives {
			e.log.Info("raising counters above those of a master whose stream is missing", "group", g.name,
				"term", g.term)
		}
		g.raising = &counterRaise{untold: arrives} // before the first pause: the election may ask then
		e.raiseBeyondSuccessor(ctx, g, now)
	}
}
