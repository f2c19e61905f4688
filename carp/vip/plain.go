package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// localLimit is how long Acquire waits for the kernel to accept an IPv6 address as
	// its own. A busy one has taken more than half a second, and more than three. All
	// addresses of the group wait, those of IPv4 too.
	localLimit = time.Second
	// settleLimit is how long a busy kernel may take. To add an address anew before
	// would have it begin again.
	settleLimit = 10 * time.Second
	// localLook is how often it is looked whether it has, should nothing be heard.
	localLook = 5 * time.Millisecond
)

// Plain holds addresses directly on their interfaces. Not for concurrent use.
type Plain struct {
	nl     *netlink.Handle
	routes int // socket for what the kernel says of IPv6 routes, in Acquire only
	// late are addresses that were added at a time and that the kernel has not been
	// seen to route as its own.
	late map[addressOn]time.Time
}

// addressOn is an address on an interface.
type addressOn struct {
	ip    netip.Addr
	index int
}

// NewPlain opens a socket in the network namespace of the calling thread.
func NewPlain() (*Plain, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink socket for routes: %w", err)
	}
	return &Plain{nl: h, routes: fd, late: make(map[addressOn]time.Time)}, nil
}

// Close closes the sockets. Addresses stay until their leases end.
func (p *Plain) Close() {
	p.nl.Close()
	unix.Close(p.routes)
}

// Acquire adds the addresses with a lease, and returns when the kernel routes
// them as its own: it acknowledges an IPv6 address before that, and answers
// that come meanwhile are lost for a second. All are tried; lease is rounded up
// to seconds.
//
// The wait for the kernel ends after a second. What it does not route by then is
// returned as late, which is no error: the addresses are there, and the kernel comes
// to route them without help.
func (p *Plain) Acquire(as []Address, lease time.Duration) (late []netip.Addr, _ error) {
	p.listen(unix.NETLINK_ADD_MEMBERSHIP)
	defer p.listen(unix.NETLINK_DROP_MEMBERSHIP)
	for _, a := range as {
		delete(p.late, addressOn{a.IP, a.Index})
	}
	added := time.Now()
	if err := p.Renew(as, lease); err != nil {
		return nil, err
	}
	for _, a := range settle(as, localLimit, p.local, p.await) {
		p.late[addressOn{a.IP, a.Index}] = added
		late = append(late, a.IP)
	}
	return late, nil
}

// settle waits until the kernel routes the IPv6 addresses as local, and returns those
// that it does not after limit. await waits for a change, for localLook at most.
func settle(as []Address, limit time.Duration, local func(Address) bool, await func()) (late []Address) {
	for began := time.Now(); ; await() {
		late = late[:0]
		for _, a := range as {
			if a.IP.Is6() && !local(a) {
				late = append(late, a)
			}
		}
		if len(late) == 0 || time.Since(began) >= limit {
			return late
		}
	}
}

// listen begins or ends to hear of routes. Not for longer than needed: a router
// with many of them would hear of each. Without it Acquire only takes longer.
func (p *Plain) listen(membership int) {
	_ = unix.SetsockoptInt(p.routes, unix.SOL_NETLINK, membership, unix.RTNLGRP_IPV6_ROUTE)
}

// await waits until an IPv6 route has changed, or for localLook. A sleep instead
// would end with the clock's next tick, which may be every 10 ms.
func (p *Plain) await() {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.routes), Events: unix.POLLIN}}, int(localLook.Milliseconds()))
	var b [1]byte // what has changed does not matter
	for {
		// An overrun is an error like an empty queue, and ends it too.
		if _, err := unix.Read(p.routes, b[:]); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// local reports whether the kernel has a local route for the address.
func (p *Plain) local(a Address) bool {
	opts := &netlink.RouteGetOptions{}
	if a.IP.Is4() || a.IP.IsLinkLocalUnicast() {
		opts.OifIndex = a.Index // which finds the table of its VRF, too
	}
	rs, err := p.nl.RouteGetWithOptions(a.IP.AsSlice(), opts)
	return err == nil && len(rs) > 0 && rs[0].Type == unix.RTN_LOCAL
}

// Renew extends the leases. An address that someone removed is added again.
func (p *Plain) Renew(as []Address, lease time.Duration) error {
	as, err := p.leased(as)
	errs := []error{err}
	for _, a := range as {
		if err := p.nl.AddrReplace(link(a.Index), address(a.IP, lease)); err != nil {
			errs = append(errs, fmt.Errorf("add address %v: %w", a.IP, err))
		}
	}
	return errors.Join(errs...)
}

// Release removes the addresses. One that is not there is no error.
func (p *Plain) Release(as []Address) error {
	as, err := p.leased(as)
	errs := []error{err}
	for _, a := range as {
		err := p.nl.AddrDel(link(a.Index), address(a.IP, 0))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove address %v: %w", a.IP, err))
		}
	}
	return errors.Join(errs...)
}

// Present returns all addresses of the node, virtual or not. With an error for
// which dump.Interrupted is true some may be missing.
func (p *Plain) Present() (map[netip.Addr]bool, error) {
	list, err := Addresses(0)
	have := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		have[a.IP] = true
	}
	return have, err
}

func link(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// address describes a host address. That of IPv6 has no preferred lifetime, so
// that connections of the node itself, which end when the address moves, take
// another one as their source (RFC 6724 section 5, rule 3). Whoever names the
// address, as IKE daemons and the templates of tunnels do, is not affected.
// IPv4 does not choose by that.
func address(ip netip.Addr, lease time.Duration) *netlink.Addr {
	seconds := int((lease + time.Second - 1) / time.Second)
	flags, preferred := unix.IFA_F_NOPREFIXROUTE, seconds
	if ip.Is6() {
		flags |= unix.IFA_F_NODAD
		preferred = 0
	}
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())},
		Flags: flags, ValidLft: seconds, PreferedLft: preferred,
	}
}
