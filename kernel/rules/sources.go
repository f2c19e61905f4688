package rules

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// What Sources puts into the routing policy; fixed as those of the fence are.
const (
	SourcePref  = 9      // `iif lo ipproto udp sport 500|4500 lookup SourceTable`
	SourceTable = 113112 // one route to each remote, with `src VIP`
)

// ports of IKE, and of IKE and ESP in UDP.
var ikePorts = [...]uint16{500, 4500}

// Sources gives what this node says on the ports of IKE a virtual address as its
// source, for IKE daemons that do not bind to one. It has routes of its own
// that nothing else uses. The kernel removes an IPv4 one with its source.
// Methods are for one goroutine at a time.
type Sources struct {
	nl *netlink.Handle
}

// OpenSources opens the routing policy of the calling thread's network
// namespace. It changes nothing.
func OpenSources() (*Sources, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open routing policy: %w", err)
	}
	return &Sources{nl}, nil
}

// Close releases the socket; the routing stays.
func (s *Sources) Close() error {
	s.nl.Close()
	return nil
}

// Prefer has IKE to remote leave from source, which this node must have, by the
// way that the main table has to remote now.
func (s *Sources) Prefer(remote, source netip.Addr) error {
	remote, source = remote.Unmap(), source.Unmap()
	ways, err := s.nl.RouteGet(net.IP(remote.AsSlice()))
	if err != nil || len(ways) == 0 {
		return fmt.Errorf("find the way to %s: %w", remote, errors.Join(err, unix.ENETUNREACH))
	}
	r := &netlink.Route{
		LinkIndex: ways[0].LinkIndex, Gw: ways[0].Gw, Src: net.IP(source.AsSlice()),
		Dst:   &net.IPNet{IP: net.IP(remote.AsSlice()), Mask: net.CIDRMask(remote.BitLen(), remote.BitLen())},
		Table: SourceTable, Protocol: routeOwner,
	}
	if r.Gw == nil && remote.Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := s.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("route ike to %s from %s: %w", remote, source, err)
	}
	family := netlink.FAMILY_V4
	if remote.Is6() {
		family = netlink.FAMILY_V6
	}
	for _, port := range ikePorts {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Table = family, SourcePref, SourceTable
		rule.IifName, rule.IPProto, rule.Protocol = "lo", unix.IPPROTO_UDP, routeOwner
		rule.Sport = netlink.NewRulePortRange(port, port)
		if err := s.nl.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule for udp port %d: %w", port, err)
		}
	}
	return nil
}

// Forget takes back whatever Prefer has done, by another process too.
func (s *Sources) Forget() error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.List(func() ([]netlink.Route, error) {
			return s.nl.RouteListFiltered(family, &netlink.Route{Table: SourceTable}, netlink.RT_FILTER_TABLE)
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("list routes of ike: %w", err))
		}
		for _, r := range routes {
			if err := s.nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("delete the route of ike to %s: %w", r.Dst, err))
			}
		}
	}
	return errors.Join(errs...)
}
