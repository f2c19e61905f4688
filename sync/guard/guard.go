// Package guard decides what the leak guard of the kernel lets leave without IPsec.
//
// A policy of the kernel can vanish: an IKE daemon flushes the SPD as it starts, a policy
// expires, a machine boots. What the policy encrypted then leaves in plaintext. The guard
// is a wall behind the SPD. It holds the selectors of outbound policies that require
// IPsec, and drops a packet that matches one and has no SA.
//
// The package is pure. [Of] makes rules of policies, [Compile] makes sets that a packet
// filter looks up, [Routes] makes the routes of the second wall, and a [Book] remembers
// rules whose policies have gone. Functions of the package may be called at the same time
// but for methods of a Book, which has one user.
package guard

import "net/netip"

// Selector says which packets a rule is for, as that of struct xfrm_selector in
// include/uapi/linux/xfrm.h, with the mark of the policy.
type Selector struct {
	Src, Dst netip.Prefix // of one family, masked
	Proto    uint8        // 0: any
	// Ports in host byte order. A packet matches where its port and the mask give the
	// port. Both masks are 0 for any port. For ICMP and ICMPv6 the source port is the
	// type and the destination port the code, each in the low byte.
	SrcPort, SrcPortMask uint16
	DstPort, DstPortMask uint16
	Mark, MarkMask       uint32
}

// Rule is what the guard does with packets that match a selector.
type Rule struct {
	Selector
	// Priority is that of the policy: of the rules that match a packet, the one with the
	// lowest decides, and the first in the list among equal ones.
	Priority uint32
	// Require drops a packet that has no SA. Otherwise it passes.
	Require bool
	// NoRoute keeps Routes from a route for the rule: the route would also drop what IPsec
	// makes of a packet.
	NoRoute bool
}

// Program is rules in the order in which a packet filter asks them: the first layer that
// has a key for a packet decides.
type Program struct {
	Layers []Layer
}

// Layer is rules with one verdict whose order among each other does not matter.
type Layer struct {
	Require bool
	Classes []Class
}

// Class is selectors with equal masks. A packet matches one of them where what the shape
// leaves of its fields is among the keys, so a set needs no intervals.
type Class struct {
	Shape Shape
	Keys  []Key // ascending, without duplicates
}

// Ports says which fields of the transport header a class compares.
type Ports uint8

const (
	NoPorts        Ports = iota // none
	TransportPorts              // source and destination ports of TCP, UDP, SCTP, UDP-Lite
	ICMPTypes                   // type and code of ICMP or ICMPv6
)

// Shape is what selectors of a class have in common.
type Shape struct {
	IPv6             bool
	SrcBits, DstBits int  // prefix lengths
	Proto            bool // whether the protocol is compared
	Ports            Ports
	SrcPortMask      uint16 // 0 where Ports is NoPorts
	DstPortMask      uint16
	MarkMask         uint32
}

// Key is the masked fields of a packet. What the shape does not compare is zero.
type Key struct {
	Dst, Src         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
	Mark             uint32
}

// Route is one route of the second wall: packets from Src to Dst go to a device that
// drops them, unless a policy takes them first. A Route that passes is an exception: for
// it the other routes of the machine hold.
type Route struct {
	Src, Dst netip.Prefix
	Pass     bool
}
