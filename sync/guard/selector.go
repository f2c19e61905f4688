package guard

import (
	"cmp"
	"net/netip"
	"slices"
)

// IP protocols whose headers a policy lookup reads.
const (
	protoICMP    uint8 = 1
	protoTCP     uint8 = 6
	protoUDP     uint8 = 17
	protoGRE     uint8 = 47
	protoICMPv6  uint8 = 58
	protoSCTP    uint8 = 132
	protoMH      uint8 = 135
	protoUDPLite uint8 = 136
)

// header says what a policy lookup takes for the ports of a packet.
type header uint8

const (
	bareHeader      header = iota // nothing: both ports are 0
	transportHeader               // the ports
	typesHeader                   // type and code of ICMP or ICMPv6
	keyedHeader                   // what a packet filter does not compare: GRE key, type of MH
)

// headerOf follows xfrm_flowi_sport and the decoders of flows of the kernel. DCCP is bare
// there.
func headerOf(ipv6 bool, proto uint8) header {
	switch proto {
	case protoTCP, protoUDP, protoSCTP, protoUDPLite:
		return transportHeader
	case protoICMP:
		if !ipv6 {
			return typesHeader
		}
	case protoICMPv6:
		if ipv6 {
			return typesHeader
		}
	case protoGRE:
		return keyedHeader
	case protoMH:
		if ipv6 {
			return keyedHeader
		}
	}
	return bareHeader
}

// inOrder returns a copy of rules with the one that decides first in front.
func inOrder(rules []Rule) []Rule {
	out := slices.Clone(rules)
	slices.SortStableFunc(out, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

func (s Selector) ipv6() bool { return s.Src.Addr().Is6() }

// ports reports whether the selector compares ports.
func (s Selector) ports() bool { return s.SrcPortMask|s.DstPortMask != 0 }

// plain reports whether the selector compares addresses alone.
func (s Selector) plain() bool { return s.Proto == 0 && !s.ports() && s.MarkMask == 0 }

// overlaps reports whether a packet can match both selectors. It may say so of two with
// ports that no protocol has.
func (s Selector) overlaps(o Selector) bool {
	return s.Dst.Overlaps(o.Dst) && s.Src.Overlaps(o.Src) &&
		(s.Proto == o.Proto || s.Proto == 0 || o.Proto == 0) &&
		(s.SrcPort^o.SrcPort)&s.SrcPortMask&o.SrcPortMask == 0 &&
		(s.DstPort^o.DstPort)&s.DstPortMask&o.DstPortMask == 0 &&
		(s.Mark^o.Mark)&s.MarkMask&o.MarkMask == 0
}

// covers reports whether p has every address of o.
func covers(p, o netip.Prefix) bool { return p.Bits() <= o.Bits() && p.Contains(o.Addr()) }
