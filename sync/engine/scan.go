package engine

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
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
	pub       *publisher
	rcv       *receiver
	offloaded int
}

// beginScan prepares the group for a reading.
func (e *Engine) beginScan(g *group, now time.Time) {
	g.touched = newTouched()
	g.scan = groupScan{at: now}
	switch {
	case g.role != wire.RoleMaster:
		g.scan.rcv = g.rcv
		g.rcv.beginScan()
	case g.pub != nil:
		g.scan.pub = g.pub
		g.pub.begin(now)
	default: // what it finds is what there is to publish
		g.scan.pub = newPublisher(wire.StreamID{Group: g.name, Term: g.term, Node: e.cfg.Node, Nonce: e.cfg.Nonce}, now)
		g.scan.pub.pace = g.turns
		g.scan.pub.begin(now)
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
	if e.dumping {
		e.dumpAgain = true
		return
	}
	now := time.Now()
	e.dumping, e.dumpAgain, e.dumpStale, e.lastDump = true, false, false, now
	for _, g := range e.order {
		e.beginScan(g, now)
	}
	e.beginLocal()
	scopes := e.localScan.scopes
	go func() {
		policies, err := e.kernel.Scan(ctx, func(c *sadb.Chunk) error {
			select {
			case e.chunks <- c:
				<-e.chunkDone
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		took := time.Since(now)
		e.dumps <- dumpResult{policies, localPolicies(scopes, policies), err, took}
	}()
}

// dumpRetry is how soon a reading is repeated after the first failure; the time
// doubles with each further one.
const dumpRetry = housekeeping

// readEvery is how long after its begin a reading is followed by the next. One that
// failed may have been asked for, so it is repeated earlier.
func (e *Engine) readEvery(every time.Duration) time.Duration {
	if e.dumpFails == 0 || e.dumpFails > 8 {
		return every
	}
	return min(every, dumpRetry<<(e.dumpFails-1))
}

// dumpNow reads the kernel's tables while everything else of the group waits, for
// the few moments at which nothing may come between. A reading under way is older
// then and is thrown away.
func (e *Engine) dumpNow(ctx context.Context) (snap *sadb.Snapshot, err error) {
	e.dumpStale = e.dumping
	e.await(ctx, func() { snap, err = e.kernel.Dump(ctx) })
	return snap, err
}

// scanned takes a part of the reading under way.
func (e *Engine) scanned(c *sadb.Chunk) {
	if e.dumpStale {
		return
	}
	for _, g := range e.order {
		g.scan.void = !g.scan.valid(g)
		e.localScan.void = e.localScan.void || g.scan.void
	}
	for i := range c.Readings {
		r := &c.Readings[i]
		var whole *sadb.SA
		for _, g := range e.order {
			if g.scan.void || g.recognises(r) {
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
			e.localScan.sa(whole)
		}
	}
}

// recognises takes a glance at an SA; false means that the whole is wanted.
func (g *group) recognises(r *sadb.Reading) bool {
	if g.scan.rcv != nil {
		return g.scan.rcv.read(r, g.touched)
	}
	if !g.scan.pub.read(g.scan.at, r, g.touched) {
		return false
	}
	if g.holds.len() > 0 && !g.touched.hasSA(r.Key) {
		g.holds.putSA(r.Key)
	}
	return true
}

// scanUnread takes an SA of which nothing but the glance can be read: it is there.
func (e *Engine) scanUnread(r *sadb.Reading) {
	for _, g := range e.order {
		switch {
		case g.scan.void:
		case g.scan.rcv != nil:
			g.scan.rcv.readUnread(r, g.touched)
		default:
			if g.holds.len() > 0 && !g.touched.hasSA(r.Key) {
				g.holds.putSA(r.Key)
			}
			g.scan.pub.readUnread(g.scan.at, r, g.touched)
		}
	}
}

// scanWhole takes an SA that no glance could recognise.
func (g *group) scanWhole(sa *sadb.SA, config uint64) {
	if sa.Offloaded && g.scope.owns(sa) {
		g.scan.offloaded++
	}
	dir, ok := g.scope.sa(sa)
	if !ok {
		return
	}
	sa = g.own(sa)
	sa.Dir = dir
	if g.scan.rcv != nil {
		g.scan.rcv.readWhole(sa, config, g.touched)
		return
	}
	if g.holds.len() > 0 && !g.touched.hasSA(sa.Key) {
		g.holds.putSA(sa.Key)
	}
	g.scan.pub.readWhole(g.scan.at, sa, config, g.touched)
}

// own returns what the group may keep and change of an SA that other groups look
// at too.
func (g *group) own(sa *sadb.SA) *sadb.SA {
	if g.alone {
		return sa
	}
	c := *sa
	return &c
}

// dumped ends the reading under way, once each group has done its part.
func (e *Engine) dumped(ctx context.Context, r dumpResult) {
	e.stats.Dumps++
	e.stats.DumpTime, e.stats.DumpSeconds = r.took, r.took.Seconds()
	if r.err != nil {
		e.dumping = false
		e.stats.DumpErrors++
		e.dumpFails++
		if ctx.Err() == nil {
			e.log.Error("reading the kernel's tables failed", "err", r.err)
		}
		return
	}
	e.dumpFails = 0
	if e.dumpStale {
		e.dumping = false
		e.requestDump(ctx)
		return
	}
	e.endLocal(r.local)
	e.scanning = len(e.order)
	for _, g := range e.order {
		e.run(g, func() {
			// Also when the task is given up.
			defer func() {
				if e.scanning--; e.scanning == 0 {
					e.dumpEnds(ctx, r)
				}
			}()
			if g.emptied || !g.scan.valid(g) { // what is about to be put back is not gone
				e.dumpAgain = true
				return
			}
			g.offloaded = g.scan.offloaded
			e.groupScanned(ctx, g, g.pickPolicies(r.policies))
		})
	}
}

// dumpEnds is what follows when all groups have done their parts.
func (e *Engine) dumpEnds(ctx context.Context, r dumpResult) {
	e.dumping = false
	e.bypass(ctx, r.policies)
	select {
	case <-e.ready:
	default:
		close(e.ready)
	}
	if e.dumpAgain {
		e.requestDump(ctx)
	}
}

// groupScanned compares what a reading has shown with what is published or
// wanted.
func (e *Engine) groupScanned(ctx context.Context, g *group, policies []*sadb.Policy) {
	now := time.Now()
	if g.offloaded != g.offloadedTold {
		e.log.Warn("SAs offloaded to a device are not replicated: their IV is the bare sequence number", "group", g.name, "sas", g.offloaded)
		g.offloadedTold = g.offloaded
	}
	if g.role == wire.RoleMaster {
		e.masterScanned(ctx, g, now, policies)
		return
	}
	if !g.known() {
		return // following a master now would collide with what is here already
	}
	first := !g.rcv.Adopted()
	g.rcv.endScan(policies, g.touched)
	e.retire(ctx, g, now)
	if g.rcv.whole() && !g.rcv.Rx().closed() && g.rcv.Adopted() {
		ops := g.rcv.repair(now)
		if n := countRepairs(ops...); n > 0 {
			e.stats.Repairs += uint64(n)
			e.log.Warn("repaired what differed from the master", "group", g.name, "operations", n)
		}
		e.execAll(ctx, g, ops)
		e.tellBeyond(g, g.source())
	}
	if first {
		e.follow(g, false)
	}
}

func (e *Engine) masterScanned(ctx context.Context, g *group, now time.Time, policies []*sadb.Policy) {
	g.publishing = true
	defer func() { g.publishing = false }()
	if g.pub == nil {
		if g.waitsForTail(now) {
			return
		}
		g.tail = nil
		pub := g.scan.pub
		pub.fill(g.scan.at, policies, g.touched)
		if !g.countersOnly {
			pub.adopt(now, g.rcv, e.cfg.Imported)
		}
		g.pub = pub
		e.retireAsMaster(ctx, g, now)
		e.timed(PhasePublish, &g.promotedAt)
		sas, known := g.pub.size()
		e.log.Info("publishing", "group", g.name, "term", g.term, "sas", sas, "policies", known)
		e.broadcast(&wire.State{GroupState: g.state()})
		return
	}
	gone := g.pub.endTo(g.scan.at, policies, g.touched, func(recs []wire.Record) { e.publishFound(g, recs) })
	if g.holds.len() > 0 {
		for _, p := range policies {
			if !g.touched.hasPolicy(p.Key) {
				g.holds.putPolicy(p.Key)
			}
		}
	}
	e.publishRead(g, now, gone)
	e.retireAsMaster(ctx, g, now)
	e.endOutlived(g, now)
	e.countReceived(g, now)
	e.collect(ctx, g, now)
}
