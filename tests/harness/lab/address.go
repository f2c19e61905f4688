package lab

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Has reports whether the node has an address, on any interface. The test ends when
// the kernel's list cannot be read.
func (nd *Node) Has(a netip.Addr) bool {
	nd.t.Helper()
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	for {
		list, err := nd.nl.AddrList(nil, family)
		if errors.Is(err, netlink.ErrDumpInterrupted) { // an address came or went meanwhile
			continue
		}
		if err != nil {
			nd.t.Fatalf("list addresses of %s: %v", nd.Name, err)
			return false
		}
		for _, have := range list {
			if ip, ok := netip.AddrFromSlice(have.IP); ok && ip.Unmap() == a {
				return true
			}
		}
		return false
	}
}
