package guard

import (
	"net/netip"
	"slices"
	"testing"

	"sasyncd/sync/sadb"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.1")
)

// policy makes an outbound policy with templates.
func policy(src, dst string, templates ...sadb.Template) *sadb.Policy {
	return &sadb.Policy{Priority: 10, Templates: templates, Key: sadb.PolicyKey{Dir: sadb.DirOut,
		Selector: sadb.SelectorOf(netip.MustParsePrefix(src), netip.MustParsePrefix(dst))}}
}

func template(src, dst netip.Addr, mode sadb.Mode) sadb.Template {
	return sadb.Template{Src: src, Dst: dst, Proto: sadb.ProtoESP, Mode: mode}
}

func TestRuleOfAPolicy(t *testing.T) {
	tunnel := template(here, there, sadb.ModeTunnel)
	optional := tunnel
	optional.Optional = true
	transport := template(netip.Addr{}, netip.Addr{}, sadb.ModeTransport)
	lan := sel("10.1.0.0/24", "10.2.0.0/24")
	lanPolicy := func(tt ...sadb.Template) *sadb.Policy { return policy("10.1.0.0/24", "10.2.0.0/24", tt...) }
	change := func(p *sadb.Policy, f func(*sadb.Policy)) *sadb.Policy { f(p); return p }
	ports := func(proto uint8, sport, smask, dport, dmask uint16) func(*sadb.Policy) {
		return func(p *sadb.Policy) {
			s := &p.Key.Selector
			s.Proto, s.SrcPort, s.SrcPortMask, s.DstPort, s.DstPortMask = proto, sport, smask, dport, dmask
		}
	}
	low := lan.with(6, 0, 1)
	low.DstPort, low.DstPortMask = 0x0100, 0xff00
	marked := lan
	marked.Mark, marked.MarkMask = 2, 0xff
	for _, c := range []struct {
		name string
		p    *sadb.Policy
		want *Rule
		left Left
	}{
		{"a tunnel", lanPolicy(tunnel), &Rule{Selector: lan, Priority: 10, Require: true}, Left{}},
		{"transport keeps the addresses", lanPolicy(transport),
			&Rule{Selector: lan, Priority: 10, Require: true, NoRoute: true}, Left{}},
		{"transport in a tunnel does not", lanPolicy(transport, tunnel),
			&Rule{Selector: lan, Priority: 10, Require: true}, Left{}},
		{"a tunnel may be missing", lanPolicy(transport, optional),
			&Rule{Selector: lan, Priority: 10, Require: true, NoRoute: true}, Left{}},
		{"an optional template is a bypass", lanPolicy(optional), &Rule{Selector: lan, Priority: 10}, Left{}},
		{"one of two", lanPolicy(optional, tunnel), &Rule{Selector: lan, Priority: 10, Require: true}, Left{}},
		{"no template is a bypass", lanPolicy(), &Rule{Selector: lan, Priority: 10}, Left{}},
		{"a block", change(lanPolicy(), func(p *sadb.Policy) { p.Action = sadb.ActionBlock }),
			&Rule{Selector: lan, Priority: 10, Require: true}, Left{}},
		{"a tunnel through itself", policy("192.0.2.0/24", "0.0.0.0/0", tunnel),
			&Rule{Selector: sel("192.0.2.0/24", "0.0.0.0/0"), Priority: 10, Require: true, NoRoute: true}, Left{}},
		{"a tunnel whose near end is the kernel's choice",
			policy("10.1.0.0/24", "0.0.0.0/0", template(netip.IPv4Unspecified(), there, sadb.ModeTunnel)),
			&Rule{Selector: sel("10.1.0.0/24", "0.0.0.0/0"), Priority: 10, Require: true, NoRoute: true}, Left{}},
		{"bits that do not count", change(policy("10.1.0.7/24", "10.2.0.9/24", tunnel), ports(6, 5, 0, 0x01bb, 0xff00)),
			&Rule{Selector: low, Priority: 10, Require: true}, Left{}},
		{"a mark", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Mark = sadb.Mark{Value: 2, Mask: 0xff} }),
			&Rule{Selector: marked, Priority: 10, Require: true}, Left{}},
		{"IPv6", policy("2001:db8:1::/64", "2001:db8:2::/64", tunnel),
			&Rule{Selector: sel("2001:db8:1::/64", "2001:db8:2::/64"), Priority: 10, Require: true}, Left{}},
		{"a GRE key", change(lanPolicy(tunnel), ports(47, 0, 0xffff, 7, 0xffff)),
			&Rule{Selector: lan.with(47, 0, 0), Priority: 10, Require: true}, Left{}},
		{"a bypass with a GRE key", change(lanPolicy(), ports(47, 0, 0xffff, 7, 0xffff)), nil, Left{Keys: 1}},
		{"a mark that no packet has", change(lanPolicy(tunnel),
			func(p *sadb.Policy) { p.Key.Mark = sadb.Mark{Value: 3, Mask: 1} }), nil, Left{Never: 1}},
		{"a port of ESP", change(lanPolicy(tunnel), ports(50, 0, 0, 7, 0xffff)), nil, Left{Never: 1}},
		{"a port of DCCP, which the kernel does not read", change(lanPolicy(tunnel), ports(33, 0, 0, 7, 0xffff)), nil,
			Left{Never: 1}},
		{"inbound", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Dir = sadb.DirIn }), nil, Left{}},
		{"of a socket", change(lanPolicy(), func(p *sadb.Policy) { p.Socket = true }), nil, Left{Socket: 1}},
		{"of type sub", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Sub = true }), nil, Left{Sub: 1}},
		{"with an if_id", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.IfID = 1 }), nil, Left{IfID: 1}},
		{"with an interface", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Selector.Interface = "lo" }), nil,
			Left{Interface: 1}},
		{"with a security context", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.SecCtx = "x" }), nil,
			Left{SecCtx: 1}},
		{"without a family", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Selector.Family = 0 }), nil,
			Left{Family: 1}},
		{"too long a prefix", change(lanPolicy(tunnel), func(p *sadb.Policy) { p.Key.Selector.DstLen = 33 }), nil,
			Left{Family: 1}},
	} {
		rules, left := Of([]*sadb.Policy{c.p})
		var want []Rule
		if c.want != nil {
			want = []Rule{*c.want}
		}
		if !slices.Equal(rules, want) {
			t.Errorf("%s: rules %+v, want %+v", c.name, rules, want)
		}
		if left != c.left {
			t.Errorf("%s: left out %s, want %s", c.name, left, c.left)
		}
	}
}

func TestOrderOfRules(t *testing.T) {
	var policies []*sadb.Policy
	for i, priority := range []uint32{5, 1, 5, 0, 1} {
		p := policy("10.1.0.0/24", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), 0}), 24).String())
		p.Priority = priority
		policies = append(policies, p)
	}
	rules, _ := Of(policies)
	got := ""
	for _, r := range rules {
		got += r.Dst.String() + " "
	}
	if want := "10.2.3.0/24 10.2.1.0/24 10.2.4.0/24 10.2.0.0/24 10.2.2.0/24 "; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

func TestLeftInWords(t *testing.T) {
	for want, l := range map[string]Left{
		"none":                               {},
		"2 with an if_id":                    {IfID: 2},
		"1 of type sub, 3 with an interface": {Sub: 1, Interface: 3},
	} {
		if got := l.String(); got != want {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
	if got := (Left{Socket: 1, Keys: 2, Never: 4}).Total(); got != 7 {
		t.Errorf("total %d, want 7", got)
	}
}

// TestTunnelsThroughOthers: an end of a tunnel that has no rule counts as well.
func TestTunnelsThroughOthers(t *testing.T) {
	other := policy("10.9.0.0/24", "10.8.0.0/24", template(here, there, sadb.ModeTunnel))
	other.Key.IfID = 3
	far := netip.MustParseAddr("203.0.113.1")
	rules, _ := Of([]*sadb.Policy{other,
		policy("192.0.2.0/24", "198.51.100.0/24", template(here, far, sadb.ModeTunnel)),
		policy("192.0.2.0/24", "198.51.101.0/24", template(here, far, sadb.ModeTunnel))})
	if len(rules) != 2 || !rules[0].NoRoute || rules[1].NoRoute {
		t.Errorf("rules %+v: the first has the ends of a tunnel, the second has not", rules)
	}
}
