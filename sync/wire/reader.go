package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reader takes fields off the front of b. The first thing wrong stays in err
// and every later read returns zeros, so that a decoder checks once, at its
// end. Errors name the field and lengths, never contents: a record holds keys.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) take(n int, field string) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b) {
		r.fail("%s: needs %d bytes, %d are left", field, n, len(r.b))
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8(field string) uint8 {
	if b := r.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16(field string) uint16 {
	if b := r.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32(field string) uint32 {
	if b := r.take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64(field string) uint64 {
	if b := r.take(8, field); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// term reads a term, see MaxTerm.
func (r *reader) term() uint64 {
	t := r.u64("term")
	if t > MaxTerm {
		r.fail("term: %d exceeds %d", t, MaxTerm)
	}
	return t
}

func (r *reader) bool(field string) bool {
	v := r.u8(field)
	if v > 1 {
		r.fail("%s: %d is neither 0 nor 1", field, v)
	}
	return v == 1
}

// uvarint reads an unsigned LEB128 number in its shortest form.
func (r *reader) uvarint(field string) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.fail("%s: number is cut off", field)
	case n < 0:
		r.fail("%s: number exceeds 64 bits", field)
	case n > 1 && r.b[n-1] == 0:
		r.fail("%s: number is not in its shortest form", field)
	default:
		r.b = r.b[n:]
		return v
	}
	return 0
}

// count reads the length of a list and refuses one that cannot fit what is
// left when every item takes at least size bytes: nothing is allocated on a
// sender's word.
func (r *reader) count(size int, field string) int {
	n := r.uvarint(field)
	if n > uint64(len(r.b)/size) {
		r.fail("%s: %d items do not fit %d bytes", field, n, len(r.b))
		return 0
	}
	return int(n)
}

// name reads a short identifier: at most 255 bytes of printable UTF-8.
func (r *reader) name(field string) string { return r.printable(int(r.u8(field)), field) }

// text reads words for humans: at most 65535 bytes of printable UTF-8.
func (r *reader) text(field string) string { return r.printable(int(r.u16(field)), field) }

func (r *reader) printable(n int, field string) string {
	b := r.take(n, field)
	if !printable(b) {
		r.fail("%s: is not printable UTF-8", field)
		return ""
	}
	return string(b)
}

func (r *reader) id(field string) (id NodeID) {
	copy(id[:], r.take(len(id), field))
	return id
}

// addr reads an address of 0 (none), 4 or 16 bytes behind its length.
func (r *reader) addr(field string) netip.Addr {
	return r.addrOf(r.take(int(r.u8(field)), field), field)
}

func (r *reader) addrOf(b []byte, field string) netip.Addr {
	switch len(b) {
	case 0:
		return netip.Addr{}
	case 4:
		return netip.AddrFrom4([4]byte(b))
	case 16:
		return netip.AddrFrom16([16]byte(b))
	}
	r.fail("%s: address of %d bytes, not 4 or 16", field, len(b))
	return netip.Addr{}
}

// rest takes all that is left.
func (r *reader) rest() []byte { return r.take(len(r.b), "") }

// end refuses bytes that no field accounts for.
func (r *reader) end(field string) {
	if r.err == nil && len(r.b) != 0 {
		r.fail("%s: %d bytes too many", field, len(r.b))
	}
}

// Printable reports whether a string is UTF-8 without control characters and without
// what changes how other characters are shown. It is the rule for all strings that a
// peer gives, whatever carries them: they get to terminals and into logs.
func Printable(s string) bool { return printable(s) }

func printable[T string | []byte](s T) bool {
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if c == utf8.RuneError && n <= 1 || !unicode.IsPrint(c) {
			return false
		}
		i += n
	}
	return true
}

var errName = errors.New("name is longer than 255 bytes or not printable")

// appendName appends an identifier, which is never altered.
func appendName(b []byte, s string) ([]byte, error) {
	if len(s) > 255 || !printable(s) {
		return b, errName
	}
	b = append(b, byte(len(s)))
	return append(b, s...), nil
}

// appendText appends words for humans, shortened and cleaned as necessary.
func appendText(b []byte, s string, most int) []byte {
	if !printable(s) {
		s = strings.Map(func(c rune) rune {
			if c == utf8.RuneError || !unicode.IsPrint(c) {
				return '?'
			}
			return c
		}, s)
	}
	if len(s) > most {
		n := most
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendAddr appends the bytes of an address behind their number. A zone is
// local to a machine and left out.
func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		b = append(b, 4)
	case a.IsValid():
		b = append(b, 16)
	default:
		return append(b, 0)
	}
	return appendAddrBytes(b, a)
}

func appendAddrBytes(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		a4 := a.As4()
		return append(b, a4[:]...)
	case a.IsValid():
		a16 := a.As16()
		return append(b, a16[:]...)
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// zigzag folds a signed difference so that small ones of either sign are
// short: 0, -1, 1, -2 become 0, 1, 2, 3.
func zigzag(v uint64) uint64   { return v<<1 ^ uint64(int64(v)>>63) }
func unzigzag(v uint64) uint64 { return v>>1 ^ -(v & 1) }
