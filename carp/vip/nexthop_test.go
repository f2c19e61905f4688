package vip

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"sasyncd/tests/harness/netns"
)

func nextHops(t *testing.T) *NextHops {
	t.Helper()
	n, err := NewNextHops()
	ok(t, err)
	t.Cleanup(n.Close)
	return n
}

// neighbours lists those of an interface that match, sorted.
func neighbours(t *testing.T, index int, match func(netlink.Neigh) bool) (ips []netip.Addr) {
	t.Helper()
	list, err := netlink.NeighList(index, netlink.FAMILY_ALL)
	ok(t, err)
	for _, n := range list {
		if ip, is := netip.AddrFromSlice(n.IP); is && match(n) && !ip.IsMulticast() {
			ips = append(ips, ip.Unmap())
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return ips
}

// TestKeep: gateways of both families on the interfaces that are named are kept resolved,
// each hop of a route with several among them.
func TestKeep(t *testing.T) {
	index, _ := inside(t)
	other := netns.Veth(t, "out0", "far0", "192.0.2.11/24")
	gw := func(s string) net.IP { return net.IP(netip.MustParseAddr(s).AsSlice()) }
	_, six, err := net.ParseCIDR("2001:db8:9::/48")
	ok(t, err)
	for _, r := range []netlink.Route{
		{LinkIndex: index, Gw: gw("10.1.0.254"), Dst: netlink.NewIPNet(gw("198.51.100.1"))},
		{LinkIndex: index, Gw: gw("10.1.0.254"), Dst: netlink.NewIPNet(gw("198.51.100.2"))}, // the same
		{LinkIndex: index, Gw: gw("fd00:1::fe"), Dst: six},
		{LinkIndex: other, Gw: gw("192.0.2.254"), Dst: netlink.NewIPNet(gw("198.51.100.3"))},
		{Dst: netlink.NewIPNet(gw("198.51.100.4")), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: index, Gw: gw("10.1.0.252")}, {LinkIndex: index, Gw: gw("10.1.0.253")},
			{LinkIndex: other, Gw: gw("192.0.2.253")}}},
	} {
		ok(t, netlink.RouteAdd(&r))
	}
	n := nextHops(t)
	managed := func(nb netlink.Neigh) bool { return nb.FlagsExt&netlink.NTF_EXT_MANAGED != 0 }
	for range 2 {
		ok(t, n.Keep([]int{index}))
		want := []netip.Addr{netip.MustParseAddr("10.1.0.252"), netip.MustParseAddr("10.1.0.253"),
			netip.MustParseAddr("10.1.0.254"), netip.MustParseAddr("fd00:1::fe")}
		if got := neighbours(t, index, managed); !slices.Equal(got, want) {
			t.Errorf("kept %v, want %v", got, want)
		}
		if got := neighbours(t, other, managed); len(got) > 0 {
			t.Errorf("kept on another interface: %v", got)
		}
	}
}

// TestPurge: packets that wait for neighbours go with them, on the interfaces named, and
// who answers stays. Nothing is left that keeps ICMP from leaving.
func TestPurge(t *testing.T) {
	index, _ := inside(t)
	other := netns.Veth(t, "out0", "far0", "192.0.2.11/24")
	add := func(index int, ip string, state int) {
		t.Helper()
		nb := &netlink.Neigh{LinkIndex: index, IP: netip.MustParseAddr(ip).AsSlice(), State: state}
		if state == netlink.NUD_PERMANENT || state == netlink.NUD_REACHABLE {
			nb.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		}
		ok(t, netlink.NeighSet(nb))
	}
	wait := func(ip string) { // as a packet that nobody answers for
		t.Helper()
		c, err := net.Dial("udp", net.JoinHostPort(ip, "9"))
		ok(t, err)
		_, _ = c.Write([]byte("x"))
		c.Close()
	}
	add(index, "10.1.0.77", netlink.NUD_PERMANENT)
	add(index, "fd00:1::77", netlink.NUD_REACHABLE)
	add(index, "10.1.0.78", netlink.NUD_FAILED)
	wait("10.1.0.99")
	wait("fd00:1::99")
	wait("192.0.2.99")
	pending := func(nb netlink.Neigh) bool { return nb.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) != 0 }
	if got := neighbours(t, index, pending); len(got) != 3 {
		t.Fatalf("waiting: %v", got)
	}
	n := nextHops(t)
	ok(t, n.Purge([]int{index}))
	if got := neighbours(t, index, pending); len(got) > 0 {
		t.Errorf("still waiting: %v", got)
	}
	if got := neighbours(t, index, func(nb netlink.Neigh) bool { return !pending(nb) }); len(got) != 2 {
		t.Errorf("of those that answer there are %v", got)
	}
	if got := neighbours(t, other, pending); len(got) != 1 {
		t.Errorf("on another interface: %v", got)
	}
	ruled := func(when string, want int) {
		t.Helper()
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			list, err := netlink.RuleList(family)
			ok(t, err)
			n := 0
			for _, r := range list {
				if r.Priority == mutePriority {
					n++
				}
			}
			if n != want {
				t.Errorf("%s: %d rules keep ICMP of family %d, want %d", when, n, family, want)
			}
		}
	}
	ruled("purged", 0)
	ok(t, n.mute(true))
	ok(t, n.mute(true))
	ruled("muted", 1)
	nextHops(t) // of a process that comes after one that was killed
	ruled("another process", 0)
}

// TestOwn: what this node knows of addresses that it has taken goes, and of others stays.
func TestOwn(t *testing.T) {
	index, as := inside(t)
	n := nextHops(t)
	for _, ip := range append(slices.Clone(both), netip.MustParseAddr("10.1.0.9")) {
		ok(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: index, IP: ip.AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	}
	for range 2 { // who is not known is no error
		ok(t, n.Own(as))
		got := neighbours(t, index, func(nb netlink.Neigh) bool { return nb.State&netlink.NUD_PERMANENT != 0 })
		if !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.1.0.9")}) {
			t.Errorf("known: %v", got)
		}
	}
}
