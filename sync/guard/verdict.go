package guard

import (
	"net/netip"
	"slices"
)

// Packet is what a packet filter sees of a packet that has no SA.
type Packet struct {
	Src, Dst netip.Addr // of one family
	Proto    uint8
	// SrcPort and DstPort are type and code of ICMP and ICMPv6. Other protocols without
	// ports leave them unused.
	SrcPort, DstPort uint16
	Mark             uint32
	// Later is a fragment other than the first, which has no transport header.
	Later bool
	// Unmarked is a packet whose mark nobody knows.
	Unmarked bool
}

// DropsError reports whether the program drops an ICMP error that has no SA. An error that
// no layer has is judged by the packet that it quotes, as what answers that one would be.
func (p Program) DropsError(e, quoted Packet) bool {
	if require, found := p.decides(e); found {
		return require
	}
	require, _ := p.decides(Packet{Src: quoted.Dst, Dst: quoted.Src, Proto: quoted.Proto, Later: true, Unmarked: true})
	return require
}

// Drops reports whether the program drops a packet that has no SA: whether the first layer
// that has it requires IPsec. It is the model of what a packet filter does.
//
// What cannot be compared counts on the safe side. A class that compares ports or types
// has a later fragment where it requires and the rest of a key is the packet's. It has
// none where it passes. So it is with marks of an unmarked packet. A class that compares
// ports has no packet of a protocol without them, even as a fragment.
func (p Program) Drops(pk Packet) bool {
	require, _ := p.decides(pk)
	return require
}

// decides returns the verdict of the first layer that has a packet.
func (p Program) decides(pk Packet) (require, found bool) {
	for _, l := range p.Layers {
		if slices.ContainsFunc(l.Classes, func(c Class) bool { return c.has(pk, l.Require) }) {
			return l.Require, true
		}
	}
	return false, false
}

func (c Class) has(pk Packet, require bool) bool {
	k, ok := c.Shape.keyOf(pk)
	noPorts := pk.Later && c.Shape.Ports != NoPorts
	noMark := pk.Unmarked && c.Shape.MarkMask != 0
	switch {
	case !ok:
		return false
	case !noPorts && !noMark:
		_, ok = slices.BinarySearchFunc(c.Keys, k, compareKeys)
		return ok
	case !require:
		return false
	}
	return slices.ContainsFunc(c.Keys, func(o Key) bool {
		if noPorts {
			o.SrcPort, o.DstPort = 0, 0
		}
		if noMark {
			o.Mark = 0
		}
		return o == k
	})
}

// keyOf returns what the shape leaves of a packet, and false where the packet does not
// have what the shape compares. The key of a later fragment has no ports.
func (s Shape) keyOf(pk Packet) (k Key, ok bool) {
	if pk.Src.Is6() != s.IPv6 || pk.Dst.Is6() != s.IPv6 {
		return k, false
	}
	src, errSrc := pk.Src.Prefix(s.SrcBits)
	dst, errDst := pk.Dst.Prefix(s.DstBits)
	if errSrc != nil || errDst != nil {
		return k, false
	}
	k = Key{Src: src.Addr(), Dst: dst.Addr(), Mark: pk.Mark & s.MarkMask}
	if s.Proto {
		k.Proto = pk.Proto
	}
	if !pk.Later {
		k.SrcPort, k.DstPort = pk.SrcPort&s.SrcPortMask, pk.DstPort&s.DstPortMask
	}
	switch s.Ports {
	case TransportPorts:
		return k, headerOf(s.IPv6, pk.Proto) == transportHeader
	case ICMPTypes:
		return k, headerOf(s.IPv6, pk.Proto) == typesHeader
	case NoPorts:
	}
	return k, true
}
