package vip

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/netns"
)

// What a failover does with addresses is shown in tests/election. Here is what the
// machine's kernel has after each call.

var (
	four, six = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")
	both      = []netip.Addr{four, six}
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside makes an interface, in a namespace of its own, and the two addresses on it.
func inside(t *testing.T) (index int, as []Address) {
	t.Helper()
	t.Parallel()
	netns.Enter(t)
	index = netns.Veth(t, "in0", "host0", "10.1.0.11/24", "fd00:1::11/64")
	return index, []Address{{IP: four, Index: index}, {IP: six, Index: index}}
}

func plain(t *testing.T) *Plain {
	t.Helper()
	p, err := NewPlain()
	ok(t, err)
	t.Cleanup(p.Close)
	return p
}

// on reads what an interface has of some addresses.
func on(t *testing.T, index int, ips ...netip.Addr) map[netip.Addr]Assigned {
	t.Helper()
	list, err := Addresses(index)
	ok(t, err)
	out := make(map[netip.Addr]Assigned)
	for _, a := range list {
		if slices.Contains(ips, a.IP) {
			out[a.IP] = a
		}
	}
	return out
}

// routed wants those of the two addresses to be routed as local that are said to be.
func routed(t *testing.T, p *Plain, when string, index int, want ...netip.Addr) {
	t.Helper()
	for _, ip := range both {
		if got := p.local(Address{IP: ip, Index: index}); got != slices.Contains(want, ip) {
			t.Errorf("%s: %v is local: %v", when, ip, got)
		}
	}
}

// TestPlainLease: an address is there from Acquire to Release, or until its lease ends,
// and each renewal begins the lease anew.
func TestPlainLease(t *testing.T) {
	index, as := inside(t)
	p := plain(t)
	const lease = 2 * time.Second
	routed(t, p, "at first", index)
	late, err := p.Acquire(as, lease)
	ok(t, err)
	if len(late) > 0 {
		t.Errorf("late: %v", late)
	}
	routed(t, p, "acquired", index, both...)
	for ip, a := range on(t, index, both...) {
		if a.Net != netip.PrefixFrom(ip, ip.BitLen()) || a.Flags&unix.IFA_F_NOPREFIXROUTE == 0 ||
			a.Flags&unix.IFA_F_PERMANENT != 0 || a.Index != index {
			t.Errorf("%v: %+v", ip, a)
		}
	}
	have, err := p.Present()
	if err != nil || !have[four] || !have[six] || !have[netip.MustParseAddr("10.1.0.11")] {
		t.Errorf("present: %v, %v", have, err)
	}
	// The kernel ends lifetimes in its own time. The sleeps are the pause between two
	// renewals, and between two looks.
	for end := time.Now().Add(lease + time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ok(t, p.Renew(as, lease))
		routed(t, p, "renewed", index, both...)
	}
	began := time.Now()
	for len(on(t, index, both...)) > 0 {
		if time.Since(began) > lease+3*time.Second {
			t.Fatalf("not renewed for %v, and there", time.Since(began))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if after := time.Since(began); after < lease-200*time.Millisecond {
		t.Errorf("a lease of %v ended after %v", lease, after)
	}
	ok(t, p.Renew(as, lease)) // as after somebody has removed them
	if got := on(t, index, both...); len(got) != 2 {
		t.Errorf("renewed after the end: %v", got)
	}
	for _, when := range []string{"released", "released again"} {
		ok(t, p.Release(as))
		if got := on(t, index, both...); len(got) > 0 {
			t.Errorf("%s: %v", when, got)
		}
	}
	ok(t, p.Release([]Address{{IP: four, Index: index + 1000}})) // its interface is gone
	if got := on(t, 0, netip.MustParseAddr("10.1.0.11"), netip.MustParseAddr("fd00:1::11")); len(got) != 2 {
		t.Errorf("other addresses: %v", got)
	}
}

// TestOwner: the address of an owner that the system has configured is left alone by
// everything; without it, or where it is only leased, it is as any other.
func TestOwner(t *testing.T) {
	index, as := inside(t)
	p := plain(t)
	configured := []Address{{IP: netip.MustParseAddr("10.1.0.11"), Index: index, Owner: true},
		{IP: netip.MustParseAddr("fd00:1::11"), Index: index, Owner: true}}
	for i := range as {
		as[i].Owner = true
	}
	all := append(slices.Clone(configured), as...)
	check := func(when string, leased int) {
		t.Helper()
		for _, a := range on(t, index, configured[0].IP, configured[1].IP) {
			if a.Flags&unix.IFA_F_PERMANENT == 0 {
				t.Errorf("%s: %v has a lease", when, a.IP)
			}
		}
		own, got := on(t, index, configured[0].IP, configured[1].IP), on(t, index, both...)
		if len(own) != 2 || len(got) != leased {
			t.Errorf("%s: %d configured, %d leased, want 2, %d", when, len(own), len(got), leased)
		}
	}
	_, err := p.Acquire(all, 2*time.Second)
	ok(t, err)
	check("acquired", 2)
	ok(t, p.Renew(all, 2*time.Second))
	check("renewed", 2)
	_, err = p.Mend(all, 2*time.Second)
	ok(t, err)
	check("mended", 2)
	ok(t, p.Release(all))
	check("released", 0)
}

// TestMend: what somebody has taken away from under an address comes back and is told, and
// what is as it should be is not touched.
func TestMend(t *testing.T) {
	index, as := inside(t)
	p := plain(t)
	const lease = 10 * time.Second
	mend := func(when string, want ...netip.Addr) {
		t.Helper()
		back, err := p.Mend(as, lease)
		ok(t, err)
		slices.SortFunc(back, netip.Addr.Compare)
		if !slices.Equal(back, want) {
			t.Errorf("%s: %v are back, want %v", when, back, want)
		}
	}
	unroute := func(ips ...netip.Addr) {
		t.Helper()
		for _, ip := range ips {
			family := netlink.FAMILY_V4
			if ip.Is6() {
				family = netlink.FAMILY_V6
			}
			list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_LOCAL,
				Dst: netlink.NewIPNet(ip.AsSlice())}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
			ok(t, err)
			for _, r := range list {
				ok(t, netlink.RouteDel(&r))
			}
		}
	}
	_, err := p.Acquire(as, lease)
	ok(t, err)
	mend("nothing happened")
	for _, lost := range [][]netip.Addr{{four}, {six}, both} {
		unroute(lost...)
		for _, ip := range lost {
			if p.local(Address{IP: ip, Index: index}) {
				t.Fatalf("%v is still routed", ip)
			}
		}
		mend("routes are gone", lost...)
		routed(t, p, "mended", index, both...)
		mend("mended")
	}
	ok(t, p.Release(as[:1]))
	mend("an address is gone") // added again, and nothing was missing below it
	routed(t, p, "added again", index, both...)

	// What is a moment old may be late by itself.
	unroute(six)
	p.late[addressOn{six, index}] = time.Now()
	mend("it was added a moment ago")
	p.late[addressOn{six, index}] = time.Now().Add(-settleLimit)
	mend("it was added long ago", six)
	if len(p.late) > 0 {
		t.Errorf("late: %v", p.late)
	}
	// The kernel does it itself for an interface that is down.
	l, err := netlink.LinkByName("in0")
	ok(t, err)
	ok(t, netlink.LinkSetDown(l))
	mend("the interface is down")
	routed(t, p, "the interface is down", index)
}

// TestConfigured names what the system has configured too, and where.
func TestConfigured(t *testing.T) {
	index, as := inside(t)
	p := plain(t)
	_, err := p.Acquire(as, 2*time.Second)
	ok(t, err)
	own := netip.MustParseAddr("fd00:1::11")
	other := netns.Veth(t, "out0", "far0", "10.1.0.1/16")
	got, err := p.Configured([]netip.Addr{four, six, own})
	ok(t, err)
	slices.SortFunc(got, func(a, b Configured) int { return a.IP.Compare(b.IP) })
	want := []Configured{{IP: four, Device: "out0", Bits: 16}, {IP: own, Device: "in0", Bits: 64}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v (interfaces %d, %d)", got, want, index, other)
	}
}

// TestAddresses: those of one interface or of all, with a peer the own end, and the error
// of an interface that is not there is known.
func TestAddresses(t *testing.T) {
	index, _ := inside(t)
	other := netns.Veth(t, "out0", "far0", "192.0.2.11/24")
	l, err := netlink.LinkByName("out0")
	ok(t, err)
	ok(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: netlink.NewIPNet([]byte{10, 9, 0, 1}),
		Peer: netlink.NewIPNet([]byte{10, 9, 0, 2})}))
	one, err := Addresses(index)
	ok(t, err)
	for _, a := range one {
		if a.Index != index {
			t.Errorf("of interface %d: %+v", index, a)
		}
	}
	all, err := Addresses(0)
	ok(t, err)
	if len(all) <= len(one) {
		t.Errorf("%d of one interface, %d of all", len(one), len(all))
	}
	i := slices.IndexFunc(all, func(a Assigned) bool { return a.IP == netip.MustParseAddr("10.9.0.1") })
	if i < 0 || all[i].Net != netip.MustParsePrefix("10.9.0.2/32") || all[i].Index != other {
		t.Errorf("with a peer: %+v", all)
	}
	i = slices.IndexFunc(all, func(a Assigned) bool { return a.IP == netip.MustParseAddr("192.0.2.11") })
	if i < 0 || all[i].Net != netip.MustParsePrefix("192.0.2.0/24") || all[i].Flags&unix.IFA_F_PERMANENT == 0 {
		t.Errorf("with a network: %+v", all)
	}
	if _, err := Addresses(other + 1000); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is not there: %v", err)
	}
}
