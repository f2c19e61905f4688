package main

import (
	"net"
	"net/netip"
	"slices"

	"sasyncd/sync/peer"
)

// others leaves out this node itself: one file may serve all gateways, so it may
// be among its own peers, and then nothing is wrong with the session that is
// not there. own are the addresses of this machine.
func others(list []peer.Status, own map[netip.Addr]bool) []peer.Status {
	return slices.DeleteFunc(list, func(p peer.Status) bool {
		return p.Session == nil && len(p.Addrs) > 0 &&
			!slices.ContainsFunc(p.Addrs, func(a netip.AddrPort) bool { return !own[plain(a.Addr())] })
	})
}

// plain is an address without what depends on where it was written.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// machineAddrs returns the addresses of this machine; none if they cannot be
// read.
func machineAddrs() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	list, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out[plain(p.Addr())] = true
		}
	}
	return out
}
