package engine

import (
	"context"
	"log/slog"
	"time"
)

// keepEach is how often the list of next hops is read again.
const keepEach = 5 * time.Minute

// keep orders the next hops on all interfaces to be kept resolved. Of the engine's
// thread.
func (e *Engine) keep() {
	var indexes []int
	for _, p := range e.ports {
		if p.Index != 0 {
			indexes = append(indexes, p.Index)
		}
	}
	e.queues.hops.put(indexes)
}

// runHops looks after the next hops until ctx ends. It is apart from the worker: to
// read a routing table with the routes of the Internet takes longer than a lease.
func (e *Engine) runHops(ctx context.Context) {
	each := time.NewTicker(keepEach)
	defer each.Stop()
	for {
		if orders := e.queues.hops.take(); len(orders) > 0 {
			if err := e.deps.NextHops.Keep(orders[len(orders)-1]); err != nil {
				e.say(slog.LevelWarn, "next hops are not kept resolved", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-e.queues.hops.wake:
		case <-each.C:
			e.post(func(time.Duration) { e.keep() })
		}
	}
}
