package vip

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/netns"
)

func virtual(t *testing.T) *Virtual {
	t.Helper()
	v, err := NewVirtual()
	ok(t, err)
	t.Cleanup(v.Close)
	return v
}

// macvlans lists the virtual interfaces by name, and whether they are up.
func macvlans(t *testing.T) map[string]bool {
	t.Helper()
	list, err := netlink.LinkList()
	ok(t, err)
	out := make(map[string]bool)
	for _, l := range list {
		if l.Type() == "macvlan" {
			out[l.Attrs().Name] = l.Attrs().RawFlags&unix.IFF_UP != 0
		}
	}
	return out
}

// TestVirtual: addresses of one MAC share an interface with it, which is up while it has
// any, and those without are where they were.
func TestVirtual(t *testing.T) {
	index, _ := inside(t)
	v := virtual(t)
	mac4, mac6 := packet.VirtualMAC(10, false), packet.VirtualMAC(10, true)
	second := netip.MustParseAddr("10.1.0.2")
	as := []Address{
		{IP: four, Index: index, MAC: mac4, Virtual: true},
		{IP: second, Index: index, MAC: mac4, Virtual: true},
		{IP: six, Index: index, MAC: mac6, Virtual: true},
		{IP: netip.MustParseAddr("10.1.0.3"), Index: index},
	}
	const lease = 5 * time.Second
	where := func(when string) map[netip.Addr]string {
		t.Helper()
		list, err := Addresses(0)
		ok(t, err)
		out := make(map[netip.Addr]string)
		for _, a := range list {
			l, err := netlink.LinkByIndex(a.Index)
			ok(t, err)
			if a.Flags&unix.IFA_F_PERMANENT == 0 {
				out[a.IP] = l.Attrs().Name
			}
		}
		return out
	}
	name4, name6 := MACName(index, mac4), MACName(index, mac6)
	check := func(when string) {
		t.Helper()
		got := where(when)
		if got[four] != name4 || got[second] != name4 || got[six] != name6 || got[as[3].IP] != "in0" || len(got) != 4 {
			t.Errorf("%s: %v", when, got)
		}
		if up := macvlans(t); len(up) != 2 || !up[name4] || !up[name6] {
			t.Errorf("%s: interfaces %v", when, up)
		}
		for name, mac := range map[string]packet.MAC{name4: mac4, name6: mac6} {
			l, err := netlink.LinkByName(name)
			ok(t, err)
			mv, is := l.(*netlink.Macvlan)
			if !is || mv.ParentIndex != index || mv.HardwareAddr.String() != net.HardwareAddr(mac[:]).String() ||
				mv.Mode != netlink.MACVLAN_MODE_BRIDGE {
				t.Errorf("%s: %+v", name, l)
			}
		}
	}
	late, err := v.Acquire(as, lease)
	ok(t, err)
	if len(late) > 0 {
		t.Errorf("late: %v", late)
	}
	check("acquired")
	list, err := Addresses(0)
	ok(t, err)
	for _, a := range list {
		l, err := netlink.LinkByIndex(a.Index)
		ok(t, err)
		if l.Type() == "macvlan" && a.IP.IsLinkLocalUnicast() {
			t.Errorf("%s has a link-local address of its own: %v", l.Attrs().Name, a.IP)
		}
	}
	ok(t, v.Renew(as, lease))
	check("renewed")
	l, err := netlink.LinkByName(name6)
	ok(t, err)
	ok(t, netlink.LinkDel(l))
	ok(t, v.Renew(as, lease))
	check("an interface was removed")
	l, err = netlink.LinkByName(name4)
	ok(t, err)
	ok(t, netlink.LinkSetDown(l))
	if _, err := v.Mend(as, lease); err != nil {
		t.Error(err)
	}
	check("an interface was set down")
	ok(t, v.Release(as[:1]))
	if got := where("one released"); got[four] != "" || got[second] != name4 {
		t.Errorf("one released: %v", got)
	}
	if up := macvlans(t); !up[name4] {
		t.Error("an interface that has another address was set down")
	}
	ok(t, v.Release(as))
	if got, up := where("released"), macvlans(t); len(got) > 0 || len(up) != 2 || up[name4] || up[name6] {
		t.Errorf("released: %v on %v", got, up)
	}
	ok(t, v.Release(as)) // again
}

// TestVirtualRefuses: an interface of somebody else that has the name is not used, and the
// other addresses are held all the same.
func TestVirtualRefuses(t *testing.T) {
	index, _ := inside(t)
	v := virtual(t)
	mac := packet.VirtualMAC(10, false)
	name := MACName(index, mac)
	netns.Veth(t, name, "far0")
	as := []Address{{IP: four, Index: index, MAC: mac, Virtual: true}, {IP: six, Index: index}}
	if _, err := v.Acquire(as, 2*time.Second); err == nil {
		t.Error("an interface of somebody else was used")
	}
	if got := on(t, 0, both...); len(got) != 1 || got[six].Index != index {
		t.Errorf("held: %v", got)
	}
	l, err := netlink.LinkByName(name)
	ok(t, err)
	ok(t, netlink.LinkDel(l))
	// One of ours with another MAC is not ours either.
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex, a.HardwareAddr = name, index, net.HardwareAddr{2, 0, 0, 0, 0, 9}
	ok(t, netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	if _, err := v.Acquire(as[:1], 2*time.Second); err == nil {
		t.Error("an interface with another MAC was used")
	}
	// Nor is one on another interface.
	l, err = netlink.LinkByName(name)
	ok(t, err)
	ok(t, netlink.LinkDel(l))
	a.ParentIndex, a.HardwareAddr = netns.Veth(t, "other0", "other1"), net.HardwareAddr(mac[:])
	ok(t, netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	if _, err := v.Acquire(as[:1], 2*time.Second); err == nil {
		t.Error("an interface on another one was used")
	}
}

// TestVirtualOwner: an owner's address with a MAC of its own is never where the system has
// configured it, so it is held as any other.
func TestVirtualOwner(t *testing.T) {
	index, _ := inside(t)
	v := virtual(t)
	own := netip.MustParseAddr("10.1.0.11") // which the interface has
	as := []Address{{IP: own, Index: index, MAC: packet.VirtualMAC(10, false), Virtual: true, Owner: true}}
	_, err := v.Acquire(as, 5*time.Second)
	ok(t, err)
	ok(t, v.Renew(as, 5*time.Second))
	if up := macvlans(t); len(up) != 1 || !up[MACName(index, as[0].MAC)] {
		t.Errorf("interfaces %v", up)
	}
	list, err := Addresses(0)
	ok(t, err)
	n := 0
	for _, a := range list {
		if a.IP == own {
			n++
		}
	}
	if n != 2 {
		t.Errorf("it is there %d times, want 2", n)
	}
	ok(t, v.Release(as))
	if up := macvlans(t); up[MACName(index, as[0].MAC)] {
		t.Error("released, its interface is up")
	}
}

// TestVirtualWithoutParent: what has gone with its interface is no error to release.
func TestVirtualWithoutParent(t *testing.T) {
	index, _ := inside(t)
	v := virtual(t)
	as := []Address{{IP: four, Index: index, MAC: packet.VirtualMAC(10, false), Virtual: true}}
	_, err := v.Acquire(as, 2*time.Second)
	ok(t, err)
	l, err := netlink.LinkByName("in0")
	ok(t, err)
	ok(t, netlink.LinkDel(l))
	ok(t, v.Release(as))
	if _, err := v.Acquire(as, 2*time.Second); err == nil {
		t.Error("acquired without an interface")
	}
	if up := macvlans(t); len(up) > 0 {
		t.Errorf("interfaces %v", up)
	}
}

// TestAnnounceSays: each address is announced with its own MAC in the way of its family,
// and a node that does not forward is no router, in every round.
func TestAnnounceSays(t *testing.T) {
	as := []Address{
		{IP: four, Index: 3, MAC: packet.MAC{2, 0, 0, 0, 0, 1}},
		{IP: six, Index: 3, MAC: packet.MAC{2, 0, 0, 0, 0, 2}},
		{IP: six, Index: 4, MAC: packet.MAC{2, 0, 0, 0, 0, 3}},
	}
	type sent struct {
		index int
		frame string
	}
	var got []sent
	n := &Announcer{routes: func(index int) bool { return index == 3 }, send: func(index int, b []byte) error {
		got = append(got, sent{index, string(b)})
		return nil
	}}
	ok(t, n.Announce(as))
	var want []sent
	for range rounds {
		want = append(want, sent{3, string(packet.AppendGratuitousARP(nil, as[0].MAC, four))},
			sent{3, string(packet.AppendUnsolicitedNA(nil, as[1].MAC, six, true))},
			sent{4, string(packet.AppendUnsolicitedNA(nil, as[2].MAC, six, false))})
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d frames, want %d:\n%x\n%x", len(got), len(want), got, want)
	}
}

// TestAnnouncerSends: frames arrive on the other side of the interface, and a node says
// that it is a router where it forwards.
func TestAnnouncerSends(t *testing.T) {
	index, as := inside(t)
	for i := range as {
		as[i].MAC = packet.MAC{2, 0, 0, 0, 0, byte(i + 1)}
	}
	n, err := NewAnnouncer()
	ok(t, err)
	t.Cleanup(func() { ok(t, n.Close()) })
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	peer, err := netlink.LinkByName("host0")
	ok(t, err)
	all := uint16(unix.ETH_P_ALL)
	ok(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: peer.Attrs().Index}))
	limit := unix.Timeval{Sec: 5}
	ok(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	for _, forwards := range []string{"0", "1"} {
		netns.Set(t, "ipv6/conf/in0/forwarding", forwards)
		if got := routes(index); got != (forwards == "1") {
			t.Errorf("forwarding %s: routes %v", forwards, got)
		}
		ok(t, n.Announce(as))
		want := map[string]int{string(packet.AppendGratuitousARP(nil, as[0].MAC, four)): rounds,
			string(packet.AppendUnsolicitedNA(nil, as[1].MAC, six, forwards == "1")): rounds}
		b := make([]byte, 256)
		for len(want) > 0 {
			l, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatalf("forwarding %s: %d kinds of frames have not come: %v", forwards, len(want), err)
			}
			if want[string(b[:l])]--; want[string(b[:l])] <= 0 {
				delete(want, string(b[:l]))
			}
		}
	}
}

// TestVirtualSettings: what of net.ipv4.conf a virtual MAC needs is set, at it and at its
// parent. A kernel that checks sources strictly is not to do so there.
func TestVirtualSettings(t *testing.T) {
	index, _ := inside(t)
	read := func(device, name string) string {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + device + "/" + name)
		ok(t, err)
		return strings.TrimSpace(string(b))
	}
	for id, check := range map[uint8][2]string{10: {"0", "0"}, 11: {"1", "2"}, 12: {"2", "2"}} {
		netns.Set(t, "ipv4/conf/all/rp_filter", check[0])
		netns.Set(t, "ipv4/conf/default/rp_filter", check[0])
		for _, name := range []string{"arp_ignore", "arp_filter", "arp_announce"} {
			netns.Set(t, "ipv4/conf/in0/"+name, "0")
		}
		v := virtual(t)
		mac := packet.VirtualMAC(id, false)
		as := []Address{{IP: four, Index: index, MAC: mac, Virtual: true}}
		_, err := v.Acquire(as, 5*time.Second)
		ok(t, err)
		for _, s := range [][3]string{{MACName(index, mac), "arp_ignore", "1"}, {MACName(index, mac), "arp_announce", "2"},
			{MACName(index, mac), "accept_local", "1"}, {MACName(index, mac), "rp_filter", check[1]},
			{"in0", "arp_ignore", "1"}, {"in0", "arp_announce", "2"}, {"in0", "arp_filter", "1"}} {
			if got := read(s[0], s[1]); got != s[2] {
				t.Errorf("rp_filter of all is %s: %s of %s is %s, want %s", check[0], s[1], s[0], got, s[2])
			}
		}
		ok(t, v.Release(as))
	}
}

// TestReleaseLeavesInterfacesUp: an interface that is no virtual one stays up without an
// address.
func TestReleaseLeavesInterfacesUp(t *testing.T) {
	index, _ := inside(t)
	bare := netns.Veth(t, "in1", "host1")
	netns.Set(t, "ipv6/conf/in1/disable_ipv6", "1")
	v := virtual(t)
	as := []Address{{IP: four, Index: bare}, {IP: four, Index: index, MAC: packet.VirtualMAC(10, false), Virtual: true}}
	_, err := v.Acquire(as, 5*time.Second)
	ok(t, err)
	ok(t, v.Release(as))
	if list, err := Addresses(bare); err != nil || len(list) > 0 {
		t.Fatalf("addresses %v, %v", list, err)
	}
	l, err := netlink.LinkByName("in1")
	ok(t, err)
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		t.Error("an interface was set down")
	}
}
