package rules

import (
	"net/netip"
	"slices"
	"testing"

	nlib "github.com/vishvananda/netlink"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/netns"
)

// TestHold: those interfaces are held that were named last, in both families, and what
// was not as it should be is told.
func TestHold(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	h, err := OpenHold()
	ok(t, err)
	t.Cleanup(func() { ok(t, h.Close()) })
	held := func(when string, want ...string) {
		t.Helper()
		got, err := h.Held(t.Context())
		ok(t, err)
		slices.Sort(got)
		list, err := h.routing.rules(t.Context())
		ok(t, err)
		if !slices.Equal(got, want) || len(list) != 2*len(want) {
			t.Errorf("%s: %v are held, with %d rules, want %v and two for each", when, got, len(list), want)
		}
	}
	mend := func(when string, missing, foreign []string, names ...string) {
		t.Helper()
		m, f, err := h.Mend(t.Context(), names...)
		ok(t, err)
		if !slices.Equal(m, missing) || !slices.Equal(f, foreign) {
			t.Errorf("%s: missing %v, foreign %v, want %v, %v", when, m, f, missing, foreign)
		}
	}
	held("at first")
	ok(t, h.Set(t.Context(), "in0", "in1"))
	held("two", "in0", "in1")
	mend("nothing happened", nil, nil, "in0", "in1")
	ok(t, h.routing.apply(delRule(holdRule("in1", sadb.FamilyIPv6))))
	mend("one was taken away in one family", []string{"in1"}, nil, "in0", "in1")
	held("mended", "in0", "in1")
	ok(t, h.routing.apply(delRule(holdRule("in0", sadb.FamilyIPv4)), addRule(holdRule("in9", sadb.FamilyIPv4))))
	mend("one was taken away, another added", []string{"in0"}, []string{"in9"}, "in0", "in1")
	held("mended again", "in0", "in1")
	ok(t, h.Set(t.Context(), "in1", "in2"))
	held("others", "in1", "in2")
	ok(t, h.Set(t.Context()))
	held("none")
}

// TestHoldStopsForwarding: what comes in by a held interface is not routed on, and what
// is for the node is.
func TestHoldStopsForwarding(t *testing.T) {
	link := gateway(t)
	netns.Veth(t, "in0", "host0", "10.1.0.1/24")
	netns.Set(t, "ipv4/ip_forward", "1")
	in, err := nlib.LinkByName("in0")
	ok(t, err)
	through := func(to netip.Addr) bool {
		list, err := nlib.RouteGetWithOptions(to.AsSlice(), &nlib.RouteGetOptions{SrcAddr: []byte{10, 1, 0, 9},
			IifIndex: in.Attrs().Index})
		return err == nil && len(list) == 1
	}
	h, err := OpenHold()
	ok(t, err)
	t.Cleanup(func() { ok(t, h.Close()) })
	for _, held := range []bool{false, true, false} {
		var names []string
		if held {
			names = []string{"in0"}
		}
		ok(t, h.Set(t.Context(), names...))
		if through(far4) == held || !through(vip4) {
			t.Errorf("held %v: forwarded %v, for the node itself %v (interface %d)", held, through(far4), through(vip4),
				link)
		}
	}
}

// TestDetour: what comes from a backup's own address inside goes to its link, everything
// else to the master, and nothing is left when it ends.
func TestDetour(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	link := netns.Veth(t, "in0", "host0", "10.1.0.11/24", "fd00:1::11/64")
	netns.Veth(t, "out0", "far0", "192.0.2.11/24", "2001:db8::11/64")
	own := []xfrm.Own{
		{Prefix: netip.MustParsePrefix("10.1.0.11/24"), Link: link, Via: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("fd00:1::11/64"), Link: link, Via: netip.MustParseAddr("fd00:1::1")},
	}
	d, err := OpenDetour()
	ok(t, err)
	t.Cleanup(func() { ok(t, d.Close()) })
	check := func(when string, detour bool, list ...xfrm.Own) {
		t.Helper()
		for _, o := range list {
			near, beyond := o.Prefix.Addr().Next(), far4
			if o.Prefix.Addr().Is6() {
				beyond = far6
			}
			way, leaves := netns.Way(o.Prefix.Addr(), near)
			if !leaves || way.LinkIndex != link || way.Gw != nil {
				t.Errorf("%s: to %s on its link: %v", when, near, way)
			}
			way, leaves = netns.Way(o.Prefix.Addr(), beyond)
			if via, _ := netip.AddrFromSlice(way.Gw); !leaves || (via.Unmap() == o.Via) != detour {
				t.Errorf("%s: to %s by %v, a detour %v", when, beyond, way, detour)
			}
		}
	}
	check("at first", false, own...)
	for range 2 {
		ok(t, d.Set(t.Context(), own...))
		check("set", true, own...)
	}
	ok(t, d.Set(t.Context(), own[1]))
	check("one ended", false, own[0])
	check("the other", true, own[1])
	ok(t, d.Set(t.Context(), own...))
	// A process that comes later takes the rules away that it does not want.
	next, err := OpenDetour()
	ok(t, err)
	t.Cleanup(func() { ok(t, next.Close()) })
	ok(t, next.Set(t.Context(), own[0]))
	check("another process", true, own[0])
	check("another process ended it", false, own[1])
	ok(t, d.Set(t.Context(), own...))
	ok(t, d.Set(t.Context()))
	check("ended", false, own...)
	if list, err := d.routing.rules(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("rules are left: %v %v", list, err)
	}
	for _, family := range []int{nlib.FAMILY_V4, nlib.FAMILY_V6} {
		list, err := nlib.RouteListFiltered(family, &nlib.Route{Table: DetourTable + link}, nlib.RT_FILTER_TABLE)
		if err != nil || len(list) > 0 {
			t.Errorf("routes are left: %v %v", list, err)
		}
	}
	// Where the way to the master is missing nothing leaves in plaintext by another one.
	ok(t, d.Set(t.Context(), own[0]))
	ok(t, d.routing.apply(delRoute(detourRoutes(own[0])[1])))
	if way, leaves := netns.Way(own[0].Prefix.Addr(), far4); leaves {
		t.Errorf("without the master it leaves by %v", way)
	}
}
