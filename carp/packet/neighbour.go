package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoICMP6        = 58
	icmpAdvertisement = 136
	optTargetLink     = 2

	naRouter   = 0x80
	naOverride = 0x20
)

// AppendGratuitousARP appends a complete frame that announces ip at mac. It is
// an ARP request for the own address, because Linux neighbours take a request
// at once, while they ignore a reply to the broadcast address for a second.
func AppendGratuitousARP(b []byte, mac MAC, ip netip.Addr) []byte {
	all, addr := Broadcast(), ip.As4()
	b = append(b, all[:]...)
	b = append(b, mac[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	b = append(b, mac[:]...)
	b = append(b, addr[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, addr[:]...)
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
