// Package vip puts virtual addresses on interfaces and takes them off, tells
// the neighbours, and keeps the way to the next hops warm.
//
// Every address has a lease: the kernel removes it when it is not renewed, so
// that a daemon that died or hangs does not leave its address to two nodes. It
// is always a host address (/32, /128) without a route for a prefix, because an
// IPv4 address that is the first of its prefix takes the others with it when
// its lease ends. IPv6 addresses skip duplicate address detection, which would
// cost seconds at each takeover and leave the address unusable if the old
// holder still answered.
package vip

import (
	"net/netip"

	"sasyncd/carp/packet"
)

// Address is a virtual address on an interface.
type Address struct {
	IP    netip.Addr
	Index int        // of the interface
	MAC   packet.MAC // that neighbours shall learn
	// Virtual: MAC is that of the protocol, and the address lives on a macvlan
	// with it on top of the interface. See type Virtual.
	Virtual bool
	// Owner: if the interface has the address anyway, configured by the system, it stays
	// as it is (RFC 9568, the address owner).
	Owner bool
}
