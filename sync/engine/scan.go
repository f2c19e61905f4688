package engine

import (
	"context"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// The kernel's tables are read every interval, and nearly always nothing but
// counters has changed. So a reading is not a list of SAs: it comes in chunks of
// glances, in which the owner of the state recognises by its fingerprint what it
// knows, and only what it does not recognise is decoded.

// groupScan is the reading under way as one group sees it.
type groupScan struct {
	at   time.Time
	void bool // something has changed that the reading cannot show
	// What it is compared with: pub for a MASTER, rcv otherwise.
	pub       *replica.Publisher
	rcv       *replica.Receiver
	offloaded int
}

// beginScan prepares the group for a reading.
func (e *Engine) beginScan(g *group, now time.Time) {
	g.reading.touched = replica.NewTouched()
	g.reading.scan = groupScan{at: now}
	switch {
	case g.role != wire.RoleMaster:
		g.reading.scan.rcv = g.rcv
		g.rcv.BeginScan()
	case g.pub != nil:
		g.reading.scan.pub = g.pub
		g.pub.BeginScan(now)
	default: // what it finds is what there is to publish
		g.reading.scan.pub = replica.NewPublisher(wire.StreamID{Group: g.name, Term: g.term, Node: e.cfg.Node,
			Nonce: e.cfg.Nonce}, now)
		g.reading.scan.pub.Pace = g.work.turns
		g.reading.scan.pub.BeginScan(now)
	}
}

// valid reports whether the reading still is about what the group is.
func (s *groupScan) valid(g *group) bool {
	switch {
	case s.void:
		return false
	case g.role != wire.RoleMaster:
		return s.rcv == g.rcv
	case g.pub != nil:
		return s.pub == g.pub
	}
	return s.pub != nil && s.pub.Stream().Term == g.term
}

// requestDump starts reading the kernel's tables, or has it done again after
// the reading that is under way.
func (e *Engine) requestDump(ctx context.Context) {
	if e.dump.running {
		e.dump.again = true
		return
	}
	e.read(ctx, true)
}

// read reads the kernel's SAs, and its policies if they are to be looked at.
func (e *Engine) read(ctx context.Context, policies bool) {
	now := time.Now()
	e.dump.running, e.dump.again, e.dump.stale, e.dump.last = true, false, false, now
	ctx, e.dump.stop = context.WithCancel(ctx)
	e.dump.reading, e.dump.stopped = true, false
	for _, g := range e.order {
		e.beginScan(g, now)
	}
	e.beginLocal()
	scopes, known := e.dump.localScan.Scopes, e.knownPolicies(now)
	policies = policies || known == 0
	if policies {
		e.dump.policies.at = now
	}
	go func() {
		r := dumpResult{print: known}
		r.err = e.kernel.Scan(ctx, func(c *sadb.Chunk) error {
			select {
			case e.dump.chunks <- c:
				<-e.dump.chunkDone
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if r.err == nil && policies {
			r.policies, r.print, r.err = e.kernel.ScanPolicies(ctx, known)
			r.local = scope.LocalPolicies(scopes, r.policies)
		}
		r.known = known != 0 && r.print == known
		r.took = time.Since(now)
		e.dump.results <- r
	}()
}

// stopReading ends the reading of the tables that is under way, if there is one.
func (e *Engine) stopReading() {
	if e.dump.reading {
		e.dump.stopped = true
		e.dump.stop()
	}
}

// dumpRetry is how soon a reading is repeated after the first failure; the time
// doubles with each further one.
const dumpRetry = housekeeping

// readEvery is how long after its begin a reading is followed by the next. One that
// failed may have been asked for, so it is repeated earlier.
func (e *Engine) readEvery(every time.Duration) time.Duration {
	if e.dump.fails == 0 || e.dump.fails > 8 {
		return every
	}
	return min(every, dumpRetry<<(e.dump.fails-1))
}

// dumpNow reads the kernel's tables while everything else of the group waits, for
// the few moments at which nothing may come between. A reading under way is older
// then and is thrown away.
func (e *Engine) dumpNow(ctx context.Context) (snap *sadb.Snapshot, err error) {
	e.dump.stale = e.dump.running
	e.dump.policies.known = 0
	e.await(ctx, func() { snap, err = e.kernel.Dump(ctx) })
	return snap, err
}

// scanned takes a part of the reading under way.
func (e *Engine) scanned(c *sadb.Chunk) {
	if e.dump.stale || e.dump.stopped {
		return
	}
	for _, g := range e.order {
		g.reading.scan.void = !g.reading.scan.valid(g)
		e.dump.localScan.Void = e.dump.localScan.Void || g.reading.scan.void
	}
	for i := range c.Readings {
		r := &c.Readings[i]
		var whole *sadb.SA
		for _, g := range e.order {
			if g.reading.scan.void || g.recognises(r) {
				continue
			}
			if whole == nil {
				var err error
				if whole, err = c.SA(i); err != nil {
					e.log.Error("reading an SA failed, it counts as it was known", "item", r.Key.String(), "err", err)
					e.scanUnread(r)
					break
				}
			}
			g.scanWhole(whole, r.Config)
		}
		if whole != nil {
			e.dump.localScan.SA(whole)
		}
	}
}

// recognises takes a glance at an SA; false means that the whole is wanted.
func (g *group) recognises(r *sadb.Reading) bool {
	if g.reading.scan.rcv != nil {
		return g.reading.scan.rcv.Read(r, g.reading.touched)
	}
	if !g.reading.scan.pub.Read(g.reading.scan.at, r, g.reading.touched) {
		return false
	}
	if g.holds.Len() > 0 && !g.reading.touched.HasSA(r.Key) {
		g.holds.CancelSA(r.Key)
	}
	return true
}

// scanUnread takes an SA of which nothing but the glance can be read: it is there.
func (e *Engine) scanUnread(r *sadb.Reading) {
	for _, g := range e.order {
		switch {
		case g.reading.scan.void:
		case g.reading.scan.rcv != nil:
			g.reading.scan.rcv.ReadUnread(r, g.reading.touched)
		default:
			if g.holds.Len() > 0 && !g.reading.touched.HasSA(r.Key) {
				g.holds.CancelSA(r.Key)
			}
			g.reading.scan.pub.ReadUnread(g.reading.scan.at, r, g.reading.touched)
		}
	}
}

// scanWhole takes an SA that no glance could recognise.
func (g *group) scanWhole(sa *sadb.SA, config uint64) {
	if sa.Offloaded && g.own.scope.Owns(sa) {
		g.reading.scan.offloaded++
	}
	dir, ok := g.own.scope.SA(sa)
	if !ok {
		return
	}
	sa = g.keep(sa)
	sa.Dir = dir
	if g.reading.scan.rcv != nil {
		g.reading.scan.rcv.ReadWhole(sa, config, g.reading.touched)
		return
	}
	if g.holds.Len() > 0 && !g.reading.touched.HasSA(sa.Key) {
		g.holds.CancelSA(sa.Key)
	}
	g.reading.scan.pub.ReadWhole(g.reading.scan.at, sa, config, g.reading.touched)
}

// keep returns what the group may keep and change of an SA that other groups look
// at too.
func (g *group) keep(sa *sadb.SA) *sadb.SA {
	if g.own.alone {
		return sa
	}
	c := *sa
	return &c
}

// dumped ends the reading under way, once each group has done its part.
func (e *Engine) dumped(ctx context.Context, r dumpResult) {
	e.dump.stop()
	e.dump.reading = false
	if e.dump.stopped {
		if e.dump.running = false; e.dump.again {
			e.requestDump(ctx)
		}
		return
	}
	e.stats.Dumps++
	e.stats.DumpTime, e.stats.DumpSeconds = r.took, r.took.Seconds()
	e.seen.dump.add(r.took)
	if r.err != nil {
		e.dump.running = false
		e.stats.DumpErrors++
		e.dump.fails++
		if ctx.Err() == nil {
			e.log.Error("reading the kernel's tables failed", "err", r.err)
		}
		return
	}
	e.dump.fails = 0
	if e.dump.stale {
		e.dump.running = false
		e.requestDump(ctx)
		return
	}
	e.endLocal(r)
	e.dump.policies.quiet = true
	e.dump.scanning = len(e.order)
	givenUp := false
	for _, g := range e.order {
		e.run(g, func() {
			ended := false
			defer func() {
				givenUp = givenUp || !ended
				if e.dump.scanning--; e.dump.scanning == 0 {
					e.dumpEnds(ctx, r, givenUp)
				}
			}()
			e.groupDumped(ctx, g, r)
			ended = true
		})
	}
}

// groupDumped does a group's part of the end of a reading.
func (e *Engine) groupDumped(ctx context.Context, g *group, r dumpResult) {
	if g.reading.emptied || !g.reading.scan.valid(g) { // what is about to be put back is not gone
		e.dump.again = true
		return
	}
	g.reading.offloaded = g.reading.scan.offloaded
	if r.known {
		g.policiesKnown()
	}
	e.groupScanned(ctx, g, g.pickPolicies(r.policies))
	e.dump.policies.quiet = e.dump.policies.quiet && g.policiesQuiet()
}

// dumpEnds is what follows when all groups have done their parts, or one of them has given
// up its own.
func (e *Engine) dumpEnds(ctx context.Context, r dumpResult, givenUp bool) {
	e.dump.running = false
	if !givenUp && !r.known {
		e.bypass(ctx, r.policies)
	}
	e.dump.policies.ends(r, e.dump.last, givenUp || e.dump.again || e.dump.stale)
	select {
	case <-e.ready:
	default:
		close(e.ready)
	}
	if e.dump.again {
		e.requestDump(ctx)
	}
}

// groupScanned compares what a reading has shown with what is published or
// wanted.
func (e *Engine) groupScanned(ctx context.Context, g *group, policies []*sadb.Policy) {
	now := time.Now()
	if g.reading.offloaded != g.reading.offloadedTold {
		e.log.Warn("SAs offloaded to a device are not replicated: their IV is the bare sequence number",
			"group", g.name, "sas", g.reading.offloaded)
		g.reading.offloadedTold = g.reading.offloaded
	}
	if g.role == wire.RoleMaster {
		e.masterScanned(ctx, g, now, policies)
		return
	}
	if !g.known() {
		return // following a master now would collide with what is here already
	}
	first := !g.rcv.Adopted()
	g.work.auditing = !first
	g.rcv.EndScan(policies, g.reading.touched)
	g.work.auditing = false
	e.raiseBeyondSuccessor(ctx, g, now)
	e.noteLacks(g)
	if g.rcv.Whole() && !g.rcv.Reception().Closed() && g.rcv.Adopted() {
		e.repair(ctx, g, now)
		e.tellBeyond(g, g.source())
	}
	if first {
		e.follow(g, false)
	}
}

func (e *Engine) masterScanned(ctx context.Context, g *group, now time.Time, policies []*sadb.Policy) {
	g.work.publishing = true
	defer func() { g.work.publishing = false }()
	if g.pub == nil {
		if g.waitsForTail(now) {
			return
		}
		g.promotion.tail = nil
		pub := g.reading.scan.pub
		pub.Fill(g.reading.scan.at, policies, g.reading.touched)
		if !g.countersOnly {
			pub.Adopt(now, g.rcv, e.cfg.Imported)
		}
		g.pub = pub
		e.raiseAsMaster(ctx, g, now)
		e.timed(PhasePublish, &g.promotion.promotedAt)
		e.stepDone(g, StepPublished, time.Now())
		sas, known := g.pub.Size()
		e.log.Info("publishing", "group", g.name, "term", g.term, "sas", sas, "policies", known)
		e.broadcast(&wire.State{GroupState: g.state()})
		return
	}
	gone := g.pub.EndScan(g.reading.scan.at, policies, g.reading.touched,
		func(recs []wire.Record) { e.publishFound(g, recs) })
	if g.holds.Len() > 0 {
		for _, p := range policies {
			if !g.reading.touched.HasPolicy(p.Key) {
				g.holds.CancelPolicy(p.Key)
			}
		}
	}
	e.publishRead(g, now, gone)
	e.raiseAsMaster(ctx, g, now)
	e.endOutlived(g, now)
	e.countReceived(g, now)
	e.deleteSuperseded(ctx, g, now)
}
