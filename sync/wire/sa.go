package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sasyncd/sync/sadb"
)

// Fields of an SA record. 1 and 2 are its identity; below stateTypes is its
// configuration.
const (
	saID           tlv = 1
	saMark         tlv = 2
	saSrc          tlv = 3
	saSelector     tlv = 4
	saMode         tlv = 5
	saReqid        tlv = 6
	saFlags        tlv = 7
	saExtra        tlv = 8
	saAuth         tlv = 9
	saCrypt        tlv = 10
	saAEAD         tlv = 11
	saComp         tlv = 12
	saEncap        tlv = 13
	saOutputMark   tlv = 14
	saIfID         tlv = 15
	saTFCPad       tlv = 16
	saKernelDir    tlv = 17
	saPCPU         tlv = 18
	saMappingTimer tlv = 19
	saKeepalive    tlv = 20
	saWindow       tlv = 21
	saBitmapLen    tlv = 22
	saLimits       tlv = 23
	saUnknown      tlv = 24
	saDir          tlv = 64
	saCounters     tlv = 65
	saBitmap       tlv = 66
	saAges         tlv = 67
	maxBitmap          = 128 // XFRMA_REPLAY_ESN_MAX in words
	maxAlgorithm       = 63  // alg_name of struct xfrm_algo without its final zero
)

// AppendSA appends the record of an SA: everything but what is local to a
// machine (Tag, Offloaded). It allocates only to grow b. What it appends can be
// parsed when it is at most MaxRecord bytes long; messages check that.
func AppendSA(b []byte, s *sadb.SA) []byte {
	b = AppendSAConfig(b, s)
	b = appendU8(b, saDir, uint8(s.Dir))
	if s.OSeq|s.Seq|s.Bytes|s.Packets != 0 {
		var at int
		b, at = openTLV(b, saCounters)
		for _, v := range [...]uint64{s.OSeq, s.Seq, s.Bytes, s.Packets} {
			b = binary.AppendUvarint(b, v)
		}
		b = closeTLV(b, at)
	}
	if s.Bitmap != nil {
		var at int
		b, at = openTLV(b, saBitmap)
		for _, w := range s.Bitmap {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		b = closeTLV(b, at)
	}
	if s.Age != 0 || s.Used {
		var at int
		b, at = openTLV(b, saAges)
		b = appendAges(b, s.Age, s.Used, s.UseAge)
		b = closeTLV(b, at)
	}
	return b
}

// AppendSAKey appends the identity of an SA, which is also how its record
// begins.
func AppendSAKey(b []byte, k sadb.SAKey) []byte {
	b, at := openTLV(b, saID)
	b = binary.BigEndian.AppendUint32(b, k.SPI)
	b = append(b, k.Proto)
	b = appendAddrBytes(b, k.Dst)
	b = closeTLV(b, at)
	if !k.Mark.IsZero() {
		b = appendMark(b, saMark, k.Mark)
	}
	return b
}

// AppendSAConfig appends the part of an SA's record that is configuration and so
// part of its digest.
func AppendSAConfig(b []byte, s *sadb.SA) []byte {
	b = AppendSAKey(b, s.Key)
	b, at := openTLV(b, saSrc)
	b = closeTLV(appendAddrBytes(b, s.Src), at)
	b = appendSelector(b, saSelector, &s.Selector)
	b = appendU8(b, saMode, uint8(s.Mode))
	b = appendU32(b, saReqid, s.Reqid)
	b = appendU8(b, saFlags, s.Flags)
	b = appendU32(b, saExtra, s.Extra)
	b = appendAlgorithm(b, saAuth, s.Auth)
	b = appendAlgorithm(b, saCrypt, s.Crypt)
	b = appendAlgorithm(b, saAEAD, s.AEAD)
	b = appendAlgorithm(b, saComp, s.Comp)
	if e := s.Encap; e != nil {
		b, at = openTLV(b, saEncap)
		b = binary.BigEndian.AppendUint16(b, e.Type)
		b = binary.BigEndian.AppendUint16(b, e.SrcPort)
		b = binary.BigEndian.AppendUint16(b, e.DstPort)
		b = closeTLV(appendAddrBytes(b, e.OA), at)
	}
	if s.OutputMark != nil {
		b = appendMark(b, saOutputMark, *s.OutputMark)
	}
	b = appendU32(b, saIfID, s.IfID)
	b = appendU32(b, saTFCPad, s.TFCPad)
	b = appendU8(b, saKernelDir, uint8(s.KernelDir))
	if s.PCPU != nil {
		b = binary.BigEndian.AppendUint32(append(b, byte(saPCPU), 0, 4), *s.PCPU)
	}
	b = appendU32(b, saMappingTimer, s.MappingTimer)
	b = appendU32(b, saKeepalive, s.Keepalive)
	b = appendU32(b, saWindow, s.Window)
	b = appendU32(b, saBitmapLen, s.BitmapLen)
	b = appendLimits(b, saLimits, &s.Limits)
	return appendUnknown(b, saUnknown, s.Unknown)
}

func appendAlgorithm(b []byte, t tlv, a *sadb.Algorithm) []byte {
	if a == nil {
		return b
	}
	b, at := openTLV(b, t)
	b = binary.BigEndian.AppendUint32(b, a.TruncBits)
	b = append(b, byte(len(a.Name)))
	b = append(b, a.Name...)
	b = append(b, a.Key.Bytes()...)
	return closeTLV(b, at)
}

func (e *field) algorithm(block *sadb.Block) *sadb.Algorithm {
	a := block.Algorithm()
	a.TruncBits = e.u32("truncation")
	name := e.take(int(e.u8("algorithm name")), "algorithm name")
	if e.err == nil && (len(name) == 0 || len(name) > maxAlgorithm) {
		e.fail("algorithm name of %d bytes, not 1 to %d", len(name), maxAlgorithm)
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			e.fail("algorithm name with byte 0x%02x", c)
		}
	}
	a.Name = knownName(name)
	a.Key = sadb.NewSecret(e.rest())
	return a
}

// knownName returns a name as a string, without allocation for the algorithms
// of nearly all SAs.
func knownName(b []byte) string {
	switch string(b) {
	case "rfc4106(gcm(aes))":
		return "rfc4106(gcm(aes))"
	case "rfc7539esp(chacha20,poly1305)":
		return "rfc7539esp(chacha20,poly1305)"
	case "cbc(aes)":
		return "cbc(aes)"
	case "hmac(sha1)":
		return "hmac(sha1)"
	case "hmac(sha256)":
		return "hmac(sha256)"
	case "hmac(sha384)":
		return "hmac(sha384)"
	case "hmac(sha512)":
		return "hmac(sha512)"
	}
	return string(b)
}

// saKey reads a field of an identity.
func (e *field) saKey(k *sadb.SAKey) bool {
	switch e.t {
	case saID:
		k.SPI, k.Proto = e.u32("spi"), e.u8("protocol")
		k.Dst = e.fixedAddr("destination")
	case saMark:
		k.Mark = nonzero(e, e.mark())
	default:
		return false
	}
	return true
}

var (
	errNoIdentity = errors.New("identity is missing")
	errFamilies   = errors.New("addresses are of different families")
)

// ParseSAKey reads what AppendSAKey wrote.
func ParseSAKey(b []byte) (k sadb.SAKey, err error) {
	w, e := walk{reader: reader{b: b}}, field{}
	for w.next(&e, never) && w.done(&e, e.saKey(&k)) {
	}
	if err = w.err; err == nil && !k.Dst.IsValid() {
		err = errNoIdentity
	}
	if err != nil {
		return sadb.SAKey{}, fmt.Errorf("parse identity of an SA: %w", err)
	}
	return k, nil
}

func never(tlv) bool { return false }

func repeatedUnknown(t tlv) bool { return t == saUnknown }

// ParseSA reads the record of an SA. The result does not alias b. Only the
// canonical form is accepted, but for fields of types 128 and above, which
// are left out. It checks what every SA must satisfy (addresses of one family,
// lengths that the kernel has room for), not what a given kernel accepts.
func ParseSA(b []byte) (*sadb.SA, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("parse SA: %d bytes exceed %d", len(b), MaxRecord)
	}
	block := new(sadb.Block)
	s := &block.SA
	s.Limits = unlimited()
	w, e := walk{reader: reader{b: b}}, field{}
	for w.next(&e, repeatedUnknown) && w.done(&e, e.saKey(&s.Key) || e.saConfig(block) || e.saState(block)) {
	}
	err := w.err
	switch {
	case err != nil:
	case !s.Key.Dst.IsValid():
		err = errNoIdentity
	case s.Src.Is4() != s.Key.Dst.Is4() || !s.Src.IsValid():
		err = errFamilies
	}
	if err != nil {
		return nil, fmt.Errorf("parse SA: %w", err)
	}
	return s, nil
}

func (e *field) saConfig(block *sadb.Block) bool {
	s := &block.SA
	switch e.t {
	case saSrc:
		s.Src = e.fixedAddr("source")
	case saSelector:
		s.Selector = e.selector()
	case saMode:
		s.Mode = sadb.Mode(nonzero(e, e.u8("mode")))
	case saReqid:
		s.Reqid = nonzero(e, e.u32("reqid"))
	case saFlags:
		s.Flags = nonzero(e, e.u8("flags"))
	case saExtra:
		s.Extra = nonzero(e, e.u32("extra flags"))
	case saAuth:
		s.Auth = e.algorithm(block)
	case saCrypt:
		s.Crypt = e.algorithm(block)
	case saAEAD:
		s.AEAD = e.algorithm(block)
	case saComp:
		s.Comp = e.algorithm(block)
	case saEncap:
		s.Encap = &sadb.Encap{Type: e.u16("type"), SrcPort: e.u16("source port"), DstPort: e.u16("destination port")}
		s.Encap.OA = e.addrOf(e.rest(), "original address")
	case saOutputMark:
		m := e.mark()
		s.OutputMark = &m
	case saIfID:
		s.IfID = nonzero(e, e.u32("interface id"))
	case saTFCPad:
		s.TFCPad = nonzero(e, e.u32("padding"))
	case saKernelDir:
		s.KernelDir = e.direction()
	case saPCPU:
		n := e.u32("cpu")
		s.PCPU = &n
	case saMappingTimer:
		s.MappingTimer = nonzero(e, e.u32("mapping timer"))
	case saKeepalive:
		s.Keepalive = nonzero(e, e.u32("keepalive"))
	case saWindow:
		s.Window = nonzero(e, e.u32("window"))
	case saBitmapLen:
		if s.BitmapLen = nonzero(e, e.u32("bitmap length")); s.BitmapLen > maxBitmap {
			e.fail("bitmap of %d words exceeds %d", s.BitmapLen, maxBitmap)
		}
	case saLimits:
		s.Limits = e.limits()
	case saUnknown:
		s.Unknown = e.unknown(s.Unknown)
	default:
		return false
	}
	return true
}

func (e *field) saState(block *sadb.Block) bool {
	s := &block.SA
	switch e.t {
	case saDir:
		s.Dir = e.direction()
	case saCounters:
		s.OSeq, s.Seq = e.uvarint("outbound sequence"), e.uvarint("inbound sequence")
		s.Bytes, s.Packets = e.uvarint("bytes"), e.uvarint("packets")
		nonzero(e, s.OSeq|s.Seq|s.Bytes|s.Packets)
	case saBitmap:
		if len(e.b)%4 != 0 || len(e.b)/4 > maxBitmap {
			e.fail("bitmap of %d bytes", len(e.b))
			break
		}
		s.Bitmap = block.Words(len(e.b) / 4)
		for i := range s.Bitmap {
			s.Bitmap[i] = e.u32("bitmap")
		}
	case saAges:
		s.Age, s.Used, s.UseAge = e.ages()
		if s.Age == 0 && !s.Used {
			e.fail("is present although empty")
		}
	default:
		return false
	}
	return true
}

func (e *field) direction() sadb.Direction {
	d := sadb.Direction(nonzero(e, e.u8("direction")))
	if d > sadb.DirFwd {
		e.fail("direction %d", d)
	}
	return d
}
