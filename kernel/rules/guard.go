package rules

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
	"sasyncd/kernel/link"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// What a [Guard] puts into the routing policy; fixed as those of the fence are.
const (
	GuardPref  = 4      // `lookup GuardTable`, and perhaps `not iif lo blackhole`
	GuardTable = 112114 // where the policies lead
)

// Guard keeps what IPsec policies protect from leaving in plaintext while somebody
// flushes them; see the package comment. What is in the kernel is the state, so
// another process can go on with it. Methods are for one goroutine at a time.
type Guard struct {
	k       *xfrm.Kernel
	links   *link.Table
	routing *routing
	nl      *netlink.Handle
}

// OpenGuard opens the policies and the routing of the calling thread's network
// namespace. It changes nothing. Without CAP_NET_ADMIN the error is
// fs.ErrPermission.
func OpenGuard() (*Guard, error) {
	g := new(Guard)
	var err error
	if g.k, err = xfrm.New(xfrm.Options{}); err != nil {
		return nil, err
	}
	if g.links, err = link.Open(nil); err == nil {
		g.routing, err = openRouting()
	}
	if err == nil {
		g.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open guard: %w", err), g.Close())
	}
	return g, nil
}

// Close releases the sockets; the guard stays.
func (g *Guard) Close() error {
	if g.nl != nil {
		g.nl.Close()
	}
	var errs []error
	if g.routing != nil {
		errs = append(errs, g.routing.close())
	}
	if g.links != nil {
		errs = append(errs, g.links.Close())
	}
	return errors.Join(append(errs, g.k.Close())...)
}

var guardFamilies = [...]sadb.Family{sadb.FamilyIPv4, sadb.FamilyIPv6}

// Set guards where the policies lead now, besides what is guarded already, and
// returns how many destinations that are. With none it guards nothing more. Whoever
// sets the guard is to end it, or to Leave it.
func (g *Guard) Set(ctx context.Context) (int, error) {
	want, err := g.destinations(ctx)
	if err != nil {
		return 0, fmt.Errorf("set guard: %w", err)
	}
	addrs, err := g.links.Addrs(ctx)
	if err != nil {
		return 0, fmt.Errorf("set guard: %w", err)
	}
	var routes, rules, marks []change
	for _, family := range guardFamilies {
		marks = append(marks, delRule(guardMark(family)))
		any, all := false, false
		for dst, n := range want {
			if sadb.FamilyOf(dst.Addr()) != family {
				continue
			}
			r := route{family: family, dst: dst, table: GuardTable, kind: unix.RTN_BLACKHOLE, metric: n}
			if wide(dst, addrs) {
				r.kind, all = unix.RTN_THROW, true
			}
			routes, any = append(routes, newRoute(r)), true
		}
		lookup, forwarded := guardRules(family)
		if any {
			rules = append(rules, addRule(lookup))
		}
		if all {
			rules = append(rules, addRule(forwarded))
		}
	}
	if err := errors.Join(g.routing.applyChunks(marks), g.routing.applyChunks(routes),
		g.routing.applyChunks(rules)); err != nil {
		return 0, fmt.Errorf("set guard: %w", err)
	}
	return len(want), nil
}

// guardRules are those of a family; the second holds all that is forwarded.
func guardRules(family sadb.Family) (lookup, forwarded rule) {
	return rule{family: family, pref: GuardPref, table: GuardTable}, rule{family: family, pref: GuardPref,
		iif: "lo", not: true}
}

// guardMark is a rule that changes nothing beside the lookup: it tells that the guard
// was left.
func guardMark(family sadb.Family) rule {
	return rule{family: family, pref: GuardPref, table: GuardTable, iif: "lo"}
}

// Leave notes that whoever set the guard does not end it: nobody flushes any more, and
// the next sasyncd may end it as soon as the policies are there.
func (g *Guard) Leave(ctx context.Context) error {
	list, err := g.rules(ctx)
	if err != nil {
		return fmt.Errorf("leave guard: %w", err)
	}
	var changes []change
	for _, family := range guardFamilies {
		if lookup, _ := guardRules(family); slices.Contains(list, lookup) {
			changes = append(changes, addRule(guardMark(family)))
		}
	}
	if err := g.routing.applyChunks(changes); err != nil {
		return fmt.Errorf("leave guard: %w", err)
	}
	return nil
}

// Left reports whether the guard was left.
func (g *Guard) Left(ctx context.Context) (bool, error) {
	list, err := g.rules(ctx)
	if err != nil {
		return false, fmt.Errorf("look at guard: %w", err)
	}
	return slices.ContainsFunc(list, func(r rule) bool { return r.iif == "lo" && !r.not }), nil
}

// destinations counts the outbound policies that have anything encrypted or
// authenticated, by where they lead. Those of an xfrm interface do not count: without
// them it sends nothing.
func (g *Guard) destinations(ctx context.Context) (map[netip.Prefix]uint32, error) {
	list, err := g.k.Policies(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[netip.Prefix]uint32)
	for _, p := range list {
		if p.Socket || p.Key.Dir != sadb.DirOut || len(p.Templates) == 0 || p.Key.IfID != 0 {
			continue
		}
		if dst, ok := p.Key.Selector.DstPrefix(); ok {
			out[dst.Masked()]++
		}
	}
	return out, nil
}

var multicast = [...]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}

// wide reports whether the node could not work without reaching all of dst.
func wide(dst netip.Prefix, own []link.Address) bool {
	return slices.ContainsFunc(multicast[:], dst.Overlaps) ||
		slices.ContainsFunc(own, func(a link.Address) bool { return dst.Contains(a.Prefix.Addr()) })
}

// Missing counts the guarded destinations that have fewer policies now than when
// they were guarded; set is false if nothing is guarded.
func (g *Guard) Missing(ctx context.Context) (missing int, set bool, err error) {
	guarded, err := g.guarded()
	if err != nil {
		return 0, false, err
	}
	rules, err := g.rules(ctx)
	if err != nil || len(rules) == 0 && len(guarded) == 0 {
		return 0, false, err
	}
	have, err := g.destinations(ctx)
	if err != nil {
		return 0, true, fmt.Errorf("look at guard: %w", err)
	}
	most := make(map[netip.Prefix]uint32)
	for _, r := range guarded {
		most[r.dst] = max(most[r.dst], r.metric)
	}
	for dst, n := range most {
		if have[dst] < n {
			missing++
		}
	}
	return missing, true, nil
}

// Lift guards nothing any more, whoever guarded it.
func (g *Guard) Lift(ctx context.Context) error {
	list, err := g.rules(ctx)
	if err != nil {
		return fmt.Errorf("lift guard: %w", err)
	}
	var changes []change
	// The marks first: the kernel takes the first rule that has what is asked for, and a
	// mark has all that the lookup has.
	for _, family := range guardFamilies {
		changes = append(changes, delRule(guardMark(family)))
	}
	for _, r := range list {
		if r != guardMark(r.family) {
			changes = append(changes, delRule(r))
		}
	}
	if err := g.routing.applyChunks(changes); err != nil {
		return fmt.Errorf("lift guard: %w", err)
	}
	routes, err := g.guarded()
	changes = changes[:0]
	for _, r := range routes {
		changes = append(changes, delRoute(r))
	}
	if err := errors.Join(err, g.routing.applyChunks(changes)); err != nil {
		return fmt.Errorf("lift guard: %w", err)
	}
	return nil
}

func (g *Guard) rules(ctx context.Context) ([]rule, error) {
	list, err := g.routing.rules(ctx)
	return slices.DeleteFunc(list, func(r rule) bool { return r.pref != GuardPref }), err
}

// guarded lists the routes of the table.
func (g *Guard) guarded() (out []route, err error) {
	for _, family := range guardFamilies {
		list, err := dump.List(func() ([]netlink.Route, error) {
			return g.nl.RouteListFiltered(int(family), &netlink.Route{Table: GuardTable}, netlink.RT_FILTER_TABLE)
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list what is guarded: %w", err)
		}
		for _, r := range list {
			out = append(out, route{family: family, dst: prefixOf(r.Dst, family), table: GuardTable,
				kind: uint8(r.Type), metric: uint32(r.Priority)})
		}
	}
	return out, nil
}

// prefixOf converts a destination, of which nil is the default route.
func prefixOf(n *net.IPNet, family sadb.Family) netip.Prefix {
	if n != nil {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			ones, _ := n.Mask.Size()
			return netip.PrefixFrom(a.Unmap(), ones)
		}
	}
	if family == sadb.FamilyIPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
