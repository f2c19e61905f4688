package guard

import (
	"math/rand"
	"net/netip"
	"slices"

	"sasyncd/sync/sadb"
)

// decides is the model of the kernel's lookup: of the outbound main policies without an
// if_id that match a packet, the one with the lowest priority, and the first among equal
// ones. It returns nil where none matches.
func decides(policies []*sadb.Policy, pk Packet) (found *sadb.Policy) {
	sport, dport := kernelPorts(pk)
	for _, p := range policies {
		s := p.Key.Selector
		if !lookedAt(p) || !addressed(p, pk) || (sport^s.SrcPort)&s.SrcPortMask != 0 ||
			(dport^s.DstPort)&s.DstPortMask != 0 {
			continue
		}
		if found == nil || p.Priority < found.Priority {
			found = p
		}
	}
	return found
}

// lookedAt reports whether packets of any interface without a security context match.
func lookedAt(p *sadb.Policy) bool {
	return p.Key.Dir == sadb.DirOut && !p.Socket && !p.Key.Sub && p.Key.IfID == 0 && p.Key.SecCtx == "" &&
		p.Key.Selector.Interface == ""
}

// addressed reports whether a packet matches a policy in all but its ports.
func addressed(p *sadb.Policy, pk Packet) bool {
	s, m := p.Key.Selector, p.Key.Mark
	return s.Family == sadb.FamilyOf(pk.Src) && sameBits(sadb.Raw(pk.Src), s.Src, s.SrcLen) &&
		sameBits(sadb.Raw(pk.Dst), s.Dst, s.DstLen) && (s.Proto == 0 || s.Proto == pk.Proto) &&
		pk.Mark&m.Mask == m.Value
}

func sameBits(a, b sadb.Bytes16, n uint8) bool {
	for i := range int(n) {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// kernelPorts is what a lookup takes for ports.
func kernelPorts(pk Packet) (sport, dport uint16) {
	six := pk.Src.Is6()
	switch pk.Proto {
	case 6, 17, 132, 136:
		return pk.SrcPort, pk.DstPort
	case 1:
		if !six {
			return pk.SrcPort, pk.DstPort
		}
	case 58:
		if six {
			return pk.SrcPort, pk.DstPort
		}
	case 47: // the key, for the test in two halves
		return pk.SrcPort, pk.DstPort
	case 135:
		if six {
			return pk.SrcPort, 0
		}
	}
	return 0, 0
}

// keyed reports whether the guard and the kernel may differ about a packet, because a
// packet filter does not compare what the kernel compares.
func keyed(pk Packet) bool { return pk.Proto == 47 || pk.Proto == 135 && pk.Src.Is6() }

// demands reports whether a packet that a policy decides does not leave in plaintext.
func demands(p *sadb.Policy) bool {
	if p == nil {
		return false
	}
	if p.Action == sadb.ActionBlock {
		return true
	}
	for _, t := range p.Templates {
		if !t.Optional {
			return true
		}
	}
	return false
}

// dice makes policies and packets that meet often.
type dice struct{ *rand.Rand }

func pick[T any](d dice, list ...T) T { return list[d.Intn(len(list))] }

func (d dice) address(six bool) sadb.Bytes16 {
	var b sadb.Bytes16
	if !six {
		copy(b[:], []byte{10, pick[byte](d, 0, 1, 2), pick[byte](d, 0, 1, 128), pick[byte](d, 1, 2, 200)})
		return b
	}
	copy(b[:], []byte{0x20, 1, 0x0d, 0xb8, 0, pick[byte](d, 0, 1, 2), 0, pick[byte](d, 0, 1, 128)})
	b[15] = pick[byte](d, 1, 2, 200)
	return b
}

func (d dice) bits(six bool) uint8 {
	if six {
		return pick[uint8](d, 0, 32, 46, 48, 48, 57, 64, 64, 127, 128)
	}
	return pick[uint8](d, 0, 8, 14, 16, 16, 17, 24, 24, 31, 32)
}

// ports returns a port, with bits that do not count at times, and a mask.
func (d dice) ports() (port, mask uint16) {
	mask = pick[uint16](d, 0, 0, 0xffff, 0xffff, 0xffff, 0xff00, 0xfff0, 0x00ff, 0x0004)
	if mask == 0 && d.Intn(4) > 0 {
		return 0, 0
	}
	return pick[uint16](d, 0, 1, 3, 8, 80, 443, 500), mask
}

func (d dice) template(six bool) sadb.Template {
	t := sadb.Template{Proto: sadb.ProtoESP, Mode: pick(d, sadb.ModeTunnel, sadb.ModeTunnel, sadb.ModeTransport,
		sadb.ModeBEET), Optional: d.Intn(4) == 0}
	if t.Mode != sadb.ModeTransport {
		t.Src, t.Dst = d.outer(six), d.outer(six)
		if d.Intn(8) == 0 {
			t.Src = netip.IPv4Unspecified()
		}
	}
	return t
}

// outer is an end of a tunnel: mostly outside of what policies are for, but for those that
// are for everything.
func (d dice) outer(six bool) netip.Addr {
	if d.Intn(12) == 0 {
		a, _ := d.address(six).Addr(family(six))
		return a
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, pick[byte](d, 1, 2)})
}

func family(six bool) sadb.Family {
	if six {
		return sadb.FamilyIPv6
	}
	return sadb.FamilyIPv4
}

func (d dice) policy() *sadb.Policy {
	six := d.Intn(3) == 0
	p := &sadb.Policy{Priority: uint32(1 + d.Intn(6)), Key: sadb.PolicyKey{Dir: sadb.DirOut}}
	p.Key.Selector = sadb.Selector{Family: family(six), Src: d.address(six), Dst: d.address(six),
		SrcLen: d.bits(six), DstLen: d.bits(six)}
	s := &p.Key.Selector
	if d.Intn(2) == 0 {
		s.Proto = pick[uint8](d, 0, 1, 6, 6, 17, 17, 33, 47, 50, 58, 132, 135, 136)
		s.SrcPort, s.SrcPortMask = d.ports()
		s.DstPort, s.DstPortMask = d.ports()
	}
	if d.Intn(5) == 0 {
		p.Key.Mark = pick(d, sadb.Mark{Value: 1, Mask: 1}, sadb.Mark{Value: 2, Mask: 0xff},
			sadb.Mark{Mask: 0xf}, sadb.Mark{Value: 3, Mask: ^uint32(0)}, sadb.Mark{Value: 3, Mask: 1})
	}
	switch d.Intn(10) {
	case 0, 1, 2: // a bypass
	case 3:
		p.Action = sadb.ActionBlock
	default:
		for range 1 + d.Intn(2) {
			p.Templates = append(p.Templates, d.template(six))
		}
	}
	switch d.Intn(25) { // what stays out
	case 0:
		p.Key.IfID = 7
	case 1:
		s.Interface = "eth0"
	case 2:
		p.Key.Sub = true
	case 3:
		p.Key.Dir = sadb.DirFwd
	case 4:
		p.Socket = true
	}
	return p
}

func (d dice) policies() (list []*sadb.Policy) {
	for range 1 + d.Intn(20) {
		list = append(list, d.policy())
	}
	return list
}

// packet makes a packet that matches one of the policies, or nearly so.
func (d dice) packet(policies []*sadb.Policy) Packet {
	p := policies[d.Intn(len(policies))]
	s := p.Key.Selector
	six := s.Family == sadb.FamilyIPv6
	within := func(prefix sadb.Bytes16, n uint8) netip.Addr {
		b := d.address(six)
		if d.Intn(12) > 0 {
			for i := range int(n) {
				bit := byte(1) << (7 - i%8)
				b[i/8] = b[i/8]&^bit | prefix[i/8]&bit
			}
		}
		a, _ := b.Addr(s.Family)
		return a
	}
	pk := Packet{Src: within(s.Src, s.SrcLen), Dst: within(s.Dst, s.DstLen), Proto: s.Proto,
		Mark: p.Key.Mark.Value | pick(d, 0, uint32(d.Intn(4))&^p.Key.Mark.Mask)}
	if pk.Proto == 0 || d.Intn(12) == 0 {
		pk.Proto = pick[uint8](d, 0, 1, 6, 17, 33, 47, 50, 58, 89, 132, 135, 136)
	}
	port := func(value, mask uint16) uint16 {
		other := pick[uint16](d, 0, 1, 8, 80, 443, 500, 0x1ff, 40000)
		if d.Intn(12) == 0 {
			return other
		}
		return value&mask | other&^mask
	}
	pk.SrcPort, pk.DstPort = port(s.SrcPort, s.SrcPortMask), port(s.DstPort, s.DstPortMask)
	if pk.Proto == 1 || pk.Proto == 58 {
		pk.SrcPort, pk.DstPort = pk.SrcPort&0xff, pk.DstPort&0xff
	}
	return pk
}

// routed is the model of a router with the routes of the second wall: one table for each
// source, the longest first; in a table the longest destination; one that passes goes on
// with the next table. It reports whether a route drops.
func routed(routes []Route, src, dst netip.Addr) bool {
	var tables []netip.Prefix
	for _, r := range routes {
		if r.Src.Contains(src) && !slices.Contains(tables, r.Src) {
			tables = append(tables, r.Src)
		}
	}
	slices.SortFunc(tables, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	for _, table := range tables {
		best := -1
		for i, r := range routes {
			if r.Src == table && r.Dst.Contains(dst) && (best < 0 || r.Dst.Bits() > routes[best].Dst.Bits()) {
				best = i
			}
		}
		if best >= 0 && !routes[best].Pass {
			return true
		}
	}
	return false
}
