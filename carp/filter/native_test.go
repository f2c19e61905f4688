package filter

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/netns"
)

// TestRefuse: what others send to an address does not arrive, but for what they need to
// find it, and what the node sends is not concerned.
func TestRefuse(t *testing.T) {
	other := netip.MustParseAddr("10.1.0.2")
	w := newWire(t, other)
	r := new(Rules)
	check := func(when string, four, six bool) {
		t.Helper()
		if a, b := w.arrives(vip4), w.arrives(vip6); a != four || b != six {
			t.Errorf("%s: arrives IPv4 %v, IPv6 %v, want %v, %v", when, a, b, four, six)
		}
		if !w.arrives(other) {
			t.Errorf("%s: another address is refused", when)
		}
		if !w.leaves(vip4) || !w.leaves(vip6) {
			t.Errorf("%s: what the node sends is kept", when)
		}
	}
	check("at first", true, true)
	ok(t, r.Refuse(vip4, vip6))
	check("both", false, false)
	// A solicitation that is sent to the address itself, as to see whether it is there.
	target := vip6.As16()
	ns := append([]byte{neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	frame := w.frame(far6, vip6, unix.IPPROTO_ICMPV6, 2, ns)
	if !w.seen(vip6, func() { w.put(w.host, frame) }, func(b []byte) bool {
		return len(b) > 54 && b[20] == unix.IPPROTO_ICMPV6 && b[54] == neighbourAdvertisement
	}) {
		t.Error("an address that refuses is not found")
	}
	// To itself the node may speak.
	c := w.conn(vip4)
	_, err := w.conn(own4).WriteToUDPAddrPort([]byte("own"), netip.AddrPortFrom(vip4, port))
	ok(t, err)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 64)); err != nil || n != 3 {
		t.Errorf("from itself: %v", err)
	}
	ok(t, r.Refuse(vip6))
	check("one", true, false)
	ok(t, r.Refuse())
	check("none", true, true)
	ok(t, r.Refuse())
}

// TestLease: an address is silent unless its router has advertised in its family for as
// long as it says, and others are not concerned.
func TestLease(t *testing.T) {
	second := netip.MustParseAddr("10.1.0.2")
	w := newWire(t, second)
	r := new(Rules)
	const lasts = 1500 * time.Millisecond
	leases := func(live bool) []Lease {
		return []Lease{{Device: "in0", ID: 10, VIPs: []netip.Addr{vip4, second}, For: lasts, Live: live},
			{Device: "in0", ID: 11, VIPs: []netip.Addr{vip6}, For: lasts, Live: live}}
	}
	check := func(when string, four, six bool) {
		t.Helper()
		for name, got := range map[string]bool{"arrives": w.arrives(vip4), "leaves": w.leaves(vip4), "asks": w.asks(vip4),
			"second arrives": w.arrives(second), "second leaves": w.leaves(second), "second asks": w.asks(second)} {
			if got != four {
				t.Errorf("%s: IPv4 %s: %v", when, name, got)
			}
		}
		if a, b := w.arrives(vip6), w.leaves(vip6); a != six || b != six {
			t.Errorf("%s: IPv6 arrives %v, leaves %v, want %v", when, a, b, six)
		}
		if !w.asks(own4) {
			t.Errorf("%s: ARP of another address is kept", when)
		}
	}
	ends := func(when string, began time.Time) {
		t.Helper()
		for w.arrives(vip4) || w.arrives(vip6) {
			if time.Since(began) > lasts+2*time.Second {
				t.Fatalf("%s: it lasts for more than %v", when, time.Since(began))
			}
		}
		if d := time.Since(began); d < lasts-50*time.Millisecond {
			t.Errorf("%s: it lasts for %v, want %v", when, d, lasts)
		}
		check(when, false, false)
	}
	check("at first", true, true)
	ok(t, r.Lease(leases(false)...))
	check("nobody advertises", false, false)
	w.advertise(12, own4) // another router
	w.advertise(11, own4) // in the other family
	w.advertise(10, own6)
	check("others advertise", false, false)
	w.advertise(10, own4)
	check("IPv4 advertises", true, false)
	w.advertise(11, own6)
	w.advertise(10, vip4) // from an address that has a lease
	began := time.Now()
	check("both advertise", true, true)
	ends("nobody advertises any more", began)
	w.advertise(10, vip4) // from an address that has none
	if !w.arrives(vip4) {
		t.Error("an advertisement from the address itself does not begin its lease")
	}
	began = time.Now()
	ok(t, r.Lease(leases(true)...))
	check("in use", true, true)
	ends("in use, and nobody advertises", began)
	ok(t, r.Lease())
	check("without leases", true, true)
}

// TestManyAddresses: one advertisement renews all that a router can have.
func TestManyAddresses(t *testing.T) {
	var vips []netip.Addr
	for i := range 255 {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 1, 1, byte(i)}))
	}
	some := []netip.Addr{vips[0], vips[perRule-1], vips[perRule], vips[200], vips[254]}
	w := newWire(t, some...)
	check := func(when string, want bool) {
		t.Helper()
		for _, ip := range some {
			if w.arrives(ip) != want {
				t.Errorf("%s: %v arrives: %v", when, ip, !want)
			}
		}
	}
	r := new(Rules)
	lease := Lease{Device: "in0", ID: 10, VIPs: vips, For: 10 * time.Second}
	ok(t, r.Lease(lease))
	check("before an advertisement", false)
	w.advertise(10, own4)
	check("after an advertisement", true)
	ok(t, r.Lease(lease))
	check("before the next", false)
	lease.Live = true
	ok(t, r.Lease(lease))
	check("in use", true)
	if _, changed, err := r.Changed(); err != nil || changed {
		t.Errorf("somebody has changed it: %v, %v", changed, err)
	}
}

// TestChanged: what somebody else does to a table of ours is noticed, what they do to
// others is not, and setting it again is the end of it.
func TestChanged(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	netns.Veth(t, "in0", "host0")
	r, somebody := new(Rules), new(Rules)
	lease := Lease{Device: "in0", ID: 10, VIPs: []netip.Addr{vip4}, For: time.Second}
	set := func() {
		t.Helper()
		ok(t, r.Refuse(vip4))
		ok(t, r.Lease(lease))
	}
	want := func(what string, refuse, leases bool) {
		t.Helper()
		for range 2 { // also when it is asked again
			a, b, err := r.Changed()
			ok(t, err)
			if a != refuse || b != leases {
				t.Errorf("%s: changed %v, %v, want %v, %v", what, a, b, refuse, leases)
			}
		}
	}
	want("nothing is set", false, false)
	set()
	want("set", false, false)
	another := newBatch(unix.NFPROTO_IPV4)
	another.add(unix.NFT_MSG_NEWTABLE, flagsCreate, text(unix.NFTA_TABLE_NAME, "another"))
	ok(t, another.commit())
	want("another table", false, false)

	ok(t, somebody.Refuse())
	want("the table of Refuse is gone", true, false)
	set()
	want("set again", false, false)
	ok(t, somebody.Refuse(vip4))
	want("it was made anew", true, false)
	set()
	ok(t, somebody.Lease())
	want("the table of Lease is gone", false, true)
	set()
	for family, in := range map[uint8]string{unix.NFPROTO_INET: chain, unix.NFPROTO_NETDEV: "out-in0"} {
		b := newBatch(family)
		b.rule(in, verdict(dropped))
		ok(t, b.commit())
		want("a rule more in "+in, family == unix.NFPROTO_INET, family == unix.NFPROTO_NETDEV)
		set()
	}
	ok(t, r.Refuse())
	ok(t, r.Lease())
	want("nothing is set any more", false, false)
}

// TestRemembers: where somebody was quicker, what is remembered is not what is there.
func TestRemembers(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	r := new(Rules)
	ok(t, r.Refuse(vip4))
	have, rules, err := lookAt(unix.NFPROTO_INET)
	if err != nil || rules != 1 || len(have) == 0 {
		t.Fatalf("%d rules: %v", rules, err)
	}
	if got := remember(unix.NFPROTO_INET, 2); string(got) == string(have) {
		t.Error("a table that lacks a rule is remembered as it is")
	}
	if got := remember(unix.NFPROTO_INET, 0); got != nil {
		t.Error("a table without rules is remembered")
	}
	if have, rules, err := lookAt(unix.NFPROTO_NETDEV); err != nil || rules != 0 || len(have) != 0 {
		t.Errorf("a table that is not there: %d rules, %x: %v", rules, have, err)
	}
}

// TestRefusal: the kernel's refusal of a batch is an error, and nothing of it is done.
func TestRefusal(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	r := new(Rules)
	if err := r.Lease(Lease{Device: "a name of 16 and", ID: 1, VIPs: []netip.Addr{vip4}, For: time.Second}); err == nil {
		t.Error("a lease on an interface that cannot be")
	}
	if _, rules, err := lookAt(unix.NFPROTO_NETDEV); err != nil || rules != 0 || r.lease != nil {
		t.Errorf("%d rules are there, remembered %x: %v", rules, r.lease, err)
	}
}

// TestLeaseTime is in milliseconds, and never none, which would be for ever.
func TestLeaseTime(t *testing.T) {
	for d, want := range map[time.Duration]uint64{time.Second: 1000, 1500 * time.Microsecond: 1, 0: 1,
		time.Microsecond: 1} {
		if got := binary.BigEndian.Uint64(milliseconds(1, d)[4:]); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}
