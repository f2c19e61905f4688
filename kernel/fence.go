package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	FenceGatePref  = 6      // `from VIP lookup FenceGateTable`, IPv6 only
	FenceGateTable = 112112 // the gate: open while its expiring route lives

	gateMetricOpen   = 1
	gateMetricClosed = 2
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
	routing *routing

	mu    sync.Mutex
	open6 map[netip.Addr]bool // IPv6 addresses cleared by this process
}

// OpenFence opens the routing policy of the calling thread's network namespace.
// It changes nothing.
func OpenFence() (*Fence, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open fence: %w", err)
	}
	return &Fence{routing: r, open6: make(map[netip.Addr]bool)}, nil
}

// Close releases the socket. The fence stays as it is; where an IPv6 address
// is cleared, it closes by itself within FenceLifetime.
func (f *Fence) Close() error { return f.routing.close() }

// Set closes the fence for vips, at once and until Clear. Setting it again is
// no error.
func (f *Fence) Set(vips ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changes []change
	for _, vip := range vips {
		changes = append(changes, addRule(rule{src: vip, pref: FencePref}))
		delete(f.open6, vip)
	}
	// Only then prepare for Clear: this is not urgent.
	changes = append(changes, gate(vips, false)...)
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("set fence: %w", err)
	}
	return nil
}

// Clear opens the fence for vips. For IPv6 addresses it stays open only while
// Renew is called at least once in FenceLifetime, better twice.
func (f *Fence) Clear(vips ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The gate must stand before the way is free: two steps, because the
	// kernel goes on after a failure within one.
	if err := f.routing.apply(gate(vips, true)...); err != nil {
		return fmt.Errorf("clear fence: %w", err)
	}
	var changes []change
	for _, vip := range vips {
		changes = append(changes, delRule(rule{src: vip, pref: FencePref}))
		if sadb.FamilyOf(vip) == sadb.FamilyIPv6 {
			f.open6[vip] = true
		}
	}
	if err := f.routing.apply(changes...); err != nil {
		return fmt.Errorf("clear fence: %w", err)
	}
	return nil
}

// Renew keeps the fence open for the IPv6 addresses that this process has
// cleared, for another FenceLifetime. Renew before the addresses' own leases,
// so that the fence never outlasts them: see the package comment.
func (f *Fence) Renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open6) == 0 {
		return nil
	}
	if err := f.routing.apply(gateRoutes(true)...); err != nil {
		return fmt.Errorf("renew fence: %w", err)
	}
	return nil
}

// gate returns what stands in the way of the IPv6 addresses among vips: the
// table's permanent end, with open the expiring way around it, and the rules
// that lead there.
func gate(vips []netip.Addr, open bool) (changes []change) {
	for _, vip := range vips {
		if sadb.FamilyOf(vip) == sadb.FamilyIPv6 {
			changes = append(changes, addRule(rule{src: vip, pref: FenceGatePref, table: FenceGateTable}))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return append(gateRoutes(open), changes...)
}

func gateRoutes(open bool) []change {
	end := route{
		family: sadb.FamilyIPv6, table: FenceGateTable, kind: unix.RTN_BLACKHOLE, metric: gateMetricClosed,
	}
	if !open {
		return []change{putRoute(end)}
	}
	// "throw" ends the search in this table and goes on with the next rule:
	// whatever routing the node has applies, as if the gate were not there.
	way := route{
		family: sadb.FamilyIPv6, table: FenceGateTable, kind: unix.RTN_THROW, metric: gateMetricOpen,
		expires: uint32(FenceLifetime / time.Second),
	}
	return []change{putRoute(end), putRoute(way)}
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
		closed := r.pref == FencePref && r.table == 0
		gated := r.pref == FenceGatePref && r.table == FenceGateTable
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
		delete(f.open6, s.VIP)
		errs = append(errs, f.routing.apply(
			delRule(rule{src: s.VIP, pref: FencePref}),
			delRule(rule{src: s.VIP, pref: FenceGatePref, table: FenceGateTable}),
		))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove fence: %w", err)
	}
	return nil
}
