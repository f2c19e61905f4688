package guard

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"testing"

	"sasyncd/sync/sadb"
)

const seeds = 3000

// TestDropsWhatRequiresIPsec: for every packet the program says what the policies say.
func TestDropsWhatRequiresIPsec(t *testing.T) {
	dropped, passed, fragments := 0, 0, 0
	for seed := range int64(seeds) {
		d := dice{rand.New(rand.NewSource(seed))}
		policies := d.policies()
		rules, _ := Of(policies)
		p := Compile(rules)
		checkProgram(t, p)
		for range 60 {
			pk := d.packet(policies)
			want, got := demands(decides(policies, pk)), p.Drops(pk)
			if want && !got || want != got && !keyed(pk) {
				t.Fatalf("seed %d: the program drops %+v: %v, the policies require IPsec: %v\n%s", seed, pk, got,
					want, list(rules))
			}
			if got {
				dropped++
			} else {
				passed++
			}
			later := pk
			later.Later = true
			held := p.Drops(later)
			later.SrcPort, later.DstPort = 0, 0
			if held != p.Drops(later) {
				t.Fatalf("seed %d: what the program does with the later fragment %+v depends on ports", seed, pk)
			}
			if want && !held {
				t.Fatalf("seed %d: the program passes a later fragment of %+v\n%s", seed, pk, list(rules))
			}
			if held && !got {
				fragments++
			}
			if (held || got) && !slices.ContainsFunc(policies, func(p *sadb.Policy) bool {
				return lookedAt(p) && demands(p) && addressed(p, pk)
			}) {
				t.Fatalf("seed %d: the program drops %+v, for whose addresses no policy requires IPsec\n%s", seed, pk,
					list(rules))
			}
		}
	}
	t.Logf("%d packets dropped, %d passed, %d passed whole and dropped as a fragment", dropped, passed, fragments)
	if min(dropped, passed, fragments) < seeds/2 {
		t.Error("the packets do not try everything")
	}
}

func list(rules []Rule) (out string) {
	for i, r := range rules {
		out += fmt.Sprintf("%d: %+v\n", i, r)
	}
	return out
}

// checkProgram checks what holds for every program.
func checkProgram(t *testing.T, p Program) {
	t.Helper()
	keys := make(map[entry]bool)
	for i, l := range p.Layers {
		if i > 0 && l.Require == p.Layers[i-1].Require {
			t.Fatalf("layers %d and %d have one verdict", i-1, i)
		}
		if i == len(p.Layers)-1 && !l.Require {
			t.Fatal("the last layer passes")
		}
		if len(l.Classes) == 0 {
			t.Fatalf("layer %d is empty", i)
		}
		shapes := make(map[Shape]bool)
		for _, c := range l.Classes {
			if shapes[c.Shape] {
				t.Fatalf("layer %d has two classes of the shape %+v", i, c.Shape)
			}
			shapes[c.Shape] = true
			checkClass(t, c, keys)
		}
	}
}

func checkClass(t *testing.T, c Class, known map[entry]bool) {
	t.Helper()
	s := c.Shape
	if len(c.Keys) == 0 {
		t.Fatalf("the class %+v is empty", s)
	}
	if (s.Ports == NoPorts) != (s.SrcPortMask|s.DstPortMask == 0) {
		t.Fatalf("the class %+v has port masks without ports, or ports without masks", s)
	}
	if s.Ports == ICMPTypes && (!s.Proto || s.SrcPortMask|s.DstPortMask > 0xff) {
		t.Fatalf("the class %+v compares types of any protocol, or more than a byte", s)
	}
	for i, k := range c.Keys {
		if i > 0 && compareKeys(c.Keys[i-1], k) >= 0 {
			t.Fatalf("keys %d and %d of %+v do not ascend", i-1, i, s)
		}
		if known[entry{s, k}] {
			t.Fatalf("the key %+v of %+v is there twice", k, s)
		}
		known[entry{s, k}] = true
		src, _ := k.Src.Prefix(s.SrcBits)
		dst, _ := k.Dst.Prefix(s.DstBits)
		if src.Addr() != k.Src || dst.Addr() != k.Dst || k.Src.Is6() != s.IPv6 || k.Dst.Is6() != s.IPv6 ||
			k.SrcPort&^s.SrcPortMask != 0 || k.DstPort&^s.DstPortMask != 0 || k.Mark&^s.MarkMask != 0 ||
			!s.Proto && k.Proto != 0 {
			t.Fatalf("the key %+v has what %+v does not compare", k, s)
		}
	}
}

// sel makes a selector of two prefixes.
func sel(src, dst string) Selector {
	return Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
}

// with returns a selector with a protocol and ports that count where they are not 0.
func (s Selector) with(proto uint8, sport, dport uint16) Selector {
	s.Proto, s.SrcPort, s.DstPort = proto, sport, dport
	if sport != 0 {
		s.SrcPortMask = 0xffff
	}
	if dport != 0 {
		s.DstPortMask = 0xffff
	}
	return s
}

func require(priority uint32, s Selector) Rule {
	return Rule{Selector: s, Priority: priority, Require: true}
}

func bypass(priority uint32, s Selector) Rule { return Rule{Selector: s, Priority: priority} }

func TestLayers(t *testing.T) {
	lan, wide, six := sel("10.1.0.0/24", "10.2.0.0/24"), sel("10.0.0.0/8", "10.0.0.0/8"),
		sel("2001:db8:1::/64", "2001:db8:2::/64")
	other := sel("10.1.0.0/24", "10.3.0.0/24")
	icmpRange := lan.with(1, 8, 0)
	icmpRange.SrcPortMask = 0xfff8
	for _, c := range []struct {
		name  string
		rules []Rule
		want  string // the layers: verdict, and for each class its number of keys
	}{
		{"nothing", nil, ""},
		{"one", []Rule{require(1, lan)}, "+1"},
		{"one shape of two priorities", []Rule{require(1, lan), require(9, other)}, "+2"},
		{"one that is there twice", []Rule{require(1, lan), require(9, lan)}, "+1"},
		{"both families", []Rule{require(1, lan), require(1, six)}, "+1,1"},
		{"a bypass at the end", []Rule{require(1, lan), bypass(2, wide)}, "+1"},
		{"a bypass alone", []Rule{bypass(2, wide)}, ""},
		{"a bypass first", []Rule{require(2, wide), bypass(1, lan)}, "-1 +1"},
		{"order among equal priorities", []Rule{bypass(1, lan), require(1, wide)}, "-1 +1"},
		{"and the other way round", []Rule{require(1, wide), bypass(1, lan)}, "+1"},
		{"a bypass that never decides", []Rule{require(1, lan), bypass(2, lan), require(3, other)}, "+2"},
		{"a rule behind its bypass", []Rule{bypass(1, lan), require(2, lan)}, ""},
		{"TCP and UDP are one shape", []Rule{require(1, lan.with(6, 0, 80)), require(1, lan.with(17, 0, 53))}, "+2"},
		{"types are another", []Rule{require(1, lan.with(6, 8, 0)), require(1, lan.with(1, 8, 0))}, "+1,1"},
		{"ports of any protocol, and GRE", []Rule{require(1, lan.with(0, 0, 443))}, "+1,1"},
		{"and such as a type has", []Rule{require(1, lan.with(0, 0, 8))}, "+1,1,1"},
		{"no such type", []Rule{require(1, lan.with(1, 300, 0))}, ""},
		{"a mask beyond a type", []Rule{require(1, icmpRange)}, "+1"},
		{"no ports", []Rule{require(1, lan.with(50, 0, 443))}, ""},
		{"a GRE key to require for", []Rule{require(1, lan.with(47, 0, 7))}, "+1"},
		{"a GRE key to bypass for", []Rule{bypass(1, lan.with(47, 0, 7)), require(2, lan)}, "+1"},
	} {
		p := Compile(c.rules)
		checkProgram(t, p)
		got := ""
		for i, l := range p.Layers {
			got += map[bool]string{true: " ", false: ""}[i > 0] + map[bool]string{true: "+", false: "-"}[l.Require]
			for j, class := range l.Classes {
				got += map[bool]string{true: ",", false: ""}[j > 0] + fmt.Sprint(len(class.Keys))
			}
		}
		if got != c.want {
			t.Errorf("%s: layers %q, want %q", c.name, got, c.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	lan := sel("10.1.0.0/24", "10.2.0.0/24")
	web := Compile([]Rule{require(1, lan.with(6, 0, 443))})
	open := Compile([]Rule{bypass(1, lan.with(6, 0, 443)), require(2, lan)})
	anyProto := Compile([]Rule{require(1, lan.with(0, 0, 8))})
	echo := Compile([]Rule{require(1, lan.with(1, 8, 0))})
	marked := lan
	marked.Mark, marked.MarkMask = 2, 0xff
	mark := Compile([]Rule{require(1, marked)})
	low := lan.with(17, 0, 1)
	low.DstPort, low.DstPortMask = 0, 0xfc00
	privileged := Compile([]Rule{require(1, low)})
	gre := Compile([]Rule{require(1, lan.with(47, 1, 7))})
	for _, c := range []struct {
		name                 string
		p                    Program
		proto                uint8
		sport, dport         uint16
		mark                 uint32
		later, outside, want bool
	}{
		{name: "the port", p: web, proto: 6, sport: 40000, dport: 443, want: true},
		{name: "another port", p: web, proto: 6, dport: 80},
		{name: "another protocol", p: web, proto: 17, dport: 443},
		{name: "another destination", p: web, proto: 6, dport: 443, outside: true},
		{name: "a later fragment", p: web, proto: 6, later: true, want: true},
		{name: "a later fragment of another protocol", p: web, proto: 17, later: true},
		{name: "a bypass of a port", p: open, proto: 6, dport: 443},
		{name: "beside the bypass", p: open, proto: 6, dport: 80, want: true},
		{name: "a later fragment of what bypasses", p: open, proto: 6, dport: 443, later: true, want: true},
		{name: "UDP of any protocol", p: anyProto, proto: 17, dport: 8, want: true},
		{name: "a code of any protocol", p: anyProto, proto: 1, sport: 3, dport: 8, want: true},
		{name: "ESP of a port", p: anyProto, proto: 50, dport: 8},
		{name: "a later fragment of ESP", p: anyProto, proto: 50, later: true},
		{name: "a GRE key of any protocol", p: anyProto, proto: 47, want: true},
		{name: "the type", p: echo, proto: 1, sport: 8, want: true},
		{name: "another type", p: echo, proto: 1, sport: 0},
		{name: "a later fragment of a ping", p: echo, proto: 1, later: true, want: true},
		{name: "the mark", p: mark, proto: 89, mark: 0x102, want: true},
		{name: "another mark", p: mark, proto: 89, mark: 3},
		{name: "a port below 1024", p: privileged, proto: 17, dport: 1023, want: true},
		{name: "a port above", p: privileged, proto: 17, dport: 1024},
		{name: "another GRE key", p: gre, proto: 47, sport: 2, want: true},
		{name: "nothing", p: Program{}, proto: 6},
	} {
		pk := Packet{Src: netip.MustParseAddr("10.1.0.9"), Dst: netip.MustParseAddr("10.2.0.9"), Proto: c.proto,
			SrcPort: c.sport, DstPort: c.dport, Mark: c.mark, Later: c.later}
		if c.outside {
			pk.Dst = netip.MustParseAddr("10.2.1.9")
		}
		if got := c.p.Drops(pk); got != c.want {
			t.Errorf("%s: dropped %v, want %v", c.name, got, c.want)
		}
	}
}

// TestErrorsAreJudgedByWhatTheyQuote: where the answer to a packet requires IPsec, no error
// about it leaves in plaintext unless a policy is for the error.
func TestErrorsAreJudgedByWhatTheyQuote(t *testing.T) {
	own, dropped, passed := 0, 0, 0
	for seed := range int64(seeds) {
		d := dice{rand.New(rand.NewSource(seed))}
		policies := d.policies()
		rules, _ := Of(policies)
		p := Compile(rules)
		for range 60 {
			answer := d.packet(policies)
			e := Packet{Src: netip.MustParseAddr("192.0.2.1"), Dst: answer.Dst, Proto: protoICMP, SrcPort: 3}
			if answer.Dst.Is6() {
				e.Src, e.Proto, e.SrcPort = netip.MustParseAddr("2001:db8::1"), protoICMPv6, 1
			}
			quoted := Packet{Src: answer.Dst, Dst: answer.Src, Proto: answer.Proto, SrcPort: answer.DstPort,
				DstPort: answer.SrcPort}
			got := p.DropsError(e, quoted)
			if verdict, found := p.decides(e); found {
				if own++; got != verdict {
					t.Fatalf("seed %d: the error %+v is dropped: %v, and by its own addresses: %v", seed, e, got, verdict)
				}
				continue
			}
			if demands(decides(policies, answer)) && !got {
				t.Fatalf("seed %d: an error that quotes %+v leaves\n%s", seed, quoted, list(rules))
			}
			if got && !slices.ContainsFunc(policies, func(p *sadb.Policy) bool {
				answer.Mark = p.Key.Mark.Value // nobody knows its mark
				return lookedAt(p) && demands(p) && addressed(p, answer)
			}) {
				t.Fatalf("seed %d: an error is dropped that quotes %+v, for whose answer no policy requires IPsec\n%s",
					seed, quoted, list(rules))
			}
			if got {
				dropped++
			} else {
				passed++
			}
		}
	}
	t.Logf("%d decided by their own addresses, %d dropped, %d passed", own, dropped, passed)
	if min(own, dropped, passed) < seeds/2 {
		t.Error("the packets do not try everything")
	}
}

// manyRules makes rules of one shape.
func manyRules(n int) (list []Rule) {
	for i := range n {
		dst := netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
		list = append(list, require(uint32(i%7), Selector{Src: netip.MustParsePrefix("10.1.0.0/16"),
			Dst: netip.PrefixFrom(dst, 32)}))
	}
	rand.New(rand.NewSource(1)).Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func BenchmarkCompile(b *testing.B) {
	rules := manyRules(10_000)
	b.ReportAllocs()
	for b.Loop() {
		Compile(rules)
	}
}

func BenchmarkRoutes(b *testing.B) {
	rules := append(manyRules(10_000), bypass(3, sel("0.0.0.0/0", "100.0.9.0/24")))
	b.ReportAllocs()
	for b.Loop() {
		Routes(rules)
	}
}
