package xfrm

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sasyncd/sync/sadb"
)

// decoder turns the kernel's messages into sadb types. It is pure but for what
// its name function does. It caches algorithm names and must not be used by
// two goroutines at once.
type decoder struct {
	// ifname returns the name of an interface index, or "" if there is none.
	ifname func(index uint32) string
	algs   map[string]string
}

func newDecoder(ifname func(uint32) string) *decoder {
	return &decoder{ifname: ifname, algs: make(map[string]string)}
}

// goneInterface is the name under which a selector's interface is reported
// when the index has no name any more. A slash cannot occur in real names, so
// only a delete by the same node resolves it.
const goneInterface = "ifindex/"

func (d *decoder) selector(s *sadb.Selector, b []byte) {
	s.Dst, s.Src = sadb.Bytes16(b[0:16]), sadb.Bytes16(b[16:32])
	s.DstPort, s.DstPortMask = network.Uint16(b[32:]), network.Uint16(b[34:])
	s.SrcPort, s.SrcPortMask = network.Uint16(b[36:]), network.Uint16(b[38:])
	s.Family = sadb.Family(native.Uint16(b[40:]))
	s.DstLen, s.SrcLen, s.Proto = b[42], b[43], b[44]
	s.User = native.Uint32(b[52:])
	if i := native.Uint32(b[48:]); i != 0 {
		if s.Interface = d.ifname(i); s.Interface == "" {
			s.Interface = goneInterface + strconv.FormatUint(uint64(i), 10)
		}
	}
}

// addr16 reads an address of family f without losing anything: bytes that do
// not fit an IPv4 address make it an IPv6 one.
func addr16(b []byte, f sadb.Family) netip.Addr {
	raw := sadb.Bytes16(b)
	switch {
	case f == sadb.FamilyIPv4 && raw == (sadb.Bytes16{0: raw[0], 1: raw[1], 2: raw[2], 3: raw[3]}):
		return netip.AddrFrom4([4]byte(raw[:4]))
	case f == sadb.FamilyAny && raw == sadb.Bytes16{}:
		return netip.Addr{}
	}
	return netip.AddrFrom16(raw)
}

func limits(l *sadb.Limits, b []byte) {
	_ = b[63]
	l.SoftBytes, l.HardBytes = native.Uint64(b), native.Uint64(b[8:])
	l.SoftPackets, l.HardPackets = native.Uint64(b[16:]), native.Uint64(b[24:])
	l.SoftAdd, l.HardAdd = native.Uint64(b[32:]), native.Uint64(b[40:])
	l.SoftUse, l.HardUse = native.Uint64(b[48:]), native.Uint64(b[56:])
}

// use reads struct xfrm_lifetime_cur. now is the wall clock in Unix seconds;
// dates in the future, which a clock set back leaves behind, have age 0.
func use(b []byte, now int64) sadb.Use {
	u := sadb.Use{
		Bytes: native.Uint64(b), Packets: native.Uint64(b[8:]),
		Age: age(native.Uint64(b[16:]), now),
	}
	if t := native.Uint64(b[24:]); t != 0 {
		u.Used, u.UseAge = true, age(t, now)
	}
	return u
}

func age(date uint64, now int64) uint64 {
	if now < 0 || date > uint64(now) {
		return 0
	}
	return uint64(now) - date
}

func mark(b []byte) (m sadb.Mark, ok bool) {
	if len(b) < 8 {
		return m, false
	}
	return sadb.Mark{Value: native.Uint32(b), Mask: native.Uint32(b[4:])}, true
}

// name returns the algorithm name in b without allocating for known ones.
func (d *decoder) name(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if s, ok := d.algs[string(b)]; ok {
		return s
	}
	s := strings.Clone(string(b))
	if len(d.algs) < 256 {
		d.algs[s] = s
	}
	return s
}

// algorithm reads struct xfrm_algo (trunc false) or xfrm_algo_auth and
// xfrm_algo_aead (trunc true).
func (d *decoder) algorithm(a *sadb.Algorithm, b []byte, trunc bool) bool {
	head := sizeAlgName + 4
	if trunc {
		head += 4
	}
	if len(b) < head {
		return false
	}
	n := (int(native.Uint32(b[sizeAlgName:])) + 7) / 8
	if n < 0 || n > len(b)-head {
		return false
	}
	a.Name = d.name(b[:sizeAlgName])
	if trunc {
		a.TruncBits = native.Uint32(b[sizeAlgName+4:])
	}
	// The kernel tells authentication twice.
	if k := b[head : head+n]; n > 0 && !bytes.Equal(a.Key.Bytes(), k) {
		a.Key = sadb.NewSecret(k)
	}
	return true
}

// unknown keeps an attribute ascending by type.
func unknown(list []sadb.Attr, typ uint16, data []byte) []sadb.Attr {
	at := len(list)
	for at > 0 && list[at-1].Type > typ {
		at--
	}
	list = append(list, sadb.Attr{})
	copy(list[at+1:], list[at:])
	list[at] = sadb.Attr{Type: typ, Data: append([]byte(nil), data...)}
	return list
}

// attrSet is a set of types of attributes that were understood.
type attrSet uint64

func (s *attrSet) add(typ uint16) {
	if typ < 64 {
		*s |= 1 << typ
	}
}

// drop leaves out what was malformed and came well-formed, too: written back,
// the malformed one would be refused or, coming last, taken for the value.
func (s attrSet) drop(list []sadb.Attr) []sadb.Attr {
	if len(list) == 0 {
		return list
	}
	list = slices.DeleteFunc(list, func(a sadb.Attr) bool { return a.Type < 64 && s&(1<<a.Type) != 0 })
	if len(list) == 0 {
		return nil
	}
	return list
}

func errShort(what string, have, want int) error {
	return fmt.Errorf("decode %s: %d bytes, want at least %d", what, have, want)
}
