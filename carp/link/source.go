package link

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/vip"
)

// Address is an address of an interface that can be a source: it is neither
// virtual nor tentative nor a duplicate.
type Address struct {
	IP  netip.Addr
	Net netip.Prefix // what is connected by it
	// Spare: secondary (IPv4), or temporary or deprecated (IPv6).
	Spare bool
}

// AddressOf judges an address as the kernel lists it.
func AddressOf(a vip.Assigned) (own Address, ok bool) {
	unusable := a.Flags & (unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED)
	if a.Flags&unix.IFA_F_OPTIMISTIC != 0 {
		unusable &^= unix.IFA_F_TENTATIVE
	}
	if unusable != 0 {
		return own, false
	}
	// IFA_F_SECONDARY and IFA_F_TEMPORARY are one bit.
	return Address{IP: a.IP, Net: a.Net, Spare: a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED) != 0}, true
}

// The ways in which an address fits a destination, the best last.
const (
	fitsNot = iota
	fitsFamily
	fitsRoute     // the kernel would take it
	fitsConnected // the destination is in its network
)

// fit judges an address as the source of what goes to dst.
func (st *State) fit(a *Address, dst netip.Addr) int {
	switch {
	case a.IP.Is4() != dst.Is4():
		return fitsNot
	case dst.Is6() && a.IP.IsLinkLocalUnicast() != (dst.IsLinkLocalUnicast() || dst.IsMulticast()):
		return fitsNot
	case dst.IsMulticast():
		return fitsFamily
	case a.Net.Contains(dst):
		return fitsConnected
	case st.Via[dst] == a.IP:
		return fitsRoute
	}
	return fitsFamily
}

// Source is the address from which we speak to a destination.
type Source struct {
	Src  netip.Addr // in use; not valid: no address leads there
	home netip.Addr // by which the other members know us; Src while it exists
}

// Choose picks the address from which to speak to dst. An address that is in use
// stays while it exists, whatever others come, and is taken again when it comes
// back, unless another one leads to dst and it does not.
func (s *Source) Choose(st *State, dst netip.Addr) {
	var best, home *Address
	level := fitsNot
	for i := range st.Addrs {
		a := &st.Addrs[i]
		if a.IP == s.home {
			home = a
		}
		n := st.fit(a, dst)
		switch {
		case n == fitsNot || n < level:
		case n > level:
			best, level = a, n
		case s.known(a) > s.known(best), s.known(a) == s.known(best) && a.better(best, n):
			best = a
		}
	}
	if best == nil {
		s.Src = netip.Addr{}
		return
	}
	s.Src = best.IP
	if !s.home.IsValid() || home != nil && st.fit(home, dst) < level {
		s.home = best.IP
	}
}

// known ranks an address by what the other members know of us.
func (s *Source) known(a *Address) int {
	switch a.IP {
	case s.home:
		return 2
	case s.Src:
		return 1
	}
	return 0
}

// better decides between addresses that fit alike and of which none is in use,
// so that a restart ends with the same: the kernel lists the first address of
// IPv4 first, and the latest of IPv6.
func (a *Address) better(b *Address, fit int) bool {
	if fit == fitsConnected && a.Net.Bits() != b.Net.Bits() {
		return a.Net.Bits() > b.Net.Bits()
	}
	if a.Spare != b.Spare {
		return b.Spare
	}
	return a.IP.Is6() && a.IP.Less(b.IP)
}

// Owns reports whether an address is one of those of the interface.
func (st *State) Owns(ip netip.Addr) bool {
	return slices.ContainsFunc(st.Addrs, func(a Address) bool { return a.IP == ip })
}

// LookUpRoutes asks the kernel from which address it would speak to members that
// are in no network of the interface.
func (st *State) LookUpRoutes(peers []netip.Addr) {
	for _, peer := range peers {
		if slices.ContainsFunc(st.Addrs, func(a Address) bool { return st.fit(&a, peer) == fitsConnected }) {
			continue
		}
		rs, err := netlink.RouteGetWithOptions(peer.AsSlice(), &netlink.RouteGetOptions{OifIndex: st.Index})
		if err != nil || len(rs) == 0 {
			continue // no route yet
		}
		if src, ok := netip.AddrFromSlice(rs[0].Src); ok {
			if st.Via == nil {
				st.Via = make(map[netip.Addr]netip.Addr)
			}
			st.Via[peer] = src.Unmap()
		}
	}
}

// Path is the way to one member of a router that speaks unicast.
type Path struct {
	Source
	Peer    netip.Addr
	control []byte // names the source to the kernel
	to      unix.Sockaddr
}

// Aim says to the kernel by which interface and from where a message to the member goes.
func (p *Path) Aim(index int) {
	switch {
	case !p.Src.IsValid():
	case p.Peer.Is4():
		p.control = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: p.Src.As4()})
		p.to = &unix.SockaddrInet4{Addr: p.Peer.As4()}
	default:
		p.control = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(index), Addr: p.Src.As16()})
		to := &unix.SockaddrInet6{Addr: p.Peer.As16()}
		if p.Peer.IsLinkLocalUnicast() {
			to.ZoneId = uint32(index)
		}
		p.to = to
	}
}
