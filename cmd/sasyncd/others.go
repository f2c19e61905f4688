package main

import (
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
			!slices.ContainsFunc(p.Addrs, func(a netip.AddrPort) bool { return !own[bareAddr(a.Addr())] })
	})
}
