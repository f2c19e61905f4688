package xfrm

import (
	"fmt"
	"math/bits"
	"slices"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// appendSA appends the payload of NEWSA or UPDSA. tag is written as km.Seq and
// now is the wall clock in Unix seconds. Attributes come in the order in which
// the kernel dumps them.
func (e *encoder) appendSA(b []byte, sa *sadb.SA, tag uint32, now int64) ([]byte, error) {
	if sa.Offloaded {
		return b, fmt.Errorf("encode %s: offloaded to hardware, want software only", sa.Key)
	}
	if sadb.FamilyOf(sa.Src) != sa.Key.Family() {
		return b, fmt.Errorf("encode %s: source %s is of another family", sa.Key, sa.Src)
	}
	start := len(b)
	b, h := netlink.Zeros(b, sizeSA)
	if err := e.selector(h, &sa.Selector, false); err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", sa.Key, err)
	}
	putAddr(h[saID:], sa.Key.Dst)
	network.PutUint32(h[saSPI:], sa.Key.SPI)
	h[saProto] = sa.Key.Proto
	putAddr(h[saSrc:], sa.Src)
	putLimits(h[saLimits:], &sa.Limits)
	native.PutUint32(h[saSeq:], tag)
	native.PutUint32(h[saReqid:], sa.Reqid)
	native.PutUint16(h[saFamily:], uint16(sa.Key.Family()))
	h[saMode], h[saFlags] = byte(sa.Mode), sa.Flags
	if !ringWindow(sa) {
		if sa.Window > 255 {
			return b[:start], fmt.Errorf("encode %s: window %d without a bitmap, want at most 32", sa.Key, sa.Window)
		}
		h[saWindow] = byte(sa.Window)
	}

	if sa.Extra != 0 {
		b = netlink.AppendAttr32(b, attrExtraFlags, sa.Extra)
	}
	b = appendAlgorithm(b, attrAEAD, sa.AEAD, true)
	b = appendAlgorithm(b, attrAuthTrunc, sa.Auth, true)
	b = appendAlgorithm(b, attrCrypt, sa.Crypt, false)
	b = appendAlgorithm(b, attrComp, sa.Comp, false)
	if sa.Encap != nil {
		b = appendEncap(b, sa.Encap)
	}
	if sa.TFCPad != 0 {
		b = netlink.AppendAttr32(b, attrTFCPad, sa.TFCPad)
	}
	b = appendMark(b, sa.Key.Mark)
	if m := sa.OutputMark; m != nil {
		b = netlink.AppendAttr32(b, attrSetMark, m.Value)
		b = netlink.AppendAttr32(b, attrSetMarkMask, m.Mask)
	}
	b, err := appendReplay(b, sa)
	if err != nil {
		return b[:start], err
	}
	if sa.IfID != 0 {
		b = netlink.AppendAttr32(b, attrIfID, sa.IfID)
	}
	if sa.MappingTimer != 0 {
		b = netlink.AppendAttr32(b, attrMappingTimer, sa.MappingTimer)
	}
	if sa.PCPU != nil {
		b = netlink.AppendAttr32(b, attrPCPU, *sa.PCPU)
	}
	if sa.KernelDir != sadb.DirUnknown {
		b = netlink.AppendAttr(b, attrDirection, []byte{byte(sa.KernelDir)})
	}
	if sa.Keepalive != 0 {
		b = netlink.AppendAttr32(b, attrKeepalive, sa.Keepalive)
	}
	if b, err = appendUnknown(b, sa.Unknown, ownOfSA); err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", sa.Key, err)
	}
	return appendLifetime(b, sa, now), nil
}

// appendSAID appends the payload of DELSA.
func appendSAID(b []byte, key sadb.SAKey) []byte {
	return appendMark(appendKey(b, key), key.Mark)
}

func appendKey(b []byte, key sadb.SAKey) []byte {
	b, h := netlink.Zeros(b, sizeSAID)
	putAddr(h, key.Dst)
	network.PutUint32(h[16:], key.SPI)
	native.PutUint16(h[20:], uint16(key.Family()))
	h[22] = key.Proto
	return b
}

// appendCounters appends the payload of NEWAE, which sets replay state and use
// of an existing SA. What to set is decided by which attributes are present;
// the flags of struct xfrm_aevent_id are ignored by the kernel.
func appendCounters(b []byte, sa *sadb.SA, now int64) ([]byte, error) {
	if slices.ContainsFunc(sa.Unknown, func(a sadb.Attr) bool { return a.Type == attrReplayESN }) {
		return b, fmt.Errorf("encode counters of %s: its replay state is of a kind that is not known", sa.Key)
	}
	start := len(b)
	b = appendKey(b, sa.Key)
	b, h := netlink.Zeros(b, sizeAEventID-sizeSAID)
	if sa.Src.IsValid() {
		putAddr(h, sa.Src)
	}
	native.PutUint32(h[20:], sa.Reqid)
	b = appendMark(b, sa.Key.Mark)
	b, err := appendReplay(b, sa)
	if err != nil {
		return b[:start], err
	}
	return appendLifetime(b, sa, now), nil
}

func appendAlgorithm(b []byte, typ uint16, a *sadb.Algorithm, trunc bool) []byte {
	if a == nil {
		return b
	}
	b, at := netlink.BeginAttr(b, typ)
	b, h := netlink.Zeros(b, sizeAlgName)
	copy(h[:sizeAlgName-1], a.Name)
	b = native.AppendUint32(b, uint32(a.Key.Len()*8))
	if trunc {
		b = native.AppendUint32(b, a.TruncBits)
	}
	return netlink.EndAttr(append(b, a.Key.Bytes()...), at)
}

func appendEncap(b []byte, n *sadb.Encap) []byte {
	b, at := netlink.BeginAttr(b, attrEncap)
	b, h := netlink.Zeros(b, sizeEncap)
	native.PutUint16(h, n.Type)
	network.PutUint16(h[2:], n.SrcPort)
	network.PutUint16(h[4:], n.DstPort)
	putAddr(h[8:], n.OA)
	return netlink.EndAttr(b, at)
}

// ringWindow reports whether the SA keeps its replay state in struct
// xfrm_replay_state_esn. An outbound ESN SA may have one without any bitmap
// (kernel 6.10 and later).
func ringWindow(sa *sadb.SA) bool { return sa.BitmapLen > 0 || sa.ESN() }

// appendReplay appends REPLAY_VAL or REPLAY_ESN_VAL. The kernel silently
// ignores the wrong one of the two on an existing SA.
func appendReplay(b []byte, sa *sadb.SA) ([]byte, error) {
	want := max(sa.BitmapLen, 1)
	if ringWindow(sa) {
		want = sa.BitmapLen
	} else if sa.OSeq>>32 != 0 || sa.Seq>>32 != 0 {
		return b, fmt.Errorf("encode %s: 64-bit sequence number without ESN", sa.Key)
	}
	if sa.BitmapLen > maxESNBits/32 {
		return b, fmt.Errorf("encode %s: bitmap of %d words, want at most %d", sa.Key, sa.BitmapLen, maxESNBits/32)
	}
	if sa.Bitmap != nil && uint32(len(sa.Bitmap)) != want {
		return b, fmt.Errorf("encode %s: bitmap has %d words, want %d", sa.Key, len(sa.Bitmap), want)
	}
	if !ringWindow(sa) {
		b, at := netlink.BeginAttr(b, attrReplay)
		b = native.AppendUint32(b, uint32(sa.OSeq))
		b = native.AppendUint32(b, uint32(sa.Seq))
		return netlink.EndAttr(native.AppendUint32(b, bitmapWord(sa, 0)), at), nil
	}
	b, at := netlink.BeginAttr(b, attrReplayESN)
	b = native.AppendUint32(b, sa.BitmapLen)
	b = native.AppendUint32(b, uint32(sa.OSeq))
	b = native.AppendUint32(b, uint32(sa.Seq))
	b = native.AppendUint32(b, uint32(sa.OSeq>>32))
	b = native.AppendUint32(b, uint32(sa.Seq>>32))
	b = native.AppendUint32(b, sa.Window)
	for i := range sa.BitmapLen {
		b = native.AppendUint32(b, bitmapWord(sa, i))
	}
	return netlink.EndAttr(b, at), nil
}

// bitmapWord returns word i of the SA's window. A nil bitmap means that it is
// not known which packets below Seq have been seen: all of them count as seen,
// so that none can be replayed. Both layouts use the lowest Window bits. An SA
// that has accepted nothing has seen nothing.
func bitmapWord(sa *sadb.SA, i uint32) uint32 {
	if sa.Bitmap != nil {
		return sa.Bitmap[i]
	}
	if sa.Seq == 0 || sa.Window <= 32*i {
		return 0
	}
	if n := sa.Window - 32*i; n < bits.UintSize && n < 32 {
		return 1<<n - 1
	}
	return ^uint32(0)
}
