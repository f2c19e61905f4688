package lab

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Addresses returns the addresses of an interface of the node, or of all for "". The
// test ends when the kernel's list cannot be read.
func (nd *Node) Addresses(dev string) []netip.Prefix {
	nd.t.Helper()
	var link netlink.Link
	if dev != "" {
		var err error
		if link, err = nd.nl.LinkByName(dev); err != nil {
			nd.t.Fatalf("interface %s of %s: %v", dev, nd.Name, err)
			return nil
		}
	}
	for {
		list, err := nd.nl.AddrList(link, netlink.FAMILY_ALL)
		if errors.Is(err, netlink.ErrDumpInterrupted) { // an address came or went meanwhile
			continue
		}
		if err != nil {
			nd.t.Fatalf("list addresses of %s: %v", nd.Name, err)
			return nil
		}
		var out []netip.Prefix
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				bits, _ := a.Mask.Size()
				out = append(out, netip.PrefixFrom(ip.Unmap(), bits))
			}
		}
		return out
	}
}

// Has reports whether the node has an address, on any interface.
func (nd *Node) Has(a netip.Addr) bool {
	nd.t.Helper()
	return slices.ContainsFunc(nd.Addresses(""), func(p netip.Prefix) bool { return p.Addr() == a })
}
