package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/vip"
)

// ownAddress is an address of an interface that can be a source: it is neither
// virtual nor tentative nor a duplicate.
type ownAddress struct {
	ip  netip.Addr
	net netip.Prefix // what is connected by it
	// spare: secondary (IPv4), or temporary or deprecated (IPv6).
	spare bool
}

// ownAddressOf judges an address as the kernel lists it.
func ownAddressOf(a vip.Assigned) (own ownAddress, ok bool) {
	unusable := a.Flags & (unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED)
	if a.Flags&unix.IFA_F_OPTIMISTIC != 0 {
		unusable &^= unix.IFA_F_TENTATIVE
	}
	if unusable != 0 {
		return own, false
	}
	// IFA_F_SECONDARY and IFA_F_TEMPORARY are one bit.
	return ownAddress{ip: a.IP, net: a.Net, spare: a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED) != 0}, true
}

// The ways in which an address fits a destination, the best last.
const (
	fitsNot = iota
	fitsFamily
	fitsRoute     // the kernel would take it
	fitsConnected // the destination is in its network
)

// fit judges an address as the source of what goes to dst.
func (st *linkState) fit(a *ownAddress, dst netip.Addr) int {
	switch {
	case a.ip.Is4() != dst.Is4():
		return fitsNot
	case dst.Is6() && a.ip.IsLinkLocalUnicast() != (dst.IsLinkLocalUnicast() || dst.IsMulticast()):
		return fitsNot
	case dst.IsMulticast():
		return fitsFamily
	case a.net.Contains(dst):
		return fitsConnected
	case st.via[dst] == a.ip:
		return fitsRoute
	}
	return fitsFamily
}

// source is the address from which we speak to a destination.
type source struct {
	src  netip.Addr // in use; invalid: no address leads there
	home netip.Addr // by which the other members know us; src while it exists
}

// choose picks the address from which to speak to dst. An address that is in use
// stays while it exists, whatever others come, and is taken again when it comes
// back, unless another one leads to dst and it does not.
func (s *source) choose(st *linkState, dst netip.Addr) {
	var best, home *ownAddress
	level := fitsNot
	for i := range st.addrs {
		a := &st.addrs[i]
		if a.ip == s.home {
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
		s.src = netip.Addr{}
		return
	}
	s.src = best.ip
	if !s.home.IsValid() || home != nil && st.fit(home, dst) < level {
		s.home = best.ip
	}
}

// known ranks an address by what the other members know of us.
func (s *source) known(a *ownAddress) int {
	switch a.ip {
	case s.home:
		return 2
	case s.src:
		return 1
	}
	return 0
}

// better decides between addresses that fit alike and of which none is in use,
// so that a restart ends with the same: the kernel lists the first address of
// IPv4 first, and the latest of IPv6.
func (a *ownAddress) better(b *ownAddress, fit int) bool {
	if fit == fitsConnected && a.net.Bits() != b.net.Bits() {
		return a.net.Bits() > b.net.Bits()
	}
	if a.spare != b.spare {
		return b.spare
	}
	return a.ip.Is6() && a.ip.Less(b.ip)
}

// owns reports whether an address is one of those of the interface.
func (st *linkState) owns(ip netip.Addr) bool {
	return slices.ContainsFunc(st.addrs, func(a ownAddress) bool { return a.ip == ip })
}

// lookUpRoutes asks the kernel from which address it would speak to members that
// are in no network of the interface.
func (st *linkState) lookUpRoutes(peers []netip.Addr) {
	for _, peer := range peers {
		if slices.ContainsFunc(st.addrs, func(a ownAddress) bool { return st.fit(&a, peer) == fitsConnected }) {
			continue
		}
		rs, err := netlink.RouteGetWithOptions(peer.AsSlice(), &netlink.RouteGetOptions{OifIndex: st.index})
		if err != nil || len(rs) == 0 {
			continue // no route yet
		}
		if src, ok := netip.AddrFromSlice(rs[0].Src); ok {
			if st.via == nil {
				st.via = make(map[netip.Addr]netip.Addr)
			}
			st.via[peer] = src.Unmap()
		}
	}
}

// path is the way to one member of a router that speaks unicast.
type path struct {
	source
	peer    netip.Addr
	control []byte // names the source to the kernel
	to      unix.Sockaddr
}

// route finds the sources of a router on an interface and returns the one that
// stands for it: that of multicast, or the first of a member.
func (r *router) route(st *linkState) (src netip.Addr) {
	if len(r.Peers) == 0 {
		r.multicast.choose(st, r.Router.group())
		return r.multicast.src
	}
	old := r.paths
	r.paths = make([]path, 0, len(r.Peers))
	for _, peer := range r.Peers {
		p := path{peer: peer}
		if i := slices.IndexFunc(old, func(o path) bool { return o.peer == peer }); i >= 0 {
			p.source = old[i].source
		}
		p.choose(st, peer)
		p.address(st.index)
		r.paths = append(r.paths, p)
		src = cmp.Or(src, p.src)
	}
	return src
}

// towards is our address as a member knows it.
func (r *router) towards(peer netip.Addr) netip.Addr {
	for i := range r.paths {
		if r.paths[i].peer == peer {
			return r.paths[i].src
		}
	}
	return r.src
}

// address says to the kernel where a message comes from and goes.
func (p *path) address(index int) {
	switch {
	case !p.src.IsValid():
	case p.peer.Is4():
		p.control = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: p.src.As4()})
		p.to = &unix.SockaddrInet4{Addr: p.peer.As4()}
	default:
		p.control = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(index), Addr: p.src.As16()})
		to := &unix.SockaddrInet6{Addr: p.peer.As16()}
		if p.peer.IsLinkLocalUnicast() {
			to.ZoneId = uint32(index)
		}
		p.to = to
	}
}

// peersByDevice lists the members that are spoken to by unicast.
func peersByDevice(routers []*router) *map[string][]netip.Addr {
	out := make(map[string][]netip.Addr)
	for _, r := range routers {
		for _, peer := range r.Peers {
			if !slices.Contains(out[r.Device], peer) {
				out[r.Device] = append(out[r.Device], peer)
			}
		}
	}
	return &out
}
