package rules

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"sasyncd/sync/guard"
	"sasyncd/tests/harness/netns"
)

// TestSinkOnThisKernel: what the sink lacks is put into the kernel, in the place of what it
// was, and leads where it shall; then nothing is lacking. The device is another one, as not
// every kernel can have the sink's own.
func TestSinkOnThisKernel(t *testing.T) {
	netns.Enter(t)
	null := netns.Veth(t, "null0", "null1")
	out := netns.Veth(t, "out0", "out1", "10.1.0.1/16", "fd01::1/64")
	for _, any := range []string{"0.0.0.0/0", "::/0"} {
		_, dst, err := net.ParseCIDR(any)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: out, Dst: dst}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenSink()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	set := func(routes []guard.Route) (changes, leftOut int) {
		t.Helper()
		steps, leftOut, err := s.plan(routes, uint32(null))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			changes += len(step)
			if err := s.routing.applyChunks(step); err != nil {
				t.Fatal(err)
			}
		}
		return changes, leftOut
	}
	leads := func(when string, want map[string]int) {
		t.Helper()
		for to, index := range want {
			from := netip.MustParseAddr("10.1.0.1")
			if netip.MustParseAddr(to).Is6() {
				from = netip.MustParseAddr("fd01::1")
			}
			if r, ok := netns.Way(from, netip.MustParseAddr(to)); !ok || r.LinkIndex != index {
				t.Errorf("%s: what is for %s leaves by interface %d (%v), want %d", when, to, r.LinkIndex, ok, index)
			}
		}
	}
	route := func(src, dst string, pass bool) guard.Route {
		return guard.Route{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst), Pass: pass}
	}
	const one, other, one6, other6 = "10.2.0.9", "10.3.0.9", "fd02::9", "fd03::9"
	for _, tt := range []struct {
		name   string
		routes []guard.Route
		want   map[string]int
	}{
		{"nothing", nil, map[string]int{one: out, other: out, one6: out, other6: out}},
		{"one of each family", []guard.Route{route("10.1.0.0/16", "10.2.0.0/16", false),
			route("fd01::/64", "fd02::/64", false)}, map[string]int{one: null, other: out, one6: null, other6: out}},
		{"others, and all", []guard.Route{route("10.1.0.0/16", "10.3.0.0/16", false), route("fd01::/64", "::/0", false)},
			map[string]int{one: out, other: null, one6: null, other6: null}},
		{"exceptions", []guard.Route{route("10.1.0.0/16", "10.0.0.0/8", false),
			route("10.1.0.0/16", "10.2.0.0/24", true), route("fd01::/64", "fd00::/8", false),
			route("fd01::/64", "fd03::9/128", true)}, map[string]int{one: out, other: null, one6: null, other6: out}},
		{"the exceptions the other way round", []guard.Route{route("10.1.0.0/16", "10.0.0.0/8", true),
			route("10.1.0.0/16", "10.2.0.0/24", false), route("fd01::/64", "fd00::/8", true),
			route("fd01::/64", "fd03::9/128", false)}, map[string]int{one: null, other: out, one6: out, other6: null}},
		{"a longer source", []guard.Route{route("10.1.0.0/16", "10.2.0.0/16", false),
			route("10.1.0.1/32", "10.2.0.0/16", true), route("10.1.0.1/32", "10.3.0.0/16", false),
			route("fd01::1/128", "fd02::/64", false)}, map[string]int{one: null, other: null, one6: null, other6: out}},
		{"of other sources", []guard.Route{route("10.7.0.0/16", "0.0.0.0/0", false), route("fd07::/64", "::/0", false)},
			map[string]int{one: out, other: out, one6: out, other6: out}},
		{"none of IPv6", []guard.Route{route("10.1.0.0/16", "10.2.0.0/16", false)},
			map[string]int{one: null, other: out, one6: out, other6: out}},
	} {
		if _, left := set(tt.routes); left != 0 {
			t.Errorf("%s: %d are left out", tt.name, left)
		}
		leads(tt.name, tt.want)
		if again, _ := set(tt.routes); again != 0 {
			t.Errorf("%s: %d changes the second time", tt.name, again)
		}
	}

	var many []guard.Route
	for i := range SinkTables + 2 {
		many = append(many, guard.Route{Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24),
			Dst: netip.MustParsePrefix("10.2.0.0/16")})
	}
	many = append(many, route("fd01::/64", "fd02::/64", false))
	if _, left := set(many); left != 2 {
		t.Errorf("%d sources are left out, want 2", left)
	}
	leads("many", map[string]int{one: null, other: out, one6: null, other6: out})
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if n, _ := set(nil); n != 0 {
		t.Errorf("%d are left behind", n)
	}
	leads("removed", map[string]int{one: out, other: out, one6: out, other6: out})
	if there, err := s.There(nil); there || err != nil {
		t.Errorf("without its device it is there: %v, %v", there, err)
	}
}
