package leakguard

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Constants of linux/netfilter/nf_tables.h that package unix lacks.
const (
	metaOutKind = 27 // NFT_META_OIFKIND
	routeIPsec  = 4  // NFT_RT_XFRM

	// reg is the first register of 4 bytes, NFT_REG32_00. A set takes consecutive ones.
	reg = 8
)

var native = binary.NativeEndian

// matches is a piece of a rule.
type matches []expr.Any

func meta(key expr.MetaKey, to uint32) expr.Any { return &expr.Meta{Key: key, Register: to} }

func network(offset, size, to uint32) expr.Any {
	return &expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size, DestRegister: to}
}

func transport(offset, size, to uint32) expr.Any {
	return &expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size, DestRegister: to}
}

func equal(v ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: v} }

func notZero(size int) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, size)}
}

func and(at uint32, mask ...byte) expr.Any {
	return &expr.Bitwise{SourceRegister: at, DestRegister: at, Len: uint32(len(mask)), Mask: mask,
		Xor: make([]byte, len(mask))}
}

func among(set string) expr.Any { return &expr.Lookup{SourceRegister: reg, SetName: set} }

func back() expr.Any { return &expr.Verdict{Kind: expr.VerdictReturn} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// drop counts a packet and drops it.
func drop() matches {
	return matches{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counterName},
		&expr.Verdict{Kind: expr.VerdictDrop}}
}

// family matches packets of one family. nft(8) needs it to print the header by its name.
func family(ipv6 bool) matches {
	proto := byte(unix.NFPROTO_IPV4)
	if ipv6 {
		proto = unix.NFPROTO_IPV6
	}
	return matches{meta(expr.MetaKeyNFPROTO, reg), equal(proto)}
}

func protocol(p uint8) matches { return matches{meta(expr.MetaKeyL4PROTO, reg), equal(p)} }

// encrypted matches what has an SA.
func encrypted() matches { return matches{&expr.Rt{Key: routeIPsec, Register: reg}, equal(1)} }

// text is a name as the kernel compares it, of an interface or of its kind.
func text(s string) []byte {
	return append([]byte(s), bytes.Repeat([]byte{0}, unix.IFNAMSIZ-len(s))...)
}

func leavesBy(name string) matches {
	return matches{meta(expr.MetaKeyOIFNAME, reg), equal(text(name)...)}
}

func leavesByKind(kind string) matches { return matches{meta(metaOutKind, reg), equal(text(kind)...)} }

// fromLocal matches a source that is an address of this node.
func fromLocal() matches {
	return matches{&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagSADDR: true},
		equal(native.AppendUint32(nil, unix.RTN_LOCAL)...)}
}

// multicast matches the destinations of a family that stay on the link or are routed to
// many.
func multicast(ipv6 bool) matches {
	if ipv6 {
		return append(family(true), network(24, 1, reg), equal(0xff))
	}
	return append(family(false), network(16, 4, reg), and(reg, 0xf0, 0, 0, 0), equal(0xe0, 0, 0, 0))
}

// laterFragment matches fragments other than the first, which have no transport header.
func laterFragment(ipv6 bool) matches {
	if ipv6 {
		return append(family(true),
			&expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
			and(reg, 0xff, 0xf8), notZero(2))
	}
	return append(family(false), network(6, 2, reg), and(reg, 0x1f, 0xff), notZero(2))
}

// icmpError matches the messages of a family that quote a packet, by types.
func icmpError(ipv6 bool) matches {
	types := setErrors
	if ipv6 {
		types = setErrors6
	}
	return slices.Concat(family(ipv6), protocol(protoICMP(ipv6)), matches{transport(0, 1, reg), among(types)})
}

// neighbourDiscovery matches it by types, which are in a set. No router passes on what
// has this hop limit.
func neighbourDiscovery(types string) matches {
	m := append(family(true), network(7, 1, reg), equal(255))
	return append(append(m, protocol(unix.IPPROTO_ICMPV6)...), transport(0, 1, reg), among(types))
}

// ike matches what this node sends from ports of IKE, which are in a set.
func ike(ports string) matches {
	return append(append(protocol(unix.IPPROTO_UDP), transport(0, 2, reg), among(ports)), fromLocal()...)
}
