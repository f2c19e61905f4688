package engine

import (
	"context"
	"time"
)

// repair makes the kernel what the master said, after a reading.
func (e *Engine) repair(ctx context.Context, g *group, now time.Time) {
	hidden := &g.reading.hidden
	hidden.met = false
	g.work.auditing = true
	ops := g.rcv.Repair(now)
	g.work.auditing = false
	n := ops.Repairs()
	g.work.again = 0
	e.execAll(ctx, g, ops)
	n = max(0, n-g.work.again) // what the kernel refuses again differs, and is no repair
	e.stats.Repairs += uint64(n)
	switch {
	case !hidden.met:
		hidden.pause = 0
		if n > 0 {
			e.log.Warn("repaired what differed from the master", "group", g.name, "operations", n)
		}
	case hidden.pause == 0:
		e.log.Error("what differs from the master cannot be repaired: the kernel has SAs that are not on a virtual "+
			"address of this group; compare the virtual addresses of both gateways", "group", g.name, "operations", n)
		hidden.pause = foreignDelay
	default:
		hidden.pause = min(2*hidden.pause, hiddenPause)
	}
}
