package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// What a detour puts into the routing policy; fixed as those of the fence are.
const (
	DetourPref    = 7         // `from OWN lookup DetourTable+interface`
	DetourEndPref = 8         // `from OWN blackhole`
	DetourTable   = 112000000 // plus the interface's index: its link, and the rest via the VIP
)

// Detour routes what comes from a backup's own addresses inside: to their link
// directly, everything else by way of the inside virtual address, that is the
// master, and to nowhere where that is not possible. Without it the bypass
// policies would let it leave outside in plaintext.
//
// So: Set before the policies of BypassOps are added, and again with nothing
// after they are deleted. Methods are safe for concurrent use.
type Detour struct {
	mu      sync.Mutex
	routing *routing
	routes  map[xfrm.Own]bool // made by this process
}

// OpenDetour opens the routing policy of the calling thread's network
// namespace. It changes nothing.
func OpenDetour() (*Detour, error) {
	r, err := openRouting()
	if err != nil {
		return nil, fmt.Errorf("open detour: %w", err)
	}
	return &Detour{routing: r, routes: make(map[xfrm.Own]bool)}, nil
}

// Close releases the socket; the routing stays.
func (d *Detour) Close() error { return d.routing.close() }

// Set makes the detour for own and takes away any other, also one that another
// process has left. It fails where this node has the virtual address itself.
func (d *Detour) Set(ctx context.Context, own ...xfrm.Own) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	rules, err := d.routing.rules(ctx)
	if err != nil {
		return fmt.Errorf("set detour: %w", err)
	}
	want := make(map[rule]bool)
	var add []change
	routes := make(map[xfrm.Own]bool)
	for _, o := range own {
		routes[o] = true
		// The end first: from then on nothing goes astray.
		for _, r := range detourRules(o) {
			want[r] = true
			add = append(add, addRule(r))
		}
		for _, r := range detourRoutes(o) {
			add = append(add, putRoute(r))
		}
	}
	err = d.routing.apply(add...)
	var remove []change
	for _, r := range rules {
		if (r.pref == DetourPref || r.pref == DetourEndPref) && !want[r] {
			remove = append(remove, delRule(r))
		}
	}
	keep := make(map[route]bool)
	for o := range routes {
		for _, r := range detourRoutes(o) {
			keep[r] = true
		}
	}
	for o := range d.routes {
		for _, r := range detourRoutes(o) {
			if !keep[r] {
				remove = append(remove, delRoute(r))
			}
		}
	}
	d.routes = routes
	if err := errors.Join(err, d.routing.apply(remove...)); err != nil {
		return fmt.Errorf("set detour: %w", err)
	}
	return nil
}

func detourRules(o xfrm.Own) [2]rule {
	addr := o.Prefix.Addr()
	return [2]rule{
		{src: addr, pref: DetourEndPref},
		{src: addr, pref: DetourPref, table: DetourTable + uint32(o.Link)},
	}
}

func detourRoutes(o xfrm.Own) (list []route) {
	base := route{
		family: sadb.FamilyOf(o.Prefix.Addr()), table: DetourTable + uint32(o.Link),
		kind: unix.RTN_UNICAST, oif: uint32(o.Link),
	}
	link, rest := base, base
	link.dst, rest.gateway = o.Prefix.Masked(), o.Via
	list = []route{link, rest}
	if base.family == sadb.FamilyIPv6 {
		local := base
		local.dst = netip.MustParsePrefix("fe80::/64")
		list = append(list, local)
	}
	return list
}
