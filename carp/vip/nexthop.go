package vip

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// NextHops looks after the neighbours through which traffic leaves. Not for
// concurrent use, but for Keep.
type NextHops struct {
	nl      *netlink.Handle
	tables  *netlink.Handle // of Keep
	keeping sync.Mutex
}

// NewNextHops opens a socket in the network namespace of the calling thread.
func NewNextHops() (*NextHops, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	tables, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink socket for routes: %w", err)
	}
	n := &NextHops{nl: h, tables: tables}
	_ = n.mute(false) // of one that was killed; usually there is none
	return n, nil
}

// Close closes the sockets.
func (n *NextHops) Close() {
	n.nl.Close()
	n.tables.Close()
}

// Keep asks the kernel to keep the gateways on the interfaces resolved at all
// times (managed neighbours, Linux 5.16), so that no takeover waits for ARP or
// neighbour discovery: one lost packet there costs a second. It reads the
// routing table, which takes seconds where that is the Internet's, so call it
// rarely. It may run while other methods do.
func (n *NextHops) Keep(indexes []int) error {
	n.keeping.Lock()
	defer n.keeping.Unlock()
	var gateways []netlink.Neigh
	add := func(index int, r netlink.Route, gw []byte) {
		if gw == nil || !slices.Contains(indexes, index) {
			return
		}
		nb := netlink.Neigh{LinkIndex: index, IP: gw, Family: r.Family, State: netlink.NUD_NONE,
			FlagsExt: netlink.NTF_EXT_MANAGED}
		if !slices.ContainsFunc(gateways, func(o netlink.Neigh) bool {
			return o.LinkIndex == index &&
				o.IP.Equal(nb.IP)
		}) {
			gateways = append(gateways, nb)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		err := dump.Retry(func() error {
			return n.tables.RouteListFilteredIter(family, &netlink.Route{}, 0, func(r netlink.Route) bool {
				add(r.LinkIndex, r, r.Gw)
				for _, hop := range r.MultiPath {
					add(hop.LinkIndex, r, hop.Gw)
				}
				return true
			})
		})
		// With a routing protocol the table never rests. What is in it is kept; what
		// was missed is so the next time.
		if err != nil && !dump.Interrupted(err) {
			return fmt.Errorf("read routes: %w", err)
		}
	}
	var errs []error
	for _, g := range gateways {
		if err := n.tables.NeighSet(&g); err != nil {
			errs = append(errs, fmt.Errorf("keep neighbour %v: %w", g.IP, err))
		}
	}
	return errors.Join(errs...)
}

// Purge drops what waits for neighbours that do not answer. A node that was cut
// off has packets queued there that it sent as master; they must not leave when
// its link comes back and another is master.
//
// For each packet the kernel would send its source an error, which quotes it. Of
// one that came out of a tunnel that would be what the tunnel hides, in the
// clear: so meanwhile no ICMP of this node finds a route.
func (n *NextHops) Purge(indexes []int) error {
	var errs []error
	_ = n.mute(true)                     // a kernel that cannot is no reason to let packets wait
	defer func() { _ = n.mute(false) }() // NewNextHops tries again
	for range purgePasses {
		again := false
		for _, index := range indexes {
			deleted, err := n.purge(index)
			again = again || deleted
			errs = append(errs, err)
		}
		if !again {
			break
		}
	}
	return errors.Join(errs...)
}

// Own drops what waits for, and is known of, neighbours whose addresses this node
// has taken. While nobody had them, somebody's packets for them may have been
// routed here; they would leave with the next master's announcement, as much too
// late as this node has been master.
func (n *NextHops) Own(as []Address) error {
	var errs []error
	for _, a := range as {
		err := n.nl.NeighDel(&netlink.Neigh{LinkIndex: a.Index, IP: a.IP.AsSlice()})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete neighbour %v: %w", a.IP, err))
		}
	}
	return errors.Join(errs...)
}

// mutePriority is that of the rules of mute, before those of the fence.
const (
	mutePriority = 4
	muteProtocol = 112 // as the fence's, so that everybody sees whose they are
)

// mute keeps ICMP of this node's own from being routed, or lets it pass again.
// Neighbour discovery needs no route.
func (n *NextHops) mute(on bool) error {
	var errs []error
	for family, proto := range map[int]int{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6} {
		r := netlink.NewRule()
		r.Family, r.Priority, r.IifName, r.IPProto, r.Type, r.Protocol = family, mutePriority, "lo", proto,
			unix.RTN_BLACKHOLE, muteProtocol
		do := n.nl.RuleDel
		if on {
			do = n.nl.RuleAdd
		}
		switch err := do(r); {
		case err == nil, on && errors.Is(err, unix.EEXIST), errors.Is(err, unix.EAFNOSUPPORT):
		default:
			errs = append(errs, fmt.Errorf("mute ICMP: %w", err))
		}
	}
	return errors.Join(errs...)
}

// purgePasses: for a packet that is dropped the kernel may send an ICMP error,
// which then waits for another neighbour. For errors there are none.
const purgePasses = 3

func (n *NextHops) purge(index int) (deleted bool, _ error) {
	list, err := dump.List(func() ([]netlink.Neigh, error) { return n.nl.NeighList(index, netlink.FAMILY_ALL) })
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("read neighbours: %w", err)) // those that were seen go all the same
	}
	for _, nb := range list {
		if nb.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) == 0 {
			continue
		}
		err := n.nl.NeighDel(&nb)
		switch {
		case err == nil:
			deleted = true
		case !errors.Is(err, unix.ENOENT):
			errs = append(errs, fmt.Errorf("delete neighbour %v: %w", nb.IP, err))
		}
	}
	return deleted, errors.Join(errs...)
}
