package engine

import (
	"log/slog"
	"net/netip"

	"sasyncd/carp"
	"sasyncd/carp/filter"
	"sasyncd/carp/link"
)

// What the packet filter does for the engine: it refuses packets to addresses
// that do not accept any, and it silences the addresses of a process that does
// not advertise any more.

// refuseAccess sets the rules for the addresses that do not accept packets, or
// takes them away.
func (e *Engine) refuseAccess(vips []netip.Addr) error {
	if e.deps.Filter == nil {
		return nil
	}
	return e.ignoreIfEmpty(len(vips), e.deps.Filter.Refuse(vips...))
}

// lease sets the rules for addresses with a lease, or takes them away.
func (e *Engine) lease(ls []filter.Lease) error {
	if e.deps.Filter == nil {
		return nil
	}
	return e.ignoreIfEmpty(len(ls), e.deps.Filter.Lease(ls...))
}

// ignoreIfEmpty forgives a kernel without packet filter that it cannot take away
// what was never there.
func (e *Engine) ignoreIfEmpty(wanted int, err error) error {
	if err != nil && wanted == 0 {
		e.say(slog.LevelDebug, "no packet filter", "err", err)
		return nil
	}
	return err
}

// leases lists the addresses of routers that want a lease and whose interface
// exists. What is frozen, or waits to be adopted, has to do without.
func (e *Engine) leases(exists func(*router) bool) []filter.Lease {
	var out []filter.Lease
	for _, g := range e.groups {
		if g.frozenTo != 0 || g.adopt != 0 {
			continue
		}
		var s carp.Snapshot
		if g.machine != nil {
			s = g.machine.Snapshot(link.BootTime())
		}
		for i, r := range g.routers {
			if r.Lease && exists(r) {
				out = append(out, filter.Lease{Device: r.Device, ID: r.Machine.ID, VIPs: r.VIPs, For: r.Machine.Stale(),
					Live: s.Routers != nil && s.Routers[i].State == carp.Master})
			}
		}
	}
	return out
}

// leaseAtStart fails where leases are wanted and the kernel cannot do it.
func (e *Engine) leaseAtStart() error {
	return e.lease(e.leases(func(r *router) bool {
		_, err := link.Lookup(r.Device)
		return err == nil
	}))
}

// leaseAgain follows a change of what is to be leased. It runs in the engine's
// thread.
func (e *Engine) leaseAgain() {
	ls := e.leases(func(r *router) bool { return r.port.Index != 0 })
	if len(ls) == 0 && !e.thread.leasing {
		return
	}
	e.thread.leasing = len(ls) > 0
	e.queues.work.put(task{group: e.groups[0], do: func() error { return e.lease(ls) }})
}
