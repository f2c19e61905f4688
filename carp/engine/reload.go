package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
)

// OnReload sets what reads the configuration for a reload that a client asks
// for, before Run.
func (e *Engine) OnReload(load func() (Config, error)) { e.load = load }

// Reload takes over other settings, all or nothing and without a change of
// state: addresses, priorities, timers, passwords, members, and what a group
// wants. Groups, instances, their interfaces, protocols and ids cannot change
// this way; the error names each. Safe for concurrent use.
func (e *Engine) Reload(ctx context.Context, cfg Config) error {
	e.reload.Lock()
	defer e.reload.Unlock()
	next, err := New(cfg, e.deps)
	if err != nil {
		return err
	}
	ch := make(chan error, 1)
	e.post(func(now time.Duration) { ch <- e.change(now, next) })
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return fmt.Errorf("reload: %w", ctx.Err())
	}
}

// fixed compares what cannot change while running.
func (e *Engine) fixed(next *Engine) error {
	var errs []error
	no := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(format+": restart carpd for that (after carpctl freeze, nothing changes hands)",
			args...))
	}
	for _, g := range e.groups {
		if next.find(g.name) == nil {
			no("group %s is not there any more", g.name)
		}
	}
	for _, g := range next.groups {
		if e.find(g.name) == nil {
			no("group %s is new", g.name)
		}
	}
	for _, r := range e.routers {
		n := next.match(r)
		switch {
		case n == nil:
			no("instance %s has no %s addresses any more", r.Instance, family(r.six()))
		case n.Device != r.Device || n.Group != r.Group || n.Machine.ID != r.Machine.ID ||
			n.Machine.Proto != r.Machine.Proto || n.Virtual != r.Virtual:
			no("instance %s has another interface, group, protocol, id or mac", r.Instance)
		case len(n.Peers) > 0 != (len(r.Peers) > 0):
			no("instance %s changes between multicast and unicast", r.Instance)
		}
	}
	for _, n := range next.routers {
		if e.match(n) == nil {
			no("instance %s has new %s addresses", n.Instance, family(n.six()))
		}
	}
	return errors.Join(errs...)
}

func family(six bool) string {
	if six {
		return "IPv6"
	}
	return "IPv4"
}

// match finds the router that is the same as one of another configuration.
func (e *Engine) match(o *router) *router {
	for _, r := range e.routers {
		if r.Instance == o.Instance && r.six() == o.six() {
			return r
		}
	}
	return nil
}

// change runs in the engine's thread.
func (e *Engine) change(now time.Duration, next *Engine) error {
	if err := e.fixed(next); err != nil {
		return err
	}
	var gone []netip.Addr
	for a := range *e.vips.Load() {
		if !(*next.vips.Load())[a] {
			gone = append(gone, a)
		}
	}
	e.vips.Store(next.vips.Load())
	e.unicast.Store(next.unicast.Load())
	e.again.Store(true) // for members beyond routers
	if vips := next.cfg.refused(); !slices.Equal(vips, e.cfg.refused()) {
		// Before the addresses are taken; the worker keeps the order.
		e.queues.work.put(task{group: e.groups[0], do: func() error { return e.refuseAccess(vips) }})
	}
	e.cfg = next.cfg
	for _, g := range e.groups {
		n := next.find(g.name)
		before := g.addresses()
		cfg := n.cfg
		cfg.Routers = nil
		for _, r := range g.routers {
			e.take(r, next.match(r))
			cfg.Routers = append(cfg.Routers, r.Machine)
		}
		g.cfg, g.lease = cfg, n.lease
		e.carryOut(g, now, g.machine.Reconfigure(now, cfg))
		for _, r := range g.routers {
			e.reroute(r, now)
		}
		e.swap(g, before, gone, !g.machine.Snapshot(now).Fenced)
		// Clients learn the addresses from the state.
		e.broadcast(g, e.snapshot(g, now), false)
	}
	e.leaseAgain()
	e.lookAtConfigured()
	e.aim()
	return nil
}

// take gives a router the settings of n and keeps what it knows. Until the new
// ones are heard from the other members the old ones are accepted too, so that
// they can be reloaded one after the other: backups first.
func (e *Engine) take(r, n *router) {
	old := r.Router
	if old.Auth != n.Auth || old.Machine.Interval != n.Machine.Interval {
		r.old = &old
	}
	r.Router = n.Router
	n.auth.Inherit(r.auth)
	r.auth = n.auth
	if r.carp != nil {
		n.carp.inherit(r.carp)
		r.carp = n.carp
	}
	e.refit(r, r.port.known.MTU)
	for i := range r.refusals {
		r.refusals[i].said = pace{} // what is wrong with the new settings is news
	}
	switch n.Checksum {
	case ChecksumMessage:
		r.checksum = packet.ChecksumMessage
	case ChecksumPseudo:
		r.checksum = packet.ChecksumPseudo
	}
}

// reroute follows a change of the members of a router.
func (e *Engine) reroute(r *router, now time.Duration) {
	if len(r.Peers) == 0 {
		return
	}
	if src := r.route(&r.port.known); src.IsValid() && src != r.src && r.up {
		r.src = src
		e.step(r.group, now, carp.Event{Kind: carp.EvUp, Router: r.index, Src: src})
	}
}

// swap brings the kernel from the addresses before to those that g has now.
func (e *Engine) swap(g *group, before []vip.Address, gone []netip.Addr, master bool) {
	var fresh, left []vip.Address
	after := g.addresses()
	for _, a := range after {
		if !slices.ContainsFunc(before, func(b vip.Address) bool { return b.IP == a.IP && b.Index == a.Index }) {
			fresh = append(fresh, a)
		}
	}
	for _, b := range before {
		if !slices.ContainsFunc(after, func(a vip.Address) bool { return b.IP == a.IP && b.Index == a.Index }) {
			left = append(left, b)
		}
	}
	if len(fresh)+len(left) == 0 {
		return
	}
	t := e.task(g, carp.Action{Kind: carp.ActAcquire})
	t.do = func() error {
		var errs []error
		silent := func(as []vip.Address) {
			for _, a := range as {
				errs = append(errs, e.deps.Fence.Set(a.IP))
			}
		}
		silent(fresh)
		silent(left)
		if len(left) > 0 {
			errs = append(errs, e.deps.Addresses.Release(left), e.deps.Fence.Forget(gone...))
		}
		if master && len(fresh) > 0 {
			one := t
			one.vips, one.all = fresh, nil
			errs = append(errs, e.acquire(one, new(course)))
		}
		return errors.Join(errs...)
	}
	e.queues.work.put(t)
}
