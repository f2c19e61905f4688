package guard

import (
	"cmp"
	"slices"
)

// Compile makes layers of rules: by priority, then by position, consecutive rules of one
// verdict are one layer. A key that an earlier rule has is left out, and so is a layer
// that passes behind all others, because what nothing matches passes.
//
// A rule that compares ports for any protocol is several keys: one for the protocols that
// have ports, one for ICMP where the ports fit type and code, and one for each protocol
// without ports where both ports are 0, as which a policy lookup takes what a packet does
// not have. A packet filter does not compare GRE keys: a rule that requires is for every
// key, and a bypass for none.
func Compile(rules []Rule) Program {
	var layers []*layer
	seen := make(map[entry]struct{}, len(rules))
	for _, r := range inOrder(rules) {
		for _, e := range entriesOf(r) {
			if _, ok := seen[e]; ok {
				continue
			}
			seen[e] = struct{}{}
			// An empty layer never comes about, so neighbours always differ in their verdict.
			if n := len(layers); n == 0 || layers[n-1].require != r.Require {
				layers = append(layers, &layer{require: r.Require, keys: make(map[Shape][]Key)})
			}
			last := layers[len(layers)-1]
			last.keys[e.shape] = append(last.keys[e.shape], e.key)
		}
	}
	if n := len(layers); n > 0 && !layers[n-1].require {
		layers = layers[:n-1]
	}
	var p Program
	for _, l := range layers {
		p.Layers = append(p.Layers, l.done())
	}
	return p
}

// layer is a Layer whose keys are still unsorted.
type layer struct {
	require bool
	keys    map[Shape][]Key
}

func (l *layer) done() Layer {
	out := Layer{Require: l.require}
	for s, keys := range l.keys {
		slices.SortFunc(keys, compareKeys)
		out.Classes = append(out.Classes, Class{Shape: s, Keys: keys})
	}
	slices.SortFunc(out.Classes, func(a, b Class) int { return compareShapes(a.Shape, b.Shape) })
	return out
}

// entry is a key and the shape that it is of.
type entry struct {
	shape Shape
	key   Key
}

// entriesOf returns what matches the packets of a rule. It is empty where no packet matches.
func entriesOf(r Rule) []entry {
	e := entry{
		shape: Shape{IPv6: r.ipv6(), SrcBits: r.Src.Bits(), DstBits: r.Dst.Bits(), MarkMask: r.MarkMask},
		key:   Key{Src: r.Src.Addr(), Dst: r.Dst.Addr(), Mark: r.Mark},
	}
	if r.Proto == 0 && !r.ports() {
		return []entry{e}
	}
	if r.Proto != 0 {
		return appendEntry(nil, e, r, r.Proto)
	}
	list := []entry{e.compare(r, TransportPorts, 0xffff)}
	for proto := range 256 {
		if headerOf(r.ipv6(), uint8(proto)) != transportHeader {
			list = appendEntry(list, e, r, uint8(proto))
		}
	}
	return list
}

// appendEntry appends what matches those packets of a rule that have a protocol.
func appendEntry(list []entry, e entry, r Rule, proto uint8) []entry {
	e.shape.Proto, e.key.Proto = true, proto
	if !r.ports() {
		return append(list, e)
	}
	switch headerOf(r.ipv6(), proto) {
	case transportHeader:
		return append(list, e.compare(r, TransportPorts, 0xffff))
	case typesHeader:
		if r.SrcPort > 0xff || r.DstPort > 0xff {
			return list
		}
		return append(list, e.compare(r, ICMPTypes, 0xff))
	case keyedHeader:
		if !r.Require {
			return list
		}
	case bareHeader:
		if r.SrcPort != 0 || r.DstPort != 0 {
			return list
		}
	}
	return append(list, e)
}

// compare adds the ports of a rule to an entry, as far as a field of the header is wide.
func (e entry) compare(r Rule, p Ports, width uint16) entry {
	src, dst := r.SrcPortMask&width, r.DstPortMask&width
	if src|dst != 0 {
		e.shape.Ports, e.shape.SrcPortMask, e.shape.DstPortMask = p, src, dst
		e.key.SrcPort, e.key.DstPort = r.SrcPort, r.DstPort
	}
	return e
}

func compareKeys(a, b Key) int {
	if c := a.Dst.Compare(b.Dst); c != 0 {
		return c
	}
	if c := a.Src.Compare(b.Src); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.SrcPort, b.SrcPort),
		cmp.Compare(a.DstPort, b.DstPort), cmp.Compare(a.Mark, b.Mark))
}

// compareShapes gives classes a fixed order: IPv4 first, then the longest prefixes.
func compareShapes(a, b Shape) int {
	return cmp.Or(compareBools(a.IPv6, b.IPv6), cmp.Compare(b.DstBits, a.DstBits), cmp.Compare(b.SrcBits, a.SrcBits),
		compareBools(a.Proto, b.Proto), cmp.Compare(a.Ports, b.Ports), cmp.Compare(a.SrcPortMask, b.SrcPortMask),
		cmp.Compare(a.DstPortMask, b.DstPortMask), cmp.Compare(a.MarkMask, b.MarkMask))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
