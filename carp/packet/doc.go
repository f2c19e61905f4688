// Package packet encodes and decodes what election daemons say to each other
// and to their neighbours: CARP version 2, VRRP versions 2 and 3, the
// authentication trailer of draft-cassen-vrrp-auth-hmac, the Ethernet and IP
// headers around them, gratuitous ARP and unsolicited neighbour advertisements.
//
// The codecs are pure: bytes in, values out, no clock and no socket. Decoding
// borrows from its input and reuses the destination's slices, so that a
// receiver with a buffer of its own decodes without allocating; the errors are
// fixed values for the same reason. Encoding appends to a slice of the caller.
//
// Sources: RFC 9568 with its verified errata (VRRPv3), RFC 3768 (VRRPv2),
// OpenBSD's ip_carp(4) as described by its manual and header (CARP), RFC 826
// and RFC 5227 (ARP), RFC 4861 (neighbour discovery).
package packet

import "net/netip"

// Protocol is the IP protocol number that CARP and VRRP share.
const Protocol = 112

// TTL is the time to live (hop limit) of every multicast advertisement. A
// receiver discards multicast advertisements with any other value, which keeps
// senders beyond a router out (RFC 9568 5.1.1.3).
const TTL = 255

// Group4 is the multicast group of CARP and VRRP over IPv4.
func Group4() netip.Addr { return netip.AddrFrom4([4]byte{224, 0, 0, 18}) }

// Group6 is the multicast group of CARP and VRRP over IPv6.
func Group6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
}

// Kind tells apart the messages that share protocol number 112.
type Kind uint8

// The kinds of message.
const (
	KindUnknown Kind = iota
	KindCARP
	KindVRRP2
	KindVRRP3
)

// KindOf looks at the payload of an IP packet of protocol 112. CARP and VRRPv2
// begin with the same byte; CARP has its fixed authentication length 7 where
// VRRPv2 counts addresses, and a VRRPv2 message of 7 addresses is 44 bytes
// long where CARP is 36, or 64 with a trailer.
func KindOf(payload []byte) Kind {
	if len(payload) < 8 {
		return KindUnknown
	}
	switch payload[0] {
	case 0x21:
		if payload[3] == carpAuthLen && (len(payload) == carpLen || len(payload) == carpLen+TrailerLen) {
			return KindCARP
		}
		return KindVRRP2
	case 0x31:
		return KindVRRP3
	}
	return KindUnknown
}
