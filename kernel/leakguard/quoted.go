package leakguard

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"

	"sasyncd/sync/guard"
)

const (
	// sizeICMP is the header of an error. The packet that it quotes begins behind it.
	sizeICMP = 8
	// maxQuoted is how many rules a class has for errors.
	maxQuoted = 256
)

// quote adds what a class has to do with the packet that an ICMP error quotes; protocols
// are those of a class with ports. The quoted packet went the other way, and the error
// goes to where it came from: so the class's destination is the error's, and its source
// the quoted destination. nft(8) does not load rules again that look up in a set what is
// quoted, so there is one for each source and protocol.
//
// A quoted packet has no mark any more: a class that compares marks has it where it
// requires, and has it not where it passes. So it is with a class of too many sources.
func (w *wall) quote(name string, require bool, s guard.Shape, keys []guard.Key, protocols ...uint8) error {
	if s.MarkMask != 0 && !require {
		return nil
	}
	groups := quotedGroups(s, keys)
	if len(groups) > maxQuoted {
		if !require {
			return nil
		}
		groups = []quotedGroup{{keys: keys}}
	}
	for i, g := range groups {
		dst, err := w.set(fmt.Sprintf("%s-quoted%d", name, i), compared(addresses(s)[0]), g.keys)
		if err != nil {
			return err
		}
		var when matches
		if g.src.IsValid() && s.SrcBits > 0 {
			when = quotedDestination(g.src, s.SrcBits)
		}
		if g.compares {
			protocols = []uint8{g.proto}
		}
		if protocols == nil {
			w.match(quotedChain(s.IPv6), require, family(s.IPv6), when, dst)
		}
		for _, p := range protocols {
			w.match(quotedChain(s.IPv6), require, family(s.IPv6), matches{quotedProtocol(s.IPv6, reg), equal(p)}, when, dst)
		}
	}
	return nil
}

// quotedGroup is keys with one source and, where the class compares protocols without
// ports, one protocol.
type quotedGroup struct {
	src      netip.Addr // not valid: any
	proto    uint8
	compares bool // the protocol
	keys     []guard.Key
}

func quotedGroups(s guard.Shape, keys []guard.Key) (list []quotedGroup) {
	sorted := slices.Clone(keys)
	compares := s.Proto && s.Ports == guard.NoPorts
	order := func(a, b guard.Key) int {
		if c := a.Src.Compare(b.Src); c != 0 || !compares {
			return c
		}
		return cmp.Compare(a.Proto, b.Proto)
	}
	slices.SortStableFunc(sorted, order)
	for i, k := range sorted {
		if i == 0 || order(sorted[i-1], k) != 0 {
			list = append(list, quotedGroup{src: k.Src, proto: k.Proto, compares: compares})
		}
		last := &list[len(list)-1]
		last.keys = append(last.keys, k)
	}
	return list
}

// quotedDestination matches quoted packets to a prefix.
func quotedDestination(a netip.Addr, bits int) matches {
	b := a.AsSlice()
	_, dst := addressOffsets(a.Is6())
	m := matches{transport(sizeICMP+dst, uint32(len(b)), reg)}
	if bits < a.BitLen() {
		m = append(m, and(reg, net.CIDRMask(bits, a.BitLen())...))
	}
	return append(m, equal(b...))
}

// quotedProtocol loads the protocol of the packet that an ICMP error quotes. Of IPv6 it
// is what the first header says comes next.
func quotedProtocol(ipv6 bool, to uint32) expr.Any {
	if ipv6 {
		return transport(sizeICMP+6, 1, to)
	}
	return transport(sizeICMP+9, 1, to)
}
