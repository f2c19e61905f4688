package engine

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/vip"
)

// A node that has just booted has no IPsec policies, and would forward in
// plaintext what they are to have encrypted. So for each group that requires a
// client, which is what brings the policies, nothing is forwarded from the group's
// interfaces until they are there: on a backup until the client is in sync, on a
// MASTER until nothing is being negotiated any more, and no longer than holdLimit.
//
// It is set before the engine runs and never again: a node that once had its
// policies keeps them, over restarts of all daemons, and forwards.

// Hold keeps what comes in by interfaces from being forwarded; rules.Hold is one.
// Set holds the interfaces of those names and no other, Held lists them, Mend is Set and
// says which of them were not held and which others were, Protected reports whether the
// kernel has policies that have anything encrypted, about one of vips if there are any.
type Hold interface {
	Set(names ...string) error
	Held() ([]string, error)
	Mend(names ...string) (missing, foreign []string, err error)
	Protected(vips ...netip.Addr) (bool, error)
}

const (
	// holdLimit is how long a MASTER without policies forwards nothing: as long as
	// an IKE daemon takes for its first tunnels. A gateway with no tunnel at all is
	// a router, after that.
	holdLimit = 10 * time.Second
	// holdEach is how often it is looked whether the policies are there.
	holdEach = 100 * time.Millisecond
)

// Why nothing is forwarded, for people.
const (
	heldSync   = "its tables are not complete yet"
	heldEmpty  = "there are no IPsec policies yet"
	heldLoad   = "IPsec policies are being loaded or negotiated"
	heldMaster = ", at most for 10s from when it became master"
)

// holding is what is held, of the worker, and before it runs of who starts it.
type holding struct {
	groups map[*group][]string // their interfaces
	// free are interfaces of a MASTER: not held for the sake of another group.
	free  map[string]bool
	blind bool // it was said that policies cannot be read
}

// hold begins to hold the groups among those whose earlier life is over that have
// reason: the kernel has no policies, or that life had not come as far as having
// them all. Those that were left as they are go on.
func (e *Engine) hold(groups []*group) error {
	h := e.deps.Hold
	if h == nil {
		return nil
	}
	left, err := h.Held()
	if err != nil {
		return fmt.Errorf("hold forwarding before start: %w", err)
	}
	protected, err := h.Protected()
	if err != nil {
		// Rather a node that serves: this does not happen where IPsec works.
		e.say(slog.LevelError, "whether there are IPsec policies cannot be told, forwarding goes on", "err", err)
		protected = true
	}
	for _, g := range e.groups {
		if !slices.Contains(groups, g) {
			for _, r := range g.routers {
				e.holding.free[r.Device] = true
			}
		}
	}
	for _, g := range groups {
		unfinished := slices.ContainsFunc(g.routers, func(r *router) bool { return slices.Contains(left, r.Device) })
		if len(g.cfg.Require) == 0 || protected && !unfinished {
			continue
		}
		e.holding.groups[g], g.held = g.devices(), true
		why := heldEmpty
		if protected {
			why = "it was before, and not lifted"
		}
		e.say(slog.LevelWarn, "forwarding held", "group", g.name, "interfaces", g.devices(), "reason", why)
	}
	if err := h.Set(e.heldDevices()...); err != nil {
		return fmt.Errorf("hold forwarding before start: %w", err)
	}
	return nil
}

// devices lists the interfaces of a group's virtual addresses.
func (g *group) devices() []string {
	var out []string
	for _, r := range g.routers {
		if !slices.Contains(out, r.Device) {
			out = append(out, r.Device)
		}
	}
	return out
}

// heldDevices lists what is to be held now, sorted.
func (e *Engine) heldDevices() []string {
	var out []string
	for _, devices := range e.holding.groups {
		for _, d := range devices {
			if !e.holding.free[d] && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	slices.Sort(out)
	return out
}

// holdVirtual holds also what will come in by the virtual MACs of a group that is
// held: their interfaces come up with the addresses. Of the worker.
func (e *Engine) holdVirtual(t task) error {
	devices, held := e.holding.groups[t.group]
	if !held {
		return nil
	}
	for _, a := range t.vips {
		if name := vip.MACName(a.Index, a.MAC); a.Virtual && !slices.Contains(devices, name) {
			devices = append(devices, name)
		}
	}
	if len(devices) == len(e.holding.groups[t.group]) {
		return nil
	}
	e.holding.groups[t.group] = devices
	if err := e.deps.Hold.Set(e.heldDevices()...); err != nil {
		return fmt.Errorf("hold what comes in by virtual addresses: %w", err)
	}
	return nil
}

// lift lets a group's interfaces forward again. What a MASTER needs is not held for
// another group. Of the worker.
func (e *Engine) lift(g *group, master bool, why string) error {
	devices, held := e.holding.groups[g]
	if !held {
		return nil
	}
	if master {
		for _, d := range devices {
			e.holding.free[d] = true
		}
	}
	delete(e.holding.groups, g)
	if err := e.deps.Hold.Set(e.heldDevices()...); err != nil {
		e.holding.groups[g] = devices // once more at the next look
		return fmt.Errorf("lift the hold: %w", err)
	}
	e.say(slog.LevelInfo, "forwarding no longer held", "group", g.name, "interfaces", devices, "reason", why)
	e.post(func(time.Duration) { g.held = false })
	return nil
}

// liftIfProtected lifts it if the kernel has policies of the group's addresses: those
// of others say nothing about its tables. Of the worker.
func (e *Engine) liftIfProtected(g *group, vips []netip.Addr, master bool, why string) error {
	if _, held := e.holding.groups[g]; !held {
		return nil
	}
	yes, err := e.deps.Hold.Protected(vips...)
	if err != nil && !e.holding.blind {
		e.holding.blind = true
		e.say(slog.LevelError, "whether there are IPsec policies cannot be told, forwarding stays held", "err", err)
	}
	if !yes {
		return nil
	}
	return e.lift(g, master, why)
}

// review looks at what is held, in the engine's thread, and has the worker lift
// what need not be any more.
func (e *Engine) review(now time.Duration) {
	for _, g := range e.groups {
		if !g.held {
			continue
		}
		s := g.machine.Snapshot(now)
		master := s.State == carp.Master
		vips := g.vips()
		lift := func(why string) {
			e.queues.work.put(task{group: g, do: func() error { return e.lift(g, master, why) }})
		}
		liftIfProtected := func(why string) {
			e.queues.work.put(task{group: g, do: func() error { return e.liftIfProtected(g, vips, master, why) }})
		}
		switch {
		case len(g.cfg.Require) == 0:
			lift("no client is required any more")
		case master && s.Age >= holdLimit:
			lift(fmt.Sprintf("master for %v", holdLimit))
		case s.Loading || !master && !s.InSync:
		case master:
			liftIfProtected("master, IPsec policies are there")
		default:
			liftIfProtected("in sync")
		}
	}
}

// whyHeld says why nothing is forwarded from a group's interfaces, "" if it is.
func (g *group) whyHeld(s *carp.Snapshot) string {
	switch {
	case !g.held:
		return ""
	case s.State == carp.Master && s.Loading:
		return heldLoad + heldMaster
	case s.State == carp.Master:
		return heldEmpty + heldMaster
	case !s.InSync:
		return heldSync
	case s.Loading:
		return heldLoad
	}
	return heldEmpty
}
