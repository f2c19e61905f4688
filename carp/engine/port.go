package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"sasyncd/carp/link"
	"sasyncd/carp/packet"
)

// port is an interface on which we elect. It belongs to the engine's thread.
type port struct {
	*link.Port
	mac   packet.MAC
	table [2][256]int16 // IPv4, IPv6: router of an id, -1 none

	known   link.State  // latest reading
	trouble string      // why the interface could not be used, as told
	idle    atomic.Bool // an instance cannot work on it; for the watcher
}

func newPort(device string) *port {
	p := &port{Port: link.NewPort(device)}
	for f := range p.table {
		for id := range p.table[f] {
			p.table[f][id] = -1
		}
	}
	return p
}

// route finds the sources of a router on an interface and returns the one that
// stands for it: that of multicast, or the first of a member. That of an owner is the
// virtual address itself where its interface has no other one (RFC 9568 section
// 5.1.1.1).
func (r *router) route(st *link.State) netip.Addr {
	src := r.routeFrom(st)
	if src.IsValid() || !r.owner() {
		return src
	}
	own := *st
	own.Addrs = slices.DeleteFunc(slices.Clone(st.Own),
		func(a link.Address) bool { return !slices.Contains(r.VIPs, a.IP) })
	return r.routeFrom(&own)
}

func (r *router) routeFrom(st *link.State) (src netip.Addr) {
	if len(r.Peers) == 0 {
		r.multicast.Choose(st, r.Router.group())
		return r.multicast.Src
	}
	old := r.paths
	r.paths = make([]link.Path, 0, len(r.Peers))
	for _, peer := range r.Peers {
		p := link.Path{Peer: peer}
		if i := slices.IndexFunc(old, func(o link.Path) bool { return o.Peer == peer }); i >= 0 {
			p.Source = old[i].Source
		}
		p.Choose(st, peer)
		p.Aim(st.Index)
		r.paths = append(r.paths, p)
		src = cmp.Or(src, p.Src)
	}
	return src
}

// towards is our address as a member knows it.
func (r *router) towards(peer netip.Addr) netip.Addr {
	for i := range r.paths {
		if r.paths[i].Peer == peer {
			return r.paths[i].Src
		}
	}
	return r.src
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
