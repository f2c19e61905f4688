package leakguard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sasyncd/sync/guard"
)

// Names in the table.
const (
	tableName   = "sasyncd"
	counterName = "dropped"
	mainChain   = "wall"

	setProtocols  = "own-protocols"
	setPorts      = "own-ports"
	setNeighbours = "neighbours"
	setTransport  = "transport"
	setErrors     = "errors4"
	setErrors6    = "errors6"
)

// wholeChain is that of packets of a family which have a transport header, laterChain
// that of fragments which have none.
func wholeChain(ipv6 bool) string {
	if ipv6 {
		return "ipv6"
	}
	return "ipv4"
}

func laterChain(ipv6 bool) string { return wholeChain(ipv6) + "-later" }

// quotedChain is that of ICMP errors, by the packet that they quote.
func quotedChain(ipv6 bool) string { return wholeChain(ipv6) + "-quoted" }

// wall is the content of the table, but for its chains in hooks.
type wall struct {
	sets  []set
	rules []rule
	early bool // whether there is a chain in the forward hook
}

type set struct {
	name string
	kind nftables.SetDatatype
	keys [][]byte // ascending, without duplicates
}

type rule struct {
	chain string
	what  matches
}

// wallOf makes the table of a program.
func wallOf(p guard.Program, own Own) (*wall, error) {
	w := &wall{early: !own.NoEarly}
	w.begin(own)
	pass, err := own.layer()
	if err != nil {
		return nil, err
	}
	for i, c := range pass.Classes {
		if err := w.class(fmt.Sprintf("own%d", i), false, c); err != nil {
			return nil, err
		}
	}
	for i, l := range p.Layers {
		verdict := "pass"
		if l.Require {
			verdict = "need"
		}
		for j, c := range l.Classes {
			if err := w.class(fmt.Sprintf("%s%d-%d", verdict, i, j), l.Require, c); err != nil {
				return nil, fmt.Errorf("class %d of layer %d: %w", j, i, err)
			}
		}
	}
	// An error that no layer has is judged by what it quotes.
	for _, ipv6 := range []bool{false, true} {
		w.rule(wholeChain(ipv6), icmpError(ipv6), goTo(quotedChain(ipv6)))
	}
	return w, nil
}

// begin adds what does not depend on the program.
func (w *wall) begin(own Own) {
	w.numbers(setProtocols, nftables.TypeInetProto, unix.IPPROTO_ESP, unix.IPPROTO_AH, protoElection)
	w.numbers(setNeighbours, nftables.TypeICMP6Type, 133, 134, 135, 136, 137) // RFC 4861
	w.numbers(setTransport, nftables.TypeInetProto, transportProtocols...)
	w.numbers(setErrors, nftables.TypeICMPType, 3, 4, 5, 11, 12) // RFC 792
	w.numbers(setErrors6, nftables.TypeICMP6Type, 1, 2, 3, 4)    // RFC 4443
	ports := set{name: setPorts, kind: nftables.TypeInetService}
	for _, p := range own.ports() {
		ports.keys = append(ports.keys, binary.BigEndian.AppendUint16(nil, p))
	}
	w.sets = append(w.sets, ports)

	w.rule(mainChain, encrypted(), back())
	w.rule(mainChain, leavesBy("lo"), back())
	for _, kind := range []string{"xfrm", "vti", "vti6"} {
		w.rule(mainChain, leavesByKind(kind), back())
	}
	w.rule(mainChain, append(matches{meta(expr.MetaKeyL4PROTO, reg), among(setProtocols)}, fromLocal()...), back())
	for _, ipv6 := range []bool{false, true} {
		w.rule(mainChain, multicast(ipv6), back())
	}
	for _, ipv6 := range []bool{false, true} {
		w.rule(mainChain, laterFragment(ipv6), goTo(laterChain(ipv6)))
		w.rule(mainChain, family(ipv6), goTo(wholeChain(ipv6)))
		w.rule(wholeChain(ipv6), ike(setPorts), back())
	}
	w.rule(wholeChain(true), neighbourDiscovery(setNeighbours), back())
}

// protoElection is the protocol of CARP and VRRP.
const protoElection = 112

// transportProtocols have ports that a policy of any protocol compares, see
// xfrm_flowi_sport in include/net/xfrm.h. DCCP is not among them there.
var transportProtocols = []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE}

// portProtocols name the protocols of which a class can compare ports.
var portProtocols = map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp",
	unix.IPPROTO_UDPLITE: "udplite", unix.IPPROTO_DCCP: "dccp"}

func protoICMP(ipv6 bool) uint8 {
	if ipv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// numbers adds a set of single bytes.
func (w *wall) numbers(name string, kind nftables.SetDatatype, list ...uint8) {
	s := set{name: name, kind: kind}
	for _, v := range list {
		s.keys = append(s.keys, []byte{v})
	}
	w.sets = append(w.sets, s)
}

func (w *wall) rule(chain string, when matches, then ...expr.Any) {
	w.rules = append(w.rules, rule{chain, append(when, then...)})
}

// class adds a class: its rules begin with the name, and so do its sets.
func (w *wall) class(name string, require bool, c guard.Class) error {
	if err := check(c); err != nil || len(c.Keys) == 0 {
		return err
	}
	s := c.Shape
	plain := append(addresses(s), markField(s))
	if s.Ports == guard.NoPorts {
		// What such a class compares a later fragment has too.
		fields := compared(append(plain, protocolField(s))...)
		when, err := w.set(name, fields, c.Keys)
		if err != nil {
			return err
		}
		for _, chain := range []string{wholeChain(s.IPv6), laterChain(s.IPv6)} {
			w.match(chain, require, family(s.IPv6), when)
		}
		return w.quote(name, require, s, c.Keys)
	}
	for _, part := range byProtocol(c) {
		whole := part.when()
		when, err := w.set(name+part.name, compared(slices.Concat(plain, portFields(s))...), part.keys)
		if err != nil {
			return err
		}
		w.match(wholeChain(s.IPv6), require, family(s.IPv6), whole, when)
		if !require {
			continue
		}
		if when, err = w.set(name+part.name+"-later", compared(plain...), part.keys); err != nil {
			return err
		}
		w.match(laterChain(s.IPv6), require, family(s.IPv6), whole, when)
		if err := w.quote(name+part.name, require, s, part.keys, part.protocols()...); err != nil {
			return err
		}
	}
	return nil
}

// part is keys of a class with ports that one rule looks up.
type part struct {
	name  string
	proto uint8 // 0: each that has ports
	keys  []guard.Key
}

// when matches the protocols of a part.
func (p part) when() matches {
	if p.proto == 0 {
		return matches{meta(expr.MetaKeyL4PROTO, reg), among(setTransport)}
	}
	return protocol(p.proto)
}

func (p part) protocols() []uint8 {
	if p.proto == 0 {
		return transportProtocols
	}
	return []uint8{p.proto}
}

// byProtocol divides a class with ports. A rule for one protocol lets nft(8) print the
// header by its name, and leaves room for a mark among the five fields of a set.
func byProtocol(c guard.Class) []part {
	switch {
	case c.Shape.Ports == guard.ICMPTypes:
		return []part{{"", protoICMP(c.Shape.IPv6), c.Keys}}
	case !c.Shape.Proto:
		return []part{{"", 0, c.Keys}}
	}
	var list []part
	for _, proto := range append(slices.Clone(transportProtocols), unix.IPPROTO_DCCP) {
		p := part{name: "-" + portProtocols[proto], proto: proto}
		for _, k := range c.Keys {
			if k.Proto == proto {
				p.keys = append(p.keys, k)
			}
		}
		if len(p.keys) > 0 {
			list = append(list, p)
		}
	}
	return list
}

// set adds a set and returns what looks packets up in it: nothing where the fields are
// none, because every packet then has the key.
func (w *wall) set(name string, fields []field, keys []guard.Key) (matches, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	kind, err := kindOf(fields)
	if err != nil {
		return nil, fmt.Errorf("make set %s: %w", name, err)
	}
	s := set{name: name, kind: kind}
	for _, k := range keys {
		s.keys = append(s.keys, keyOf(fields, k))
	}
	slices.SortFunc(s.keys, bytes.Compare)
	s.keys = slices.CompactFunc(s.keys, bytes.Equal)
	w.sets = append(w.sets, s)
	return lookUp(fields, name), nil
}

// match adds a rule with the verdict of a layer.
func (w *wall) match(chain string, require bool, when ...matches) {
	then := matches{back()}
	if require {
		then = drop()
	}
	w.rule(chain, slices.Concat(when...), then...)
}

// check refuses what no rule can express. A wall that lacks a class would leak.
func check(c guard.Class) error {
	s, bits := c.Shape, 32
	if s.IPv6 {
		bits = 128
	}
	if s.SrcBits < 0 || s.SrcBits > bits || s.DstBits < 0 || s.DstBits > bits {
		return fmt.Errorf("prefixes of %d and %d bits do not exist", s.SrcBits, s.DstBits)
	}
	for _, k := range c.Keys {
		_, ports := portProtocols[k.Proto]
		switch {
		case k.Src.BitLen() != bits || k.Dst.BitLen() != bits:
			return fmt.Errorf("a key from %s to %s is not of the class's family", k.Src, k.Dst)
		case s.Ports == guard.TransportPorts && s.Proto && !ports:
			return fmt.Errorf("protocol %d has no ports", k.Proto)
		case s.Ports == guard.ICMPTypes && s.Proto && k.Proto != protoICMP(s.IPv6):
			return fmt.Errorf("protocol %d has no types in this family", k.Proto)
		}
	}
	return nil
}
