package xfrm

import (
	"fmt"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// sa decodes the payload of NEWSA or UPDSA. now is the wall clock in Unix
// seconds.
func (d *decoder) sa(b []byte, now int64) (*sadb.SA, error) {
	if len(b) < sizeSA {
		return nil, errShort("sa", len(b), sizeSA)
	}
	s, err := d.saHead(b, now)
	if err != nil {
		return nil, err
	}
	d.saAttrs(s, b[sizeSA:])
	return &s.SA, nil
}

// deletedSA decodes the payload of DELSA: the identity, then the whole SA as
// an attribute.
func (d *decoder) deletedSA(b []byte, now int64) (*sadb.SA, error) {
	if len(b) < sizeSAID {
		return nil, errShort("deleted sa", len(b), sizeSAID)
	}
	for rest := netlink.Attrs(b[sizeSAID:]); ; {
		typ, data, ok := rest.Next()
		if !ok {
			break
		}
		if typ == attrSA && len(data) >= sizeSA {
			s, err := d.saHead(data, now)
			if err != nil {
				return nil, err
			}
			d.saAttrs(s, b[sizeSAID:])
			return &s.SA, nil
		}
	}
	key, err := saKey(b)
	if err != nil {
		return nil, err
	}
	for rest := netlink.Attrs(b[sizeSAID:]); ; {
		typ, data, ok := rest.Next()
		if !ok {
			return &sadb.SA{Key: key}, nil
		}
		if typ == attrMark {
			key.Mark, _ = mark(data)
		}
	}
}

// expiredSA decodes the payload of EXPIRE.
func (d *decoder) expiredSA(b []byte, now int64) (sa *sadb.SA, hard bool, err error) {
	if len(b) < sizeExpire {
		return nil, false, errShort("expired sa", len(b), sizeExpire)
	}
	s, err := d.saHead(b, now)
	if err != nil {
		return nil, false, err
	}
	d.saAttrs(s, b[sizeExpire:])
	return &s.SA, b[sizeSA] != 0, nil
}

// mapping decodes the payload of MAPPING. The message carries no mark. Of a new
// IPv4 address the kernel fills in no more than its four bytes; the others are
// whatever its stack held (net/ipv4/esp4.c, esp_input_done2).
func (d *decoder) mapping(b []byte) (*sadb.SA, *sadb.Encap, error) {
	if len(b) < sizeMapping {
		return nil, nil, errShort("mapping", len(b), sizeMapping)
	}
	key, err := saKey(b)
	if err != nil {
		return nil, nil, err
	}
	// Behind an IPv4 address the kernel leaves whatever was on its stack
	// (esp_input_done2 sets a4 only).
	src, _ := sadb.Bytes16(b[44:60]).Addr(key.Family())
	sa := &sadb.SA{Key: key, Reqid: native.Uint32(b[24:]), Src: src}
	return sa, &sadb.Encap{SrcPort: network.Uint16(b[62:])}, nil
}

// saKey decodes struct xfrm_usersa_id.
func saKey(b []byte) (sadb.SAKey, error) {
	f := sadb.Family(native.Uint16(b[20:]))
	dst, ok := sadb.Bytes16(b[:16]).Addr(f)
	if !ok {
		return sadb.SAKey{}, fmt.Errorf("decode sa identity: address family %d, want 2 or 10", f)
	}
	return sadb.SAKey{Dst: dst, SPI: network.Uint32(b[16:]), Proto: b[22]}, nil
}

// saHead decodes struct xfrm_usersa_info.
func (d *decoder) saHead(b []byte, now int64) (*sadb.Block, error) {
	f := sadb.Family(native.Uint16(b[saFamily:]))
	dst, ok := sadb.Bytes16(b[saID : saID+16]).Addr(f)
	if !ok {
		return nil, fmt.Errorf("decode sa: address family %d, want 2 or 10", f)
	}
	src, _ := sadb.Bytes16(b[saSrc : saSrc+16]).Addr(f)
	u := use(b[saCurrent:], now)
	s := new(sadb.Block)
	sa := &s.SA // field by field: a literal would be built elsewhere and copied
	sa.Key.Dst, sa.Key.SPI, sa.Key.Proto = dst, network.Uint32(b[saSPI:]), b[saProto]
	sa.Src = src
	d.selector(&sa.Selector, b)
	sa.Mode = sadb.Mode(b[saMode])
	sa.Reqid = native.Uint32(b[saReqid:])
	sa.Flags = b[saFlags]
	sa.Window = uint32(b[saWindow])
	limits(&sa.Limits, b[saLimits:])
	sa.Bytes, sa.Packets = u.Bytes, u.Packets
	sa.Age, sa.Used, sa.UseAge = u.Age, u.Used, u.UseAge
	sa.Tag = native.Uint32(b[saSeq:])
	return s, nil
}

// saAttrs decodes the attributes of an SA. One that is known but malformed is
// kept like an unknown one: a dump must not fail over a single SA.
func (d *decoder) saAttrs(s *sadb.Block, rest netlink.Attrs) {
	sa := &s.SA
	var told attrSet
	for {
		typ, data, ok := rest.Next()
		if !ok {
			break
		}
		good := true
		switch typ {
		case attrPad, attrLastUsed, attrSA, attrLifetime:
		case attrAuth:
			// The kernel dumps authentication in both forms; the one with
			// the truncation follows and is complete.
			if sa.Auth == nil {
				good = d.setAlgorithm(s, &sa.Auth, data, false)
			}
		case attrAuthTrunc:
			good = d.setAlgorithm(s, &sa.Auth, data, true)
		case attrCrypt:
			good = d.setAlgorithm(s, &sa.Crypt, data, false)
		case attrAEAD:
			good = d.setAlgorithm(s, &sa.AEAD, data, true)
		case attrComp:
			good = d.setAlgorithm(s, &sa.Comp, data, false)
		case attrEncap:
			if good = len(data) >= sizeEncap; good {
				sa.Encap = &sadb.Encap{
					Type:    native.Uint16(data),
					SrcPort: network.Uint16(data[2:]), DstPort: network.Uint16(data[4:]),
					OA: addr16(data[8:24], sa.Key.Family()),
				}
			}
		case attrMark:
			sa.Key.Mark, good = mark(data)
		case attrSetMark:
			good = setOutputMark(sa, data, false)
		case attrSetMarkMask:
			good = setOutputMark(sa, data, true)
		case attrIfID:
			sa.IfID, good = netlink.Uint32(data)
		case attrTFCPad:
			sa.TFCPad, good = netlink.Uint32(data)
		case attrExtraFlags:
			sa.Extra, good = netlink.Uint32(data)
		case attrMappingTimer:
			sa.MappingTimer, good = netlink.Uint32(data)
		case attrKeepalive:
			sa.Keepalive, good = netlink.Uint32(data)
		case attrPCPU:
			if v, ok := netlink.Uint32(data); ok {
				sa.PCPU = &v
			} else {
				good = false
			}
		case attrDirection:
			if good = len(data) >= 1 && (data[0] == 1 || data[0] == 2); good {
				sa.KernelDir = sadb.Direction(data[0])
			}
		case attrOffload:
			sa.Offloaded = true
		case attrReplay:
			if good = len(data) >= sizeReplay; good {
				sa.OSeq, sa.Seq = uint64(native.Uint32(data)), uint64(native.Uint32(data[4:]))
				sa.Bitmap = s.Words(1)
				sa.Bitmap[0] = native.Uint32(data[8:])
			}
		case attrReplayESN:
			good = replayESN(s, data)
		default:
			good = false
		}
		if good {
			told.add(typ)
		} else {
			sa.Unknown = unknown(sa.Unknown, typ, data)
		}
	}
	// One value may come as two attributes, and is written as both.
	if sa.Auth != nil {
		told.add(attrAuth)
		told.add(attrAuthTrunc)
	}
	if sa.OutputMark != nil {
		told.add(attrSetMark)
		told.add(attrSetMarkMask)
	}
	if ringWindow(sa) { // one of these is always written
		told.add(attrReplayESN)
	} else {
		told.add(attrReplay)
	}
	sa.Unknown = told.drop(sa.Unknown)
}

func (d *decoder) setAlgorithm(s *sadb.Block, into **sadb.Algorithm, data []byte, trunc bool) bool {
	a := *into
	if a == nil {
		a = s.Algorithm()
	}
	if !d.algorithm(a, data, trunc) {
		return false
	}
	*into = a
	return true
}

func setOutputMark(sa *sadb.SA, data []byte, mask bool) bool {
	v, ok := netlink.Uint32(data)
	if !ok {
		return false
	}
	if sa.OutputMark == nil {
		sa.OutputMark = &sadb.Mark{Mask: ^uint32(0)}
	}
	if mask {
		sa.OutputMark.Mask = v
	} else {
		sa.OutputMark.Value = v
	}
	return true
}

// replayESN decodes struct xfrm_replay_state_esn.
func replayESN(s *sadb.Block, b []byte) bool {
	n, ok := esnWords(b)
	if !ok {
		return false
	}
	sa := &s.SA
	if n == 0 && !sa.ESN() {
		// In the tables this would look like the legacy window, for which the kernel wants
		// the other attribute. It is kept as unknown, so that such an SA is refused.
		return false
	}
	sa.OSeq, sa.Seq = esnCounters(b)
	sa.Window, sa.BitmapLen = native.Uint32(b[20:]), uint32(n)
	sa.Bitmap = s.Words(n)
	for i := range sa.Bitmap {
		sa.Bitmap[i] = native.Uint32(b[sizeReplayESN+4*i:])
	}
	return true
}

// esnWords returns the length of the bitmap of struct xfrm_replay_state_esn; ok
// is false when that is not all there.
func esnWords(b []byte) (n int, ok bool) {
	if len(b) < sizeReplayESN {
		return 0, false
	}
	words := native.Uint32(b)
	return int(words), words <= maxESNBits/32 && len(b) >= sizeReplayESN+4*int(words)
}

// esnCounters returns both counters, high words included.
func esnCounters(b []byte) (oseq, seq uint64) {
	return uint64(native.Uint32(b[12:]))<<32 | uint64(native.Uint32(b[4:])),
		uint64(native.Uint32(b[16:]))<<32 | uint64(native.Uint32(b[8:]))
}
