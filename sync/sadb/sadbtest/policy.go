package sadbtest

import (
	"math/rand/v2"
	"net/netip"

	"sasyncd/sync/sadb"
)

// Policy returns a plausible policy: tunnel between two addresses for a pair
// of networks of either family, with limits of none, marks and priorities.
func Policy(r *rand.Rand) *sadb.Policy {
	src, dst := Prefixes(r, coin(r))
	p := &sadb.Policy{Limits: unlimited(), Priority: 1000 + r.Uint32N(400000)}
	p.Key.Dir = pick(r, sadb.DirIn, sadb.DirOut, sadb.DirFwd)
	p.Key.Selector = sadb.SelectorOf(src, dst)
	if one(r, 4) {
		p.Key.Mark = sadb.Mark{Value: r.Uint32N(256), Mask: 0xff}
	}
	if one(r, 4) {
		p.Key.IfID = 1 + r.Uint32N(1000)
	}
	t := sadb.Template{
		Src: Addr4(r), Dst: Addr4(r), Family: sadb.FamilyIPv4, Proto: sadb.ProtoESP, Mode: sadb.ModeTunnel,
		Reqid: 1 + r.Uint32N(1<<14), AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0),
	}
	if coin(r) {
		t.Src, t.Dst, t.Family = Addr6(r), Addr6(r), sadb.FamilyIPv6
	}
	if one(r, 8) {
		comp := t
		comp.Proto, comp.Optional = sadb.ProtoComp, p.Key.Dir != sadb.DirOut
		p.Templates = append(p.Templates, comp)
		t.Mode, t.Src, t.Dst = sadb.ModeTransport, unspecified(t.Family), unspecified(t.Family)
	}
	p.Templates = append(p.Templates, t)
	p.Use.Age = r.Uint64N(100000)
	return p
}

func unspecified(f sadb.Family) netip.Addr {
	if f == sadb.FamilyIPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// AnyPolicy returns a policy with anything in any replicated field; local
// fields stay zero. Most would be refused by a kernel.
func AnyPolicy(r *rand.Rand) *sadb.Policy {
	p := &sadb.Policy{
		Key: sadb.PolicyKey{
			Dir: pick(r, sadb.DirIn, sadb.DirOut, sadb.DirFwd), Sub: coin(r), Selector: anySelector(r),
			IfID: uint32(small(r)), SecCtx: pick(r, "", string(Bytes(r, 20))),
		},
		Limits: anyLimits(r), Unknown: anyAttrs(r),
	}
	if coin(r) {
		p.Key.Mark = sadb.Mark{Value: r.Uint32(), Mask: r.Uint32()}
	}
	if coin(r) {
		p.Priority, p.Action = uint32(small(r)), sadb.ActionBlock
	}
	if coin(r) {
		p.Flags, p.Share = uint8(r.Uint32()), uint8(r.Uint32())
	}
	for range r.IntN(7) {
		p.Templates = append(p.Templates, sadb.Template{
			Dst: pick(r, netip.Addr{}, Addr4(r), Addr6(r)), Src: pick(r, netip.Addr{}, Addr4(r), Addr6(r)),
			SPI: uint32(small(r)), Proto: uint8(r.Uint32()), Family: pick(r, sadb.FamilyAny, sadb.FamilyIPv4,
				sadb.FamilyIPv6),
			Reqid: uint32(small(r)), Mode: sadb.Mode(r.Uint32N(7)), Share: uint8(r.Uint32()), Optional: coin(r),
			AuthAlgs: r.Uint32(), EncAlgs: r.Uint32(), CompAl: r.Uint32(),
		})
	}
	for _, v := range []*uint64{&p.Use.Bytes, &p.Use.Packets, &p.Use.Age} {
		if coin(r) {
			*v = small(r)
		}
	}
	if p.Use.Used = coin(r); p.Use.Used {
		p.Use.UseAge = small(r)
	}
	return p
}
