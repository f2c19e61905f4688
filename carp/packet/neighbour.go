package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoICMP6        = 58
	icmpSolicitation  = 135
	icmpAdvertisement = 136
	optSourceLink     = 1
	optTargetLink     = 2

	naRouter   = 0x80
	naOverride = 0x20
)

// AppendGratuitousARP appends a complete frame that announces ip at mac. It is
// an ARP request for the own address, because Linux neighbours take a request
// at once, while they ignore a reply to the broadcast address for a second.
func AppendGratuitousARP(b []byte, mac MAC, ip netip.Addr) []byte {
	return AppendARPRequest(b, mac, ip, ip)
}

// AppendUnsolicitedNA appends a complete frame that announces ip at mac to all
// nodes (RFC 4861 7.2.6, RFC 9568 6.4.2): override set, solicited clear. A
// gateway sets router, otherwise hosts drop it from their default routers.
func AppendUnsolicitedNA(b []byte, mac MAC, ip netip.Addr, router bool) []byte {
	const length = 32
	f := Frame{
		Src: mac, SrcIP: ip, DstIP: netip.IPv6LinkLocalAllNodes(),
		TTL: TTL, Proto: protoICMP6,
	}
	f.Dst = GroupMAC(f.DstIP)
	b, err := f.AppendHeader(b, length)
	if err != nil {
		// Only an IPv4 address gets here, and that is announced by ARP.
		return b
	}
	at := len(b)
	flags := byte(naOverride)
	if router {
		flags |= naRouter
	}
	target := ip.As16()
	b = append(b, icmpAdvertisement, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	b = append(b, optTargetLink, 1)
	b = append(b, mac[:]...)
	putChecksum(b[at:], 2, sum(pseudo(f.SrcIP, f.DstIP, protoICMP6, length), b[at:]))
	return b
}

// AppendARPRequest appends a complete frame in which the machine with mac and the
// address from asks who has ip (RFC 826).
func AppendARPRequest(b []byte, mac MAC, from, ip netip.Addr) []byte {
	all, source, target := Broadcast(), from.As4(), ip.As4()
	b = append(b, all[:]...)
	b = append(b, mac[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	b = append(b, mac[:]...)
	b = append(b, source[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, target[:]...)
}

// AppendSolicitation appends a complete frame in which the machine with mac and the
// address from asks who has ip (RFC 4861 section 4.3).
func AppendSolicitation(b []byte, mac MAC, from, ip netip.Addr) []byte {
	const length = 32
	target := ip.As16()
	node := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]})
	f := Frame{Dst: GroupMAC(node), Src: mac, SrcIP: from, DstIP: node, TTL: TTL, Proto: protoICMP6}
	b, err := f.AppendHeader(b, length)
	if err != nil {
		// Only an IPv4 address gets here.
		return b
	}
	at := len(b)
	b = append(b, icmpSolicitation, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, target[:]...)
	b = append(b, optSourceLink, 1)
	b = append(b, mac[:]...)
	putChecksum(b[at:], 2, sum(pseudo(f.SrcIP, f.DstIP, protoICMP6, length), b[at:]))
	return b
}

// ParseClaim reads a frame of ARP, or a neighbour advertisement, as what it says of its
// sender: that ip is at mac. ok is false for anything else.
func ParseClaim(b []byte) (ip netip.Addr, mac MAC, ok bool) {
	const arpLen, naLen = ethLen + 28, ethLen + ip6Len + 24
	if len(b) < arpLen {
		return ip, mac, false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeARP:
		if [6]byte(b[ethLen:]) != [6]byte{0, 1, 8, 0, 6, 4} {
			return ip, mac, false
		}
		ip, mac = netip.AddrFrom4([4]byte(b[ethLen+14:])), MAC(b[ethLen+8:])
	case etherTypeIP6:
		if len(b) < naLen || b[ethLen+6] != protoICMP6 || b[ethLen+7] != TTL || b[ethLen+ip6Len] != icmpAdvertisement {
			return ip, mac, false // from beyond a router it means nothing (RFC 4861 section 7.1.2)
		}
		ip, mac = netip.AddrFrom16([16]byte(b[ethLen+ip6Len+8:])), MAC(b[6:])
		if o := b[naLen:]; len(o) >= 8 && o[0] == optTargetLink && o[1] == 1 {
			mac = MAC(o[2:])
		}
	default:
		return ip, mac, false
	}
	return ip, mac, !ip.IsUnspecified() && !mac.IsMulticast()
}
