package engine

import (
	"context"
	"math"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// A planned loss of mastership. The election has set the fence, so nobody sends until the
// successor is MASTER, and all that happens in that time is constant work: the counters of
// SAs that moved lately are read by name and sent in one message, one standby confirms
// them, and the election is answered. Readings, audits and what they publish are given up.
// What is left is told after the hand-over (replica/final.go). The election is answered
// within handoverLimit whatever happens.

const (
	// handoverLimit is how long a hand-over waits for the successor's acknowledgement. The
	// election waits a little longer.
	handoverLimit = 80 * time.Millisecond
	// finalLimit is how long of it the kernel may take to tell the counters.
	finalLimit = 20 * time.Millisecond
	// readingPause is how long no reading begins by time after the fence was set.
	readingPause = 2 * handoverLimit
)

// handover is a planned loss of mastership that waits for the successor's
// acknowledgement of the final counters.
type handover struct {
	term  uint64
	epoch uint64 // of the final counters, once they are sent
	sent  bool
	until time.Time

	answered bool // the election is
	silent   bool // so is the IKE daemon
	silentBy time.Time
}

// prepareBackup begins to hand over: this node is fenced.
func (e *Engine) prepareBackup(ctx context.Context, g *group, term uint64) {
	now := time.Now()
	g.noteFence(now, term)
	h := &handover{term: term, until: now.Add(handoverLimit)}
	g.leaving.handover, g.leaving.since = h, now
	e.silence(ctx, g, h)
	if g.pub == nil {
		h.answered = true
		e.elector.Prepared(g.name, term)
		return
	}
	e.makeWay(g)
	for _, m := range e.sorted() {
		if ms := m.groups[g.name]; ms != nil && ms.out.Complete() {
			e.send(m, &wire.Outage{Group: g.name, Term: term}) // so that it makes way too
		}
	}
	keys := g.pub.Recent(replica.FinalSAs)
	go func() {
		reading, cancel := context.WithTimeout(ctx, finalLimit)
		defer cancel()
		list, err := e.kernel.Glances(reading, keys)
		_ = e.do(ctx, func() { e.sendFinal(ctx, g, h, keys, list, err) }) // fails when the engine has ended
	}()
	for _, d := range []time.Duration{handoverLimit / 2, handoverLimit} {
		time.AfterFunc(d, func() { _ = e.do(ctx, func() { e.advanceHandover(g, h, time.Now()) }) })
	}
}

// makeWay gives up a reading of the tables that is under way, and what only follows from
// one: the next reading shows the same.
func (e *Engine) makeWay(g *group) {
	if g.work.publishing || g.work.auditing {
		e.giveUp(g)
	}
	e.stopReading()
	e.dump.pausedUntil = time.Now().Add(readingPause)
}

// sendFinal sends the counters that the kernel has told of some SAs.
func (e *Engine) sendFinal(ctx context.Context, g *group, h *handover, keys []sadb.SAKey, list []sadb.Reading,
	err error) {
	if g.leaving.handover != h || g.pub == nil {
		return // cancelled, or over
	}
	if err != nil {
		e.log.Warn("not all final counters could be read, the rest is told after the hand-over", "group", g.name,
			"read", len(list), "of", len(keys), "err", err)
	}
	select {
	case ev, ok := <-e.events: // what changed before the fence was set
		if ok {
			e.kernelEvents(ctx, ev, e.events)
		}
	default:
	}
	g.reading.scan.void = true
	entries := g.pub.Final(time.Now(), keys, list)
	for _, m := range e.sorted() {
		if ms := m.groups[g.name]; ms != nil {
			if msg := ms.out.Final(g.pub, entries); msg != nil && e.send(m, msg) {
				e.stats.CountersSent += uint64(len(entries))
			}
		}
	}
	h.epoch, h.sent = g.pub.Epoch(), true
	e.advanceHandover(g, h, time.Now())
}

// advanceHandover answers the election once a successor holds the final counters, and
// tells that successor to take over without waiting.
func (e *Engine) advanceHandover(g *group, h *handover, now time.Time) {
	if h == nil || g.leaving.handover != h || h.answered || g.pub == nil || !h.silent && now.Before(h.silentBy) {
		return
	}
	if m := e.holdsFinal(g, h, now); m != nil {
		h.answered, g.leaving.handedAt = true, now
		e.stats.HandOvers++
		e.timed(PhaseHandOver, &g.leaving.since)
		e.elector.Prepared(g.name, h.term)
		m.session.Send(&wire.Outage{Group: g.name, Term: h.term, Gap: time.Since(g.gap.fencedAt)})
		m.session.Send(&wire.Handover{Group: g.name, Term: h.term})
		e.log.Info("hand-over", "group", g.name, "to", m.session.Peer(), "term", h.term)
		return
	}
	if !now.Before(h.until) {
		h.answered = true
		e.unconfirmed(g, h, "no standby has acknowledged the final counters in time")
		e.elector.Prepared(g.name, h.term)
	}
}

// holdsFinal returns the standby to which to hand over now, nil while that is to wait.
func (e *Engine) holdsFinal(g *group, h *handover, now time.Time) *member {
	if !h.sent {
		return nil
	}
	able := slices.DeleteFunc(e.sorted(), func(m *member) bool {
		ms := m.groups[g.name]
		return ms == nil || !ms.out.Complete() || !ms.state.InSync || g.directed(m, now)
	})
	able = g.serving(able)
	// The fittest is waited for, but not as long as somebody else would do.
	best := place{math.MaxInt, 0}
	if now.Before(h.until.Add(-handoverLimit / 2)) {
		for _, m := range able {
			if p := g.place(m); p.before(best) {
				best = p
			}
		}
	}
	for _, m := range able {
		if !best.before(g.place(m)) && m.groups[g.name].out.Holds(h.epoch, g.pub.Seq()) {
			return m
		}
	}
	return nil
}

// unconfirmed counts and tells a hand-over of which no standby has the final counters. The
// successor is ahead of them by its margins, and hears them later.
func (e *Engine) unconfirmed(g *group, h *handover, why string) {
	e.stats.HandOversUnconfirmed++
	e.log.Warn("hand-over without acknowledgement by a standby", "group", g.name, "term", h.term, "reason", why)
}

// endHandOver ends a hand-over as the election has gone on.
func (e *Engine) endHandOver(g *group) {
	if h := g.leaving.handover; h != nil && !h.answered {
		why := "the election has not waited for a standby"
		if !h.silent {
			why = "the election has not waited for the ike daemon"
		}
		e.unconfirmed(g, h, why)
	}
	g.leaving.handover = nil
}

// masterIsFenced notes that the master whose stream comes is about to hand over.
func (e *Engine) masterIsFenced(m *member, o *wire.Outage) {
	if g := e.groups[o.Group]; g != nil && !o.Over && g.role != wire.RoleMaster && g.source() == m {
		e.makeWay(g)
	}
}
