package sadb

import "net/netip"

// Family is an address family with the number Linux gives it.
type Family uint16

// Address families. FamilyAny (AF_UNSPEC) appears in selectors of transport
// mode SAs and of tunnels that carry both families.
const (
	FamilyAny  Family = 0
	FamilyIPv4 Family = 2
	FamilyIPv6 Family = 10
)

// FamilyOf returns the family of a. An IPv4-mapped IPv6 address is IPv6.
func FamilyOf(a netip.Addr) Family {
	switch {
	case a.Is4():
		return FamilyIPv4
	case a.IsValid():
		return FamilyIPv6
	}
	return FamilyAny
}

// Bytes16 is an address as the kernel stores it (xfrm_address_t): IPv4 in the
// first four bytes, the rest zero.
type Bytes16 [16]byte

// Raw returns a as the kernel stores it.
func Raw(a netip.Addr) (b Bytes16) {
	if a.Is4() {
		a4 := a.As4()
		copy(b[:], a4[:])
	} else if a.IsValid() {
		b = a.As16()
	}
	return b
}

// Addr interprets b as an address of family f; ok is false for FamilyAny.
func (b Bytes16) Addr(f Family) (a netip.Addr, ok bool) {
	switch f {
	case FamilyIPv4:
		return netip.AddrFrom4([4]byte(b[:4])), true
	case FamilyIPv6:
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}

// Selector says which packets an SA or a policy is for (struct xfrm_selector).
// It is comparable; two selectors are the same to the kernel when they are
// equal here on one machine. The interface is kept by name because its index
// means nothing on another machine.
type Selector struct {
	Family                                     Family
	Src, Dst                                   Bytes16
	SrcLen, DstLen                             uint8 // prefix lengths
	SrcPort, SrcPortMask, DstPort, DstPortMask uint16
	Proto                                      uint8 // 0: any
	Interface                                  string
	User                                       uint32
}

// SrcPrefix returns the source as a prefix; ok is false when the family is
// unspecified or the length does not fit it.
func (s Selector) SrcPrefix() (p netip.Prefix, ok bool) { return prefix(s.Src, s.Family, s.SrcLen) }

// DstPrefix returns the destination as a prefix, like SrcPrefix.
func (s Selector) DstPrefix() (p netip.Prefix, ok bool) { return prefix(s.Dst, s.Family, s.DstLen) }

func prefix(b Bytes16, f Family, bits uint8) (netip.Prefix, bool) {
	a, ok := b.Addr(f)
	if !ok || int(bits) > a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, int(bits)), true
}

// SelectorOf returns the selector for all traffic from src to dst, which must
// be of one family.
func SelectorOf(src, dst netip.Prefix) Selector {
	return Selector{
		Family: FamilyOf(src.Addr()),
		Src:    Raw(src.Addr()), SrcLen: uint8(src.Bits()),
		Dst: Raw(dst.Addr()), DstLen: uint8(dst.Bits()),
	}
}

// Mark is a packet mark and the mask under which it is compared.
type Mark struct{ Value, Mask uint32 }

// IsZero reports whether the mark is absent.
func (m Mark) IsZero() bool { return m == Mark{} }

// Attr is a netlink attribute that this version does not know. It is carried
// as it is between kernels of the same release and byte order, and refused
// otherwise, but for what [Attr.IPTFS] says.
type Attr struct {
	Type uint16
	Data []byte
}

// Types of the settings of [ModeIPTFS], include/uapi/linux/xfrm.h: 36 drop time (u32 µs) and
// 37 reorder window (u16 packets) of an inbound SA; 38 no fragments (a flag), 39 initial delay
// (u32 µs), 40 size of the queue (u32 bytes) and 41 size of packets (u32 bytes, 0 for the path
// MTU) of an outbound one.
const (
	attrIPTFSFirst = 36
	attrIPTFSLast  = 41
)

// IPTFS reports whether the attribute is a setting of ModeIPTFS: numbers of the machine's byte
// order, which mean the same to every release that knows them. A kernel that does not know
// them refuses the mode.
func (a Attr) IPTFS() bool { return a.Type >= attrIPTFSFirst && a.Type <= attrIPTFSLast }

// Limits are the lifetime limits of an SA or policy (struct
// xfrm_lifetime_cfg). NoLimit means none for bytes and packets, 0 means none
// for seconds.
type Limits struct {
	SoftBytes, HardBytes, SoftPackets, HardPackets uint64
	SoftAdd, HardAdd, SoftUse, HardUse             uint64 // seconds
}

// NoLimit is the kernel's XFRM_INF.
const NoLimit = ^uint64(0)

// WithoutSoft returns l without soft limits. A standby must not fire them: the
// IKE daemon of the master answers them, and promotion restores them.
func (l Limits) WithoutSoft() Limits {
	l.SoftBytes, l.SoftPackets, l.SoftAdd, l.SoftUse = NoLimit, NoLimit, 0, 0
	return l
}

// Use is how much of its lifetime an SA or policy has used (struct
// xfrm_lifetime_cur), in ages instead of dates.
type Use struct {
	Bytes, Packets uint64
	Age            uint64 // seconds since it was added
	Used           bool   // whether it was ever used
	UseAge         uint64 // seconds since first use, when Used
}
