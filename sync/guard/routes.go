package guard

import (
	"cmp"
	"net/netip"
	"slices"
)

// Routes makes the routes of the second wall, which stands where the packet filter is
// gone. It drops nothing that the Program of the same rules passes, and may pass more.
//
// A router has one table for each Src. It asks the tables that have the source of a
// packet, the longest Src first. In a table the route with the longest Dst decides. One
// that drops ends the search. One that passes continues with the next table, as the route
// type throw does, so it makes an exception of routes of its own table alone.
//
// A rule that requires becomes a route where it compares addresses alone and has no
// NoRoute. A bypass that decides before it, and has packets of it, is an exception: a
// route in the table of the rule that passes the destinations of the bypass. The exception
// is wider than a bypass with ports, a protocol, a mark, or some sources of the rule. A
// rule has no route where the bypass has all its destinations, whatever else the bypass
// compares. A rule that requires and has NoRoute is an exception like a bypass: what IPsec
// makes of its packets has their addresses and is routed by them.
//
// A route drops packets of the machine itself as well, IKE and ESP among them, where its
// prefixes have the machine's address and a peer's. Of gives NoRoute to a rule that has the
// ends of a tunnel it knows. A caller has other packets of the machine routed before the
// tables.
func Routes(rules []Rule) []Route {
	rules = inOrder(rules)
	walls, exceptions := split(rules)
	type place struct{ src, dst netip.Prefix }
	pass := make(map[place]bool)
	for _, w := range walls {
		inner, ok := around(rules[w].Selector, rules, exceptions, w)
		if !ok {
			continue
		}
		// No exception has this place before: its bypass would decide before this rule too and
		// leave nothing of it. One that comes after never decides here, so the drop counts.
		pass[place{rules[w].Src, rules[w].Dst}] = false
		for _, dst := range inner {
			if _, ok := pass[place{rules[w].Src, dst}]; !ok {
				pass[place{rules[w].Src, dst}] = true
			}
		}
	}
	out := make([]Route, 0, len(pass))
	for p, passes := range pass {
		out = append(out, Route{Src: p.src, Dst: p.dst, Pass: passes})
	}
	slices.SortFunc(out, compareRoutes)
	return out
}

// split returns the positions of rules that can be routes, and of those that let packets
// leave with their addresses. Of the latter it leaves out what never decides, because one
// of the former decides before and has all its packets. That is sound: the first of all
// rules that has a packet can then not be one that is left out.
func split(rules []Rule) (walls, exceptions []int) {
	for i, r := range rules {
		if r.Require && !r.NoRoute {
			if r.plain() {
				walls = append(walls, i)
			}
			continue
		}
		if !slices.ContainsFunc(walls, func(w int) bool {
			return covers(rules[w].Dst, r.Dst) && covers(rules[w].Src, r.Src)
		}) {
			exceptions = append(exceptions, i)
		}
	}
	return walls, exceptions
}

// around returns the destinations that a route for s, of the rule at position at, has to
// leave out. It is not ok where nothing is left.
func around(s Selector, rules []Rule, exceptions []int, at int) (inner []netip.Prefix, ok bool) {
	for _, e := range exceptions {
		x := rules[e]
		if e > at {
			break
		}
		if !x.overlaps(s) {
			continue
		}
		// The exception is in the table of s also for a source within that of s: what passes
		// in a table of that source comes to the table of s next.
		if covers(x.Dst, s.Dst) {
			return nil, false
		}
		inner = append(inner, x.Dst)
	}
	return inner, true
}

// compareRoutes orders routes as a router asks them: IPv4 first, the longest prefixes first.
func compareRoutes(a, b Route) int {
	return cmp.Or(compareBools(a.Src.Addr().Is6(), b.Src.Addr().Is6()), cmp.Compare(b.Src.Bits(), a.Src.Bits()),
		a.Src.Addr().Compare(b.Src.Addr()), cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), a.Dst.Addr().Compare(b.Dst.Addr()))
}
