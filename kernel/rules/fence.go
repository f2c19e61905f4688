package rules

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

// What the fence puts into the routing policy. The numbers are fixed, so that a
// fence outlives the process that set it and any other can find it: see the
// package comment. 0 is the local table; nothing else comes before.
const (
	FencePref      = 5      // `from VIP blackhole`: closed
	FenceGatePref  = 6      // `from VIP lookup 112112 suppress_prefixlength 0`, IPv6 only
	FenceGateTable = 112112 // the gate: open while an expiring route lives

	// gateEnd is the metric of the gate's permanent end; those of the expiring
	// routes are interface indexes, and so lower.
	gateEnd = 1<<32 - 1
)

// FenceLifetime is how long an IPv6 virtual address that is not fenced stays
// usable without [Fence.Renew].
const FenceLifetime = 2 * time.Second

// Fence keeps virtual addresses silent: nothing that has one of them as its
// source is routed, be it ESP, IKE or anything else, made here or forwarded.
// Its methods are safe for concurrent use.
//
// What is in the kernel is the state; a Fence that is made later, by another
// process too, goes on from there.
type Fence struct {
	routing     *routing
	selfClosing bool

	mu     sync.Mutex
	open   map[netip.Addr]uint32 // addresses cleared by this process: their interfaces
	closed map[netip.Addr]bool   // addresses fenced by this process
}

// OpenFence opens the routing policy of the calling thread's network namespace.
// It changes nothing.
//
// With selfClosing, for whoever gives the addresses a lease, an IPv6 address
// that is cleared falls silent when its process dies; see [Fence.Renew]. IPv4
// needs no such thing: nothing is routed from an address that the node has
// lost. Without it the fence of both families stays as it was last set.
func OpenFence(selfClosing bool) (*Fence, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open fence: %w", err)
	}
	return &Fence{
		routing: r, selfClosing: selfClosing,
		open: make(map[netip.Addr]uint32), closed: make(map[netip.Addr]bool),
	}, nil
}

// Close releases the socket. The fence stays as it is; a self-closing one of a
// cleared IPv6 address closes within FenceLifetime.
func (f *Fence) Close() error { return f.routing.close() }

// Set closes the fence for vips, at once and until Clear. Setting it again is
// no error.
func (f *Fence) Set(vips ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changes []change
	for _, vip := range vips {
		changes = append(changes, addRule(rule{src: vip, pref: FencePref}))
		delete(f.open, vip)
		f.closed[vip] = true
	}
	// Only then prepare for Clear: this is not urgent.
	changes = append(changes, f.gate(vips)...)
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("set fence: %w", err)
	}
	return nil
}

// Clear opens the fence for vips, which the interface with the index link has.
// It must be up. If it is self-closing, it stays open for IPv6
// addresses only while Renew is called at least once in FenceLifetime, better
// twice.
func (f *Fence) Clear(link int, vips ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The gate must stand before the way is free: two steps, because the
	// kernel goes on after a failure within one.
	changes := f.gate(vips)
	if len(changes) > 0 {
		changes = append(changes, putRoute(way(uint32(link), FenceLifetime)))
	}
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("clear fence: %w", err)
	}
	changes = changes[:0]
	for _, vip := range vips {
		changes = append(changes, delRule(rule{src: vip, pref: FencePref}))
		f.open[vip] = uint32(link)
		delete(f.closed, vip)
		if sadb.FamilyOf(vip) == sadb.FamilyIPv6 && !f.selfClosing {
			// Left by a self-closing one.
			changes = append(changes, delRule(gateRule(vip)))
		}
	}
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("clear fence: %w", err)
	}
	return nil
}

// Renew keeps a self-closing fence open for the IPv6 addresses that this process
// has cleared, for another FenceLifetime. Renew before the addresses' own
// leases: when one of those lapses the kernel drops the routes that sockets
// have cached, and must then find the fence closed.
func (f *Fence) Renew() error { return f.RenewFor(FenceLifetime) }

// RenewFor is Renew for another time than FenceLifetime, rounded up to seconds:
// for a process that is about to be replaced by another one.
func (f *Fence) RenewFor(lifetime time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	links := f.gateLinks(slices.Collect(maps.Keys(f.open)))
	if len(links) == 0 {
		return nil
	}
	changes := []change{end()}
	for _, link := range links {
		changes = append(changes, putRoute(way(link, lifetime)))
	}
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("renew fence: %w", err)
	}
	return nil
}

// gate returns what stands in the way of the IPv6 addresses among vips: the
// table's permanent end, and the rules that lead there.
func (f *Fence) gate(vips []netip.Addr) (changes []change) {
	if !f.selfClosing {
		return nil
	}
	for _, vip := range vips {
		if sadb.FamilyOf(vip) != sadb.FamilyIPv6 {
			continue
		}
		if len(changes) == 0 {
			changes = append(changes, end())
		}
		changes = append(changes, addRule(gateRule(vip)))
	}
	return changes
}

func gateRule(vip netip.Addr) rule {
	return rule{src: vip, pref: FenceGatePref, table: FenceGateTable, pass: true}
}

func end() change {
	return newRoute(route{
		family: sadb.FamilyIPv6, table: FenceGateTable, kind: unix.RTN_BLACKHOLE, metric: gateEnd,
	})
}

// way returns the expiring route that opens the gate. Nothing is ever sent on
// it: being a default route, it is passed over, and whatever routing the node
// has applies. It needs an interface other than the loopback only because the
// kernel makes routes to that one, and error routes, last for ever.
func way(link uint32, lifetime time.Duration) route {
	return route{
		family: sadb.FamilyIPv6, table: FenceGateTable, kind: unix.RTN_UNICAST, metric: link, oif: link,
		expires: uint32((lifetime + time.Second - 1) / time.Second),
	}
}

// gateLinks lists the interfaces of the IPv6 addresses among vips that this process
// has cleared, if the fence is self-closing.
func (f *Fence) gateLinks(vips []netip.Addr) (links []uint32) {
	if !f.selfClosing {
		return nil
	}
	for _, vip := range vips {
		link, open := f.open[vip]
		if open && sadb.FamilyOf(vip) == sadb.FamilyIPv6 && !slices.Contains(links, link) {
			links = append(links, link)
		}
	}
	slices.Sort(links)
	return links
}

// FenceState is what the kernel holds for one address.
type FenceState struct {
	VIP    netip.Addr
	Closed bool // `from VIP blackhole` is there
	Gated  bool // IPv6: closes by itself
}

// State reads the fence from the kernel, in no particular order. An address
// that it does not list is neither fenced nor gated.
func (f *Fence) State(ctx context.Context) ([]FenceState, error) {
	rules, err := f.routing.rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("read fence: %w", err)
	}
	var list []FenceState
	at := make(map[netip.Addr]int)
	for _, r := range rules {
		closed, gated := r.isFence(), r.isGate()
		if !closed && !gated {
			continue
		}
		i, ok := at[r.src]
		if !ok {
			i = len(list)
			at[r.src] = i
			list = append(list, FenceState{VIP: r.src})
		}
		list[i].Closed = list[i].Closed || closed
		list[i].Gated = list[i].Gated || gated
	}
	return list, nil
}

// Retain takes the fence away from addresses that are not among vips, and from
// nothing else: what a changed configuration no longer has would stay silent
// for ever. It does not touch the fence of vips.
func (f *Fence) Retain(ctx context.Context, vips ...netip.Addr) error {
	state, err := f.State(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := make(map[netip.Addr]bool)
	for _, vip := range vips {
		keep[vip] = true
	}
	var errs []error
	for _, s := range state {
		if keep[s.VIP] {
			continue
		}
		delete(f.open, s.VIP)
		delete(f.closed, s.VIP)
		errs = append(errs, f.routing.apply(
			delRule(rule{src: s.VIP, pref: FencePref}),
			delRule(gateRule(s.VIP)),
		))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove fence: %w", err)
	}
	return nil
}
