package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/filter"
	"sasyncd/carp/link"
	"sasyncd/carp/vip"
)

// mendEach is how often it is looked whether the kernel still has what the engine has
// put there. Everybody may change that: systemd-networkd removes routing rules that are
// not its own when it is restarted, unless ManageForeignRoutingPolicyRules=no
// (networkd.conf(5)), a reload of a firewall begins with `flush ruleset`.
const mendEach = 500 * time.Millisecond

// lateBy is how late the engine may be for a MASTER's fence to be opened again.
const lateBy = 50 * time.Millisecond

// owned is what the kernel is to have now, for the worker.
type owned struct {
	at     time.Duration
	vips   map[*group][]netip.Addr
	after  map[*group]uint64 // their latest operations
	active []activeGroup
	refuse []netip.Addr
	leases []filter.Lease
	// filtered are the groups that refuse and leases are of, devices the interfaces of
	// all groups.
	filtered []*group
	devices  map[*group][]string
}

// activeGroup is a group whose addresses this node has.
type activeGroup struct {
	group *group
	vips  []vip.Address
	lease time.Duration
}

// mendAll has the worker look at everything, unless it has not yet done that. Of the
// engine's thread: a reload may change there what is configured.
func (e *Engine) mendAll(now time.Duration) {
	if e.queues.work.any(func(t task) bool { return t.mend }) {
		return
	}
	o := owned{at: link.BootTime(), vips: make(map[*group][]netip.Addr), after: make(map[*group]uint64),
		devices: make(map[*group][]string), refuse: e.cfg.refused(),
		leases: e.leases(func(r *router) bool { return r.port.Index != 0 })}
	for _, g := range e.groups {
		o.devices[g] = g.devices()
		if slices.ContainsFunc(g.routers, func(r *router) bool { return r.Lease || r.refuses() }) {
			o.filtered = append(o.filtered, g)
		}
		master := !g.machine.Snapshot(now).Fenced
		if master && now-lateBy >= g.machine.Deadline() {
			// After a stall another node may be MASTER, and its advertisements, or the
			// silence, have not been judged yet: open nothing.
			continue
		}
		o.vips[g], o.after[g] = g.vips(), g.latest.Load()
		if master {
			o.active = append(o.active, activeGroup{g, g.addresses(), g.lease})
		}
	}
	e.queues.work.put(task{group: e.groups[0], mend: true, do: func() error { e.mend(&o); return nil }})
}

// mend repairs what is not as it was left. Of the worker, which does one thing after
// the other: nothing is being changed meanwhile.
func (e *Engine) mend(o *owned) {
	if link.BootTime()-o.at > mendEach {
		return // as after a stall, see mendAll
	}
	// What a group has ordered meanwhile comes first.
	maps.DeleteFunc(o.vips, func(g *group, _ []netip.Addr) bool { return g.latest.Load() != o.after[g] })
	e.mendFence(o)
	e.mendHold(o)
	for _, a := range o.active {
		if _, still := o.vips[a.group]; !still || e.fenced[a.group] {
			continue // by a task that came before this one
		}
		back, err := e.deps.Addresses.Mend(a.vips, a.lease)
		if len(back) > 0 {
			e.repaired(a.group, api.RepairedRoute, "local routes of virtual addresses removed externally, restored",
				"addresses", back)
		}
		e.mendFailed(a.group, api.RepairedRoute, err)
	}
	e.mendFilter(o)
}

func (e *Engine) mendFence(o *owned) {
	var all []netip.Addr
	for _, vips := range o.vips {
		all = append(all, vips...)
	}
	m, err := e.deps.Fence.Mend(all...)
	for g, vips := range o.vips {
		of := func(list []netip.Addr) []netip.Addr {
			return slices.DeleteFunc(slices.Clone(list), func(ip netip.Addr) bool { return !slices.Contains(vips, ip) })
		}
		if list := of(m.Closed); len(list) > 0 {
			e.repaired(g, api.RepairedFence, "fence rules removed externally, restored", "addresses", list)
		}
		if list := of(m.Opened); len(list) > 0 {
			e.repaired(g, api.RepairedFence, "fence rules of a MASTER added externally, removed", "addresses", list)
		}
		list := of(m.Gated)
		six := slices.ContainsFunc(vips, netip.Addr.Is6)
		if len(list) > 0 || m.Routes > 0 && six {
			e.repaired(g, api.RepairedGate, "IPv6 gate removed externally, restored", "addresses", list,
				"routes", m.Routes)
		}
		e.mendFailed(g, api.RepairedFence, err)
	}
}

func (e *Engine) mendHold(o *owned) {
	if e.deps.Hold == nil {
		return
	}
	missing, foreign, err := e.deps.Hold.Mend(e.heldDevices()...)
	for g, devices := range e.holding.groups {
		has := func(name string) bool { return slices.Contains(devices, name) }
		if slices.ContainsFunc(missing, has) {
			e.repaired(g, api.RepairedHold, "hold rules removed externally, restored", "interfaces", missing)
		}
		e.mendFailed(g, api.RepairedHold, err)
	}
	for g, devices := range o.devices {
		has := func(name string) bool { return slices.Contains(devices, name) }
		if slices.ContainsFunc(foreign, has) {
			e.repaired(g, api.RepairedHold, "hold rules added externally, removed", "interfaces", foreign)
		}
	}
}

func (e *Engine) mendFilter(o *owned) {
	if e.deps.Filter == nil || len(o.refuse)+len(o.leases) == 0 {
		return
	}
	refuse, lease, err := e.deps.Filter.Changed()
	if err == nil && refuse && len(o.refuse) > 0 {
		err = e.refuseAccess(o.refuse)
	}
	lost := slices.ContainsFunc(o.leases, func(l filter.Lease) bool {
		_,
			err := link.Lookup(l.Device)
		return err != nil
	})
	if lost {
		lease = false // the rules went with an interface, which the engine is about to notice
	}
	if err == nil && lease && len(o.leases) > 0 {
		err = e.lease(o.leases)
	}
	for _, g := range o.filtered {
		if err == nil && (refuse || lease) {
			e.repaired(g, api.RepairedFilter, "nftables tables of carpd changed externally, restored")
		}
		e.mendFailed(g, api.RepairedFilter, err)
	}
}

// lookAtConfigured has the worker find out which virtual addresses the system has
// configured too. Where they are not the owner's (RFC 9568) two nodes answer for them
// as long as this one is no MASTER.
func (e *Engine) lookAtConfigured() {
	if e.queues.work.any(func(t task) bool { return t.configured }) {
		return
	}
	of := make(map[netip.Addr]*group)
	var ips []netip.Addr
	for _, r := range e.routers {
		if r.owner() {
			continue
		}
		for _, a := range r.VIPs {
			ips, of[a] = append(ips, a), r.group
		}
	}
	e.queues.work.put(task{group: e.groups[0], configured: true, do: func() error {
		list, err := e.deps.Addresses.Configured(ips)
		if err != nil {
			return fmt.Errorf("look for virtual addresses that the system has configured: %w", err)
		}
		found := make(map[*group][]api.Configured)
		for _, c := range list {
			g := of[c.IP]
			found[g] = append(found[g], api.Configured{Address: netip.PrefixFrom(c.IP, c.Bits), Interface: c.Device})
		}
		for _, g := range e.groups {
			e.foundConfigured(g, found[g])
		}
		return nil
	}})
}
