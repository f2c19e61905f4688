package xfrm

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// encoder turns sadb types into payloads of XFRM messages. It is pure but for
// what its index function does.
type encoder struct {
	// ifindex returns the index of a named interface.
	ifindex func(name string) (uint32, error)
}

// selector writes struct xfrm_selector into b. gone allows the name that a
// vanished interface was decoded to: right for a delete on this node, wrong for
// anything to install.
func (e *encoder) selector(b []byte, s *sadb.Selector, gone bool) error {
	copy(b[0:16], s.Dst[:])
	copy(b[16:32], s.Src[:])
	network.PutUint16(b[32:], s.DstPort)
	network.PutUint16(b[34:], s.DstPortMask)
	network.PutUint16(b[36:], s.SrcPort)
	network.PutUint16(b[38:], s.SrcPortMask)
	native.PutUint16(b[40:], uint16(s.Family))
	b[42], b[43], b[44] = s.DstLen, s.SrcLen, s.Proto
	native.PutUint32(b[52:], s.User)
	if s.Interface == "" {
		return nil
	}
	index, err := e.index(s.Interface, gone)
	if err != nil {
		return fmt.Errorf("encode selector: interface %q: %w", s.Interface, err)
	}
	native.PutUint32(b[48:], index)
	return nil
}

func (e *encoder) index(name string, gone bool) (uint32, error) {
	if num, ok := strings.CutPrefix(name, goneInterface); ok && gone {
		v, err := strconv.ParseUint(num, 10, 31)
		return uint32(v), err
	}
	return e.ifindex(name)
}

func putAddr(b []byte, a netip.Addr) {
	raw := sadb.Raw(a)
	copy(b[:16], raw[:])
}

func putLimits(b []byte, l *sadb.Limits) {
	for i, v := range [...]uint64{l.SoftBytes, l.HardBytes, l.SoftPackets, l.HardPackets, l.SoftAdd, l.HardAdd,
		l.SoftUse, l.HardUse} {
		native.PutUint64(b[8*i:], v)
	}
}

// appendLifetime appends XFRMA_LTIME_VAL, which sets what the SA has used so
// far; struct xfrm_lifetime_cur in the SA itself is ignored on write.
func appendLifetime(b []byte, sa *sadb.SA, now int64) []byte {
	b, at := netlink.BeginAttr(b, attrLifetime)
	b, h := netlink.Zeros(b, sizeLifetime)
	native.PutUint64(h, sa.Bytes)
	native.PutUint64(h[8:], sa.Packets)
	native.PutUint64(h[16:], date(sa.Age, now))
	if sa.Used {
		native.PutUint64(h[24:], date(sa.UseAge, now))
	}
	return netlink.EndAttr(b, at)
}

// date returns the moment age seconds before now, at least 1: a date of 0
// means never.
func date(age uint64, now int64) uint64 {
	if now < 1 || age >= uint64(now) {
		return 1
	}
	return uint64(now) - age
}

func appendMark(b []byte, m sadb.Mark) []byte {
	if m.IsZero() {
		return b
	}
	b, at := netlink.BeginAttr(b, attrMark)
	return netlink.EndAttr(native.AppendUint32(native.AppendUint32(b, m.Value), m.Mask), at)
}

// appendUnknown appends attributes as they are. One that own says this package
// writes itself, or leaves out on purpose, is an error: a peer could otherwise put
// in what was never checked, hardware offload above all. The kernel does not look
// at the upper bits of a type (NLA_TYPE_MASK).
func appendUnknown(b []byte, list []sadb.Attr, own func(typ uint16) bool) ([]byte, error) {
	for _, a := range list {
		if typ := a.Type & netlink.TypeMask; own(typ) {
			return b, fmt.Errorf("attribute %d is given as an unknown one", typ)
		}
		b = netlink.AppendAttr(b, a.Type, a.Data)
	}
	return b, nil
}

// ownOfSA reports whether appendSA or saAttrs deals with a type of attribute.
func ownOfSA(typ uint16) bool {
	switch typ {
	case attrAuth, attrCrypt, attrComp, attrEncap, attrSA, attrLifetime, attrReplay, attrLastUsed, attrAEAD,
		attrAuthTrunc, attrMark, attrTFCPad,
		attrReplayESN, attrExtraFlags, attrPad, attrOffload, attrSetMark, attrSetMarkMask, attrIfID, attrMappingTimer,
		attrDirection, attrKeepalive,
		attrPCPU:
		return true
	}
	return false
}

// ownOfPolicy reports whether appendPolicy or policyAttrs deals with a type of
// attribute. A policy of a device's is not written.
func ownOfPolicy(typ uint16) bool {
	switch typ {
	case attrTemplates, attrPolicy, attrSecCtx, attrMark, attrIfID, attrPolicyType, attrPad, attrOffload:
		return true
	}
	return false
}
