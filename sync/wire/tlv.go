package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"sasyncd/sync/sadb"
)

// A field of a record is a type, a length and a value: u8, u16, bytes.
const (
	tlvHeader = 3

	// stateTypes is the first type that is not configuration and so not part
	// of a digest; skippable the first that an old receiver may leave out.
	stateTypes tlv = 64
	skippable  tlv = 128
)

type tlv uint8

// openTLV starts a field; closeTLV fills in its length.
func openTLV(b []byte, t tlv) ([]byte, int) {
	return append(b, byte(t), 0, 0), len(b) + tlvHeader
}

func closeTLV(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start-2:], uint16(len(b)-start))
	return b
}

// A zero is left out, which keeps records short and makes them canonical.
func appendU8(b []byte, t tlv, v uint8) []byte {
	if v == 0 {
		return b
	}
	return append(b, byte(t), 0, 1, v)
}

func appendU32(b []byte, t tlv, v uint32) []byte {
	if v == 0 {
		return b
	}
	return binary.BigEndian.AppendUint32(append(b, byte(t), 0, 4), v)
}

func appendMark(b []byte, t tlv, m sadb.Mark) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(t), 0, 8), m.Value)
	return binary.BigEndian.AppendUint32(b, m.Mask)
}

// field is one field while it is read. Its value must be used up.
type field struct {
	reader
	t tlv
}

// walk goes through the fields of a record in ascending order of their type. It
// is a loop of its caller's and not a function that calls back, so that all of
// it stays on the stack: decoding a snapshot is mostly this.
type walk struct {
	reader
	last tlv
}

// next reads one field into e, except those of types that may be skipped; ok is
// false at the end and after a mistake. Types that repeat are allowed for those
// that repeats says.
func (w *walk) next(e *field, repeats func(tlv) bool) (ok bool) {
	for len(w.b) > 0 {
		t := tlv(w.u8("field type"))
		v := w.take(int(w.u16("field length")), "field")
		if w.err != nil {
			w.err = fmt.Errorf("field %d: %w", t, w.err)
			return false
		}
		if t < w.last || t == w.last && t < skippable && !repeats(t) || t == 0 {
			w.err = fmt.Errorf("field %d follows field %d", t, w.last)
			return false
		}
		w.last = t
		if t < skippable {
			e.b, e.err, e.t = v, nil, t
			return true
		}
	}
	return false
}

// done ends a field that was understood, or not, and reports whether to go on.
func (w *walk) done(e *field, understood bool) bool {
	if !understood {
		w.err = fmt.Errorf("field %d of %d bytes is unknown and must be understood", e.t, len(e.b))
		return false
	}
	if e.end("value"); e.err != nil {
		w.err = fmt.Errorf("field %d: %w", e.t, e.err)
		return false
	}
	return true
}

// nonzero refuses a zero that should have been left out.
func nonzero[T comparable](e *field, v T) T {
	var zero T
	if e.err == nil && v == zero {
		e.fail("is present although empty")
	}
	return v
}

func (r *reader) mark() sadb.Mark { return sadb.Mark{Value: r.u32("mark"), Mask: r.u32("mask")} }

// appendSelector appends family u16, prefix lengths, ports with masks,
// protocol, user, both addresses without their trailing zeros, interface.
// The whole 16 bytes count, as the kernel compares them all.
func appendSelector(b []byte, t tlv, s *sadb.Selector) []byte {
	if *s == (sadb.Selector{}) {
		return b
	}
	b, at := openTLV(b, t)
	b = binary.BigEndian.AppendUint16(b, uint16(s.Family))
	b = append(b, s.SrcLen, s.DstLen, s.Proto)
	b = binary.BigEndian.AppendUint16(b, s.SrcPort)
	b = binary.BigEndian.AppendUint16(b, s.SrcPortMask)
	b = binary.BigEndian.AppendUint16(b, s.DstPort)
	b = binary.BigEndian.AppendUint16(b, s.DstPortMask)
	b = binary.BigEndian.AppendUint32(b, s.User)
	b = appendTrimmed(b, &s.Src)
	b = appendTrimmed(b, &s.Dst)
	b = append(b, s.Interface...)
	return closeTLV(b, at)
}

func appendTrimmed(b []byte, a *sadb.Bytes16) []byte {
	n := len(a)
	for n > 0 && a[n-1] == 0 {
		n--
	}
	return append(append(b, byte(n)), a[:n]...)
}

func (r *reader) trimmed(field string) (a sadb.Bytes16) {
	v := r.take(int(r.u8(field)), field)
	if len(v) > len(a) {
		r.fail("%s: address of %d bytes", field, len(v))
		return a
	}
	if len(v) > 0 && v[len(v)-1] == 0 {
		r.fail("%s: address ends in zeros", field)
	}
	copy(a[:], v)
	return a
}

// maxInterface is IFNAMSIZ without the final zero.
const maxInterface = 15

func (e *field) selector() sadb.Selector {
	var s sadb.Selector
	s.Family = e.family()
	s.SrcLen, s.DstLen, s.Proto = e.u8("source length"), e.u8("destination length"), e.u8("protocol")
	s.SrcPort, s.SrcPortMask = e.u16("source port"), e.u16("source port mask")
	s.DstPort, s.DstPortMask = e.u16("destination port"), e.u16("destination port mask")
	s.User = e.u32("user")
	s.Src, s.Dst = e.trimmed("source"), e.trimmed("destination")
	name := e.rest()
	if len(name) > maxInterface {
		e.fail("interface name of %d bytes", len(name))
	}
	for _, c := range name {
		if c <= ' ' || c == '/' || c == 0x7f {
			e.fail("interface name with byte 0x%02x", c)
		}
	}
	s.Interface = string(name)
	return nonzero(e, s)
}

func (r *reader) family() sadb.Family {
	switch f := sadb.Family(r.u16("family")); f {
	case sadb.FamilyAny, sadb.FamilyIPv4, sadb.FamilyIPv6:
		return f
	default:
		r.fail("family %d", f)
		return 0
	}
}

// unlimited is what an absent limits field stands for.
func unlimited() sadb.Limits {
	return sadb.Limits{
		SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit,
		SoftPackets: sadb.NoLimit, HardPackets: sadb.NoLimit,
	}
}

// appendLimits appends eight numbers, one added to the first four so that
// "no limit" takes one byte.
func appendLimits(b []byte, t tlv, l *sadb.Limits) []byte {
	if *l == unlimited() {
		return b
	}
	b, at := openTLV(b, t)
	for _, v := range [...]uint64{
		l.SoftBytes + 1, l.HardBytes + 1, l.SoftPackets + 1, l.HardPackets + 1,
		l.SoftAdd, l.HardAdd, l.SoftUse, l.HardUse,
	} {
		b = binary.AppendUvarint(b, v)
	}
	return closeTLV(b, at)
}

func (e *field) limits() sadb.Limits {
	l := sadb.Limits{
		SoftBytes: e.uvarint("soft bytes") - 1, HardBytes: e.uvarint("hard bytes") - 1,
		SoftPackets: e.uvarint("soft packets") - 1, HardPackets: e.uvarint("hard packets") - 1,
		SoftAdd: e.uvarint("soft add"), HardAdd: e.uvarint("hard add"),
		SoftUse: e.uvarint("soft use"), HardUse: e.uvarint("hard use"),
	}
	if e.err == nil && l == unlimited() {
		e.fail("is present although empty")
	}
	return l
}

func appendUnknown(b []byte, t tlv, as []sadb.Attr) []byte {
	for i := range as {
		var at int
		b, at = openTLV(b, t)
		b = binary.BigEndian.AppendUint16(b, as[i].Type)
		b = append(b, as[i].Data...)
		b = closeTLV(b, at)
	}
	return b
}

func (e *field) unknown(as []sadb.Attr) []sadb.Attr {
	a := sadb.Attr{Type: e.u16("attribute type"), Data: append([]byte(nil), e.rest()...)}
	if n := len(as); n > 0 && as[n-1].Type > a.Type {
		e.fail("attribute %d follows attribute %d", a.Type, as[n-1].Type)
	}
	return append(as, a)
}

// appendAges appends the age and, when ever used, the age of the first use.
func appendAges(b []byte, age uint64, used bool, useAge uint64) []byte {
	b = binary.AppendUvarint(b, age)
	if used {
		b = binary.AppendUvarint(b, useAge)
	}
	return b
}

func (r *reader) ages() (age uint64, used bool, useAge uint64) {
	age = r.uvarint("age")
	if used = r.err == nil && len(r.b) > 0; used {
		useAge = r.uvarint("age of use")
	}
	return age, used, useAge
}

// fixedAddr reads an address that fills its field.
func (e *field) fixedAddr(name string) netip.Addr {
	a := e.addrOf(e.rest(), name)
	if e.err == nil && !a.IsValid() {
		e.fail("%s: is empty", name)
	}
	return a
}
