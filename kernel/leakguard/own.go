package leakguard

import (
	"fmt"
	"net/netip"
	"slices"

	"sasyncd/sync/guard"
)

// Own is traffic of the gateway itself that passes without an SA.
type Own struct {
	// IKEPorts are UDP source ports of IKE beside 500 and 4500.
	IKEPorts []uint16
	// Pass are networks between which everything passes, whatever the program says: those
	// of the gateway's own addresses and the hosts that must reach it.
	Pass []Pair
	// NoEarly leaves out the chain that keeps packets without an SA from flowtables. It is
	// for gateways with net.core.xfrm_larval_drop=0, whose packets wait for their SA and
	// have none yet in the forward hook.
	NoEarly bool
}

// Pair is a source and a destination of one family. The zero value of one of them is any.
type Pair struct{ Src, Dst netip.Prefix }

// ports lists the source ports of IKE, ascending, without duplicates.
func (o Own) ports() []uint16 {
	list := append([]uint16{500, 4500}, o.IKEPorts...)
	slices.Sort(list)
	return slices.Compact(list)
}

// layer makes a layer of the pairs.
func (o Own) layer() (guard.Layer, error) {
	var l guard.Layer
	for _, p := range o.Pass {
		src, dst, err := p.whole()
		if err != nil {
			return l, err
		}
		shape := guard.Shape{IPv6: src.Addr().Is6(), SrcBits: src.Bits(), DstBits: dst.Bits()}
		i := slices.IndexFunc(l.Classes, func(c guard.Class) bool { return c.Shape == shape })
		if i < 0 {
			i = len(l.Classes)
			l.Classes = append(l.Classes, guard.Class{Shape: shape})
		}
		l.Classes[i].Keys = append(l.Classes[i].Keys, guard.Key{Src: src.Addr(), Dst: dst.Addr()})
	}
	return l, nil
}

// whole returns the pair masked, with any source or destination written out.
func (p Pair) whole() (src, dst netip.Prefix, err error) {
	src, dst = p.Src.Masked(), p.Dst.Masked()
	switch {
	case !src.IsValid() && !dst.IsValid():
		return src, dst, fmt.Errorf("a pair of networks to pass has neither source nor destination")
	case !src.IsValid():
		src = anyOf(dst)
	case !dst.IsValid():
		dst = anyOf(src)
	}
	if src.Addr().Is6() != dst.Addr().Is6() {
		return src, dst, fmt.Errorf("a pair of networks to pass, %s and %s, is of two families", src, dst)
	}
	return src, dst, nil
}

func anyOf(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
