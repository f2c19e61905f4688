package leakguard

import (
	"encoding/binary"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"sasyncd/sync/guard"
)

// field is a part of the key of a set: what a packet has there, and what a key has.
type field struct {
	kind nftables.SetDatatype
	mask []byte // as long as what is loaded
	load func(to uint32) expr.Any
	of   func(k guard.Key) []byte
}

// compared leaves out the fields of which the mask leaves nothing.
func compared(fields ...field) []field {
	return slices.DeleteFunc(slices.Clone(fields), func(f field) bool {
		return !slices.ContainsFunc(f.mask, func(b byte) bool { return b != 0 })
	})
}

// addressOffsets are where the header of a family has its addresses.
func addressOffsets(ipv6 bool) (src, dst uint32) {
	if ipv6 {
		return 8, 24
	}
	return 12, 16
}

// addresses are the fields that every packet of a family has.
func addresses(s guard.Shape) []field {
	kind, size := nftables.TypeIPAddr, 4
	if s.IPv6 {
		kind, size = nftables.TypeIP6Addr, 16
	}
	at := func(offset uint32) func(to uint32) expr.Any {
		return func(to uint32) expr.Any { return network(offset, uint32(size), to) }
	}
	src, dst := addressOffsets(s.IPv6)
	// Destination first: where many selectors have one source, few packets then reach a
	// longer comparison.
	return []field{
		{kind, net.CIDRMask(s.DstBits, 8*size), at(dst), func(k guard.Key) []byte { return k.Dst.AsSlice() }},
		{kind, net.CIDRMask(s.SrcBits, 8*size), at(src), func(k guard.Key) []byte { return k.Src.AsSlice() }},
	}
}

func protocolField(s guard.Shape) field {
	f := field{nftables.TypeInetProto, []byte{0}, func(to uint32) expr.Any { return meta(expr.MetaKeyL4PROTO, to) },
		func(k guard.Key) []byte { return []byte{k.Proto} }}
	if s.Proto {
		f.mask[0] = 0xff
	}
	return f
}

// markField is in the byte order of this machine, as the kernel has marks.
func markField(s guard.Shape) field {
	return field{nftables.TypeMark, native.AppendUint32(nil, s.MarkMask),
		func(to uint32) expr.Any { return meta(expr.MetaKeyMARK, to) },
		func(k guard.Key) []byte { return native.AppendUint32(nil, k.Mark) }}
}

// portFields are those of the transport header. No fragment but the first has them.
func portFields(s guard.Shape) []field {
	if s.Ports == guard.ICMPTypes {
		kind, code := nftables.TypeICMPType, nftables.TypeICMPCode
		if s.IPv6 {
			kind, code = nftables.TypeICMP6Type, nftables.TypeICMPV6Code
		}
		at := func(offset uint32) func(to uint32) expr.Any {
			return func(to uint32) expr.Any { return transport(offset, 1, to) }
		}
		return []field{
			{kind, []byte{byte(s.SrcPortMask)}, at(0), func(k guard.Key) []byte { return []byte{byte(k.SrcPort)} }},
			{code, []byte{byte(s.DstPortMask)}, at(1), func(k guard.Key) []byte { return []byte{byte(k.DstPort)} }},
		}
	}
	port := func(offset uint32, mask uint16, of func(k guard.Key) uint16) field {
		return field{nftables.TypeInetService, binary.BigEndian.AppendUint16(nil, mask),
			func(to uint32) expr.Any { return transport(offset, 2, to) },
			func(k guard.Key) []byte { return binary.BigEndian.AppendUint16(nil, of(k)) }}
	}
	return []field{port(0, s.SrcPortMask, func(k guard.Key) uint16 { return k.SrcPort }),
		port(2, s.DstPortMask, func(k guard.Key) uint16 { return k.DstPort })}
}

// keyOf writes a key as the fields are loaded, each part of several padded to a register.
func keyOf(fields []field, k guard.Key) (b []byte) {
	for _, f := range fields {
		for i, v := range f.of(k) {
			b = append(b, v&f.mask[i])
		}
		for len(fields) > 1 && len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// kindOf is the type of a set of the fields, of which there are at most five.
func kindOf(fields []field) (nftables.SetDatatype, error) {
	if len(fields) == 1 {
		return fields[0].kind, nil
	}
	kinds := make([]nftables.SetDatatype, len(fields))
	for i, f := range fields {
		kinds[i] = f.kind
	}
	return nftables.ConcatSetType(kinds...)
}

// lookUp matches packets whose fields are in a set.
func lookUp(fields []field, set string) (m matches) {
	at := uint32(reg)
	for _, f := range fields {
		m = append(m, f.load(at))
		if slices.ContainsFunc(f.mask, func(b byte) bool { return b != 0xff }) {
			m = append(m, and(at, f.mask...))
		}
		at += uint32(len(f.mask)+3) / 4
	}
	return append(m, among(set))
}
