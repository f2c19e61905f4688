package engine

import (
	"context"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// eventBatch is how many changes of the kernel's tables are published at once.
// A system call, a record and an answer for each would not keep up with an IKE
// daemon in a hurry.
const eventBatch = replica.BatchRecords

// kernelEvents follows a change of the kernel's tables and those that wait
// behind it.
func (e *Engine) kernelEvents(ctx context.Context, ev sadb.Event, more <-chan sadb.Event) {
	now := time.Now()
	var list []sadb.Event
	follow := func() {
		if events := list; len(events) > 0 {
			for _, g := range e.order {
				e.run(g, func() { e.groupEvents(ctx, g, now, events) })
			}
		}
		list = nil
	}
	for n, ok := 1, true; ok; n++ {
		if ev.Kind == sadb.EventFlushPolicy {
			follow() // what was deleted before that is not put back
		}
		if e.kernelEvent(ctx, ev) {
			list = append(list, ev)
		}
		if n == eventBatch {
			break
		}
		select {
		case ev, ok = <-more: // its end is met by Run
		default:
			ok = false
		}
	}
	follow()
}

// kernelEvent does what a change of the kernel's tables asks of the whole engine,
// and reports whether groups have to follow it.
func (e *Engine) kernelEvent(ctx context.Context, ev sadb.Event) bool {
	switch {
	case ev.Kind == sadb.EventResync:
		e.stats.Resyncs++
		e.dump.policies.known = 0
		e.log.Warn("events of the kernel were lost, reading its tables", "reason", ev.Reason)
		e.requestDump(ctx)
		return false
	case ev.Own:
		return false
	case ev.Kind == sadb.EventFlushSA || ev.Kind == sadb.EventFlushPolicy:
		e.flushedBy(ctx, ev)
	}
	return true
}

// groupEvents follows changes of the kernel's tables in one group.
func (e *Engine) groupEvents(ctx context.Context, g *group, now time.Time, list []sadb.Event) {
	var recs []wire.Record
	for _, ev := range list {
		master := g.role == wire.RoleMaster && g.pub != nil
		switch {
		case ev.Kind == sadb.EventFlushSA || ev.Kind == sadb.EventFlushPolicy: // flushedBy
		case master:
			recs = append(recs, e.masterEvent(g, now, ev)...)
		case g.role == wire.RoleMaster:
		default:
			e.standbyEvent(ctx, g, now, ev)
		}
	}
	e.publish(g, recs) // a number that is given is sent before the turn ends
}

// standbyEvent follows a foreign change of a standby's tables.
func (e *Engine) standbyEvent(ctx context.Context, g *group, now time.Time, ev sadb.Event) {
	if dir, ok := g.own.scope.SAOf(ev); ok && g.countersOnly && g.rcv.Adopted() {
		// Before anything can be sent with it here.
		sa := *ev.SA
		sa.Dir = dir
		g.touch(e.dump.running, sa.Key)
		e.exec(ctx, g, g.rcv.Appeared(now, &sa))
	} else if g.concerns(ev) && g.reading.foreign.IsZero() {
		g.reading.foreign = now.Add(foreignDelay)
	}
}

// concerns reports whether an event is about the group.
func (g *group) concerns(ev sadb.Event) bool {
	switch ev.Kind {
	case sadb.EventPutSA:
		_, ok := g.own.scope.SA(ev.SA)
		return ok
	case sadb.EventDeleteSA, sadb.EventExpireSA:
		return ev.SA != nil && g.rcv.WantsSA(ev.SA.Key)
	case sadb.EventPutPolicy:
		return g.own.scope.Policy(ev.Policy)
	case sadb.EventDeletePolicy, sadb.EventExpirePolicy:
		return ev.Policy != nil && g.rcv.WantsPolicy(ev.Policy.Key)
	}
	return false
}
