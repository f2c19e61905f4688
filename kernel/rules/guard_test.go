package rules

import (
	"net/netip"
	"testing"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/netns"
)

// TestGuard: nothing goes where the policies led, until they are there again and the guard
// is lifted.
func TestGuard(t *testing.T) {
	gateway(t)
	g, err := OpenGuard()
	ok(t, err)
	t.Cleanup(func() { ok(t, g.Close()) })
	own4, own6 := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
	inside4, inside6 := netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("2001:db8::/123")
	policies := []*sadb.Policy{
		outbound("10.1.0.0/24", inside4.String(), vip4, far4, 1), outbound("10.7.0.0/24", inside4.String(), vip4, far4, 2),
		outbound("fd01::/64", inside6.String(), vip6, far6, 3),
	}
	install := func(kind sadb.OpKind, list ...*sadb.Policy) {
		t.Helper()
		var ops []sadb.Op
		for _, p := range list {
			ops = append(ops, sadb.Op{Kind: kind, Policy: p})
		}
		for _, err := range g.k.Apply(t.Context(), ops) {
			ok(t, err)
		}
	}
	leaves := func(when string, four, six bool) {
		t.Helper()
		_, to4 := netns.Way(own4, far4)
		_, to6 := netns.Way(own6, netip.MustParseAddr("2001:db8::1f"))
		if to4 != four || to6 != six {
			t.Errorf("%s: leaves IPv4 %v, IPv6 %v, want %v, %v", when, to4, to6, four, six)
		}
	}
	missing := func(when string, want int, set bool) {
		t.Helper()
		n, is, err := g.Missing(t.Context())
		ok(t, err)
		if n != want || is != set {
			t.Errorf("%s: %d missing, set %v, want %d, %v", when, n, is, want, set)
		}
	}
	if n, err := g.Set(t.Context()); n != 0 || err != nil {
		t.Errorf("without policies %d destinations are guarded: %v", n, err)
	}
	missing("without policies", 0, false)
	unguarded := outbound("10.1.0.0/24", "10.9.0.0/24", vip4, far4, 4)
	unguarded.Templates = nil
	ofInterface, inbound := outbound("10.1.0.0/24", "10.10.0.0/24", vip4, far4, 5), outbound("10.11.0.0/24",
		"10.1.0.0/24", far4, vip4, 6)
	ofInterface.Key.IfID, inbound.Key.Dir = 5, sadb.DirIn
	install(sadb.OpAddPolicy, append(policies, unguarded, ofInterface, inbound)...)
	// The far end of IPv6 is in the network of an address of ours, so what is forwarded is held.
	if n, err := g.Set(t.Context()); n != 2 || err != nil {
		t.Errorf("%d destinations are guarded, want 2: %v", n, err)
	}
	missing("all there", 0, true)
	leaves("guarded", false, true)
	if list, err := g.rules(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("rules %v: %v", list, err)
	}
	if left, err := g.Left(t.Context()); left || err != nil {
		t.Errorf("left %v: %v", left, err)
	}
	install(sadb.OpDeletePolicy, policies[1])
	missing("one of two to a destination", 1, true)
	install(sadb.OpDeletePolicy, policies[0], policies[2])
	missing("none", 2, true)
	leaves("without policies", false, true)
	ok(t, g.Leave(t.Context()))
	if left, err := g.Left(t.Context()); !left || err != nil {
		t.Errorf("left %v: %v", left, err)
	}
	install(sadb.OpAddPolicy, policies...)
	missing("back", 0, true)
	if _, err := g.Set(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := g.Left(t.Context()); left || err != nil {
		t.Errorf("set again, left %v: %v", left, err)
	}
	ok(t, g.Leave(t.Context()))
	ok(t, g.Lift(t.Context()))
	leaves("lifted", true, true)
	missing("lifted", 0, false)
	if list, err := g.rules(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("rules are left: %v %v", list, err)
	}
}

// outbound is a policy of a tunnel.
func outbound(src, dst string, from, to netip.Addr, reqid uint32) *sadb.Policy {
	p := &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sadb.SelectorOf(netip.MustParsePrefix(src),
		netip.MustParsePrefix(dst))}, Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit,
		SoftPackets: sadb.NoLimit, HardPackets: sadb.NoLimit}}
	p.Templates = []sadb.Template{{Src: from, Dst: to, Family: sadb.FamilyOf(from), Proto: sadb.ProtoESP,
		Mode: sadb.ModeTunnel, Reqid: reqid, AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0)}}
	return p
}

// TestProtected asks the machine's kernel for policies, with and without an address.
func TestProtected(t *testing.T) {
	gateway(t)
	h, err := OpenHold()
	ok(t, err)
	t.Cleanup(func() { ok(t, h.Close()) })
	k, err := xfrm.New(xfrm.Options{})
	ok(t, err)
	t.Cleanup(func() { ok(t, k.Close()) })
	want := func(when string, want bool, vips ...netip.Addr) {
		t.Helper()
		if got, err := h.Protected(vips...); got != want || err != nil {
			t.Errorf("%s, %v: protected %v, want %v: %v", when, vips, got, want, err)
		}
	}
	add := func(p *sadb.Policy) {
		t.Helper()
		for _, err := range k.Apply(t.Context(), []sadb.Op{{Kind: sadb.OpAddPolicy, Policy: p}}) {
			ok(t, err)
		}
	}
	want("nothing", false)
	bypass := outbound("10.1.0.0/24", "10.9.0.0/24", vip4, far4, 4)
	bypass.Templates = nil
	add(bypass)
	want("a bypass", false)
	want("a bypass", false, vip4)
	add(outbound("fd01::/64", "fd02::/64", vip6, far6, 3))
	want("a tunnel of IPv6", true)
	want("a tunnel of IPv6", true, vip4, vip6)
	want("a tunnel of IPv6", true, far6)
	want("a tunnel of IPv6", false, vip4)
	transport := outbound("192.0.2.1/32", "192.0.2.200/32", netip.IPv4Unspecified(), netip.IPv4Unspecified(), 5)
	transport.Templates[0].Mode = sadb.ModeTransport
	add(transport)
	want("transport", true, vip4)
	want("transport", true, far4)
	want("transport", false, netip.MustParseAddr("192.0.2.2"))
}
