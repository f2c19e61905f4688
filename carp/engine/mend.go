package engine

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// mendEach is how often it is looked whether the fence still stands. Routing rules
// are everybody's: systemd-networkd removes all that are not its own when it is
// restarted, unless ManageForeignRoutingPolicyRules=no (networkd.conf(5)).
const mendEach = time.Second

// mendAll has the worker look at the fence of each group. Of the engine's thread,
// which knows the addresses that are configured now.
func (e *Engine) mendAll(time.Duration) {
	for _, g := range e.groups {
		vips := g.vips()
		e.work.put(task{group: g, do: func() error { return e.mend(g, vips) }})
	}
}

// mend sets what is missing of the fence of a group that is fenced. Of the worker,
// which does one thing after the other: nothing is being opened meanwhile.
func (e *Engine) mend(g *group, vips []netip.Addr) error {
	if !e.fenced[g] {
		return nil
	}
	open, err := e.deps.Fence.Open(vips...)
	if err != nil || len(open) == 0 {
		return err
	}
	if err := e.deps.Fence.Set(open...); err != nil {
		return fmt.Errorf("set the fence again: %w", err)
	}
	e.say(slog.LevelError, "somebody had removed the fence, it is set again", "group", g.name, "addresses", open)
	return nil
}
