package rules

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/netns"
)

// TestFence: an address is silent from Set to Clear, one of IPv6 again when nobody renews,
// and others never.
func TestFence(t *testing.T) {
	link := gateway(t)
	own4, own6 := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
	f := openFence(t, true)
	silent(t, "at first", false, false)
	for _, when := range []string{"set", "set again"} {
		ok(t, f.Set(ownVIPs...))
		silent(t, when, true, true)
		closed, gated := stateOf(t, f)
		if !slices.Equal(closed, ownVIPs) || !slices.Equal(gated, []netip.Addr{vip6}) {
			t.Errorf("%s: closed %v, gated %v", when, closed, gated)
		}
	}
	if _, leaves := netns.Way(own4, far4); !leaves {
		t.Error("another address of IPv4 is silent")
	}
	if _, leaves := netns.Way(own6, far6); !leaves {
		t.Error("another address of IPv6 is silent")
	}
	for _, when := range []string{"cleared", "cleared again"} {
		ok(t, f.Clear(link, ownVIPs...))
		silent(t, when, false, false)
	}
	if closed, gated := stateOf(t, f); len(closed) > 0 || !slices.Equal(gated, []netip.Addr{vip6}) {
		t.Errorf("cleared: closed %v, gated %v", closed, gated)
	}
	closesItself(t, "nobody renews")
	silent(t, "nobody renews", false, true)
	ok(t, f.Renew())
	silent(t, "renewed", false, false)
	began := time.Now()
	ok(t, f.RenewFor(4*FenceLifetime))
	for time.Since(began) < FenceLifetime+500*time.Millisecond {
		if _, leaves := netns.Way(vip6, far6); !leaves {
			t.Fatalf("renewed for %v, silent after %v", 4*FenceLifetime, time.Since(began))
		}
		time.Sleep(50 * time.Millisecond)
	}
	ok(t, f.Set(vip4))
	silent(t, "one of two", true, false)
	ok(t, f.Clear(link, vip4))
	ok(t, f.Set(vip6))
	silent(t, "the other", false, true)
	ok(t, f.Renew()) // of what is open
	silent(t, "the other, others renewed", false, true)
}

// closesItself waits until IPv6 is silent without a rule of the fence.
func closesItself(t *testing.T, when string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, leaves := netns.Way(vip6, far6); !leaves {
			return
		}
		if time.Since(began) > FenceLifetime+2*time.Second {
			t.Fatalf("%s: IPv6 still leaves after %v", when, time.Since(began))
		}
	}
}

// TestFenceWithoutLease: a fence that does not close by itself stays as it was set last,
// and takes over one that did.
func TestFenceWithoutLease(t *testing.T) {
	link := gateway(t)
	leased, plain := openFence(t, true), openFence(t, false)
	ok(t, leased.Set(ownVIPs...))
	ok(t, plain.Clear(link, ownVIPs...))
	silent(t, "cleared", false, false)
	if closed, gated := stateOf(t, plain); len(closed)+len(gated) > 0 {
		t.Errorf("cleared: closed %v, gated %v", closed, gated)
	}
	ok(t, plain.Set(ownVIPs...))
	silent(t, "set", true, true)
	if closed, gated := stateOf(t, plain); !slices.Equal(closed, ownVIPs) || len(gated) > 0 {
		t.Errorf("set: closed %v, gated %v", closed, gated)
	}
	ok(t, plain.Renew()) // nothing to do
	if m, err := plain.Mend(t.Context(), ownVIPs...); err != nil || len(m.Closed)+len(m.Opened)+len(m.Gated)+m.Routes > 0 {
		t.Errorf("mended %+v: %v", m, err)
	}
}

// TestFenceIsMended: each part that somebody else takes away, or adds, is put right and
// told once.
func TestFenceIsMended(t *testing.T) {
	link := gateway(t)
	f := openFence(t, true)
	untouched := netip.MustParseAddr("192.0.2.9")
	mend := func(what string, want FenceMended) {
		t.Helper()
		got, err := f.Mend(t.Context(), vip4, vip6, untouched)
		ok(t, err)
		if !slices.Equal(got.Closed, want.Closed) || !slices.Equal(got.Opened, want.Opened) ||
			!slices.Equal(got.Gated, want.Gated) || got.Routes != want.Routes {
			t.Errorf("%s: mended %+v, want %+v", what, got, want)
		}
	}
	mend("nothing is set", FenceMended{})
	ok(t, f.Set(ownVIPs...))
	mend("nothing happened", FenceMended{})
	ok(t, f.routing.apply(delRule(rule{src: vip4, pref: FencePref}), delRule(rule{src: vip6, pref: FencePref})))
	silent(t, "the fence was taken away", false, true)
	mend("the fence was taken away", FenceMended{Closed: ownVIPs})
	silent(t, "the fence is mended", true, true)
	ok(t, f.routing.apply(delRule(gateRule(vip6)), delRoute(route{family: sadb.FamilyIPv6, table: FenceGateTable,
		kind: unix.RTN_BLACKHOLE, metric: gateEnd})))
	mend("the gate of a closed one was taken away", FenceMended{Gated: []netip.Addr{vip6}, Routes: 1})

	ok(t, f.Clear(link, ownVIPs...))
	mend("cleared", FenceMended{})
	ok(t, f.routing.apply(addRule(rule{src: vip4, pref: FencePref}), addRule(rule{src: vip6, pref: FencePref})))
	silent(t, "somebody else fenced", true, true)
	mend("somebody else fenced", FenceMended{Opened: ownVIPs})
	silent(t, "opened again", false, false)
	ok(t, f.routing.apply(delRoute(way(uint32(link), 0)), delRoute(route{family: sadb.FamilyIPv6,
		table: FenceGateTable, kind: unix.RTN_BLACKHOLE, metric: gateEnd})))
	mend("the gate's routes were taken away", FenceMended{Routes: 2})
	silent(t, "the gate's routes are there", false, false)
	ok(t, f.routing.apply(delRule(gateRule(vip6))))
	mend("the gate's rule was taken away", FenceMended{Gated: []netip.Addr{vip6}})
	closesItself(t, "mended, and nobody renews")
}

// TestFenceIsRetained: what the configuration has no more is neither fenced nor renewed
// nor mended, and what it has stays.
func TestFenceIsRetained(t *testing.T) {
	gateway(t)
	f := openFence(t, true)
	ok(t, f.Set(ownVIPs...))
	ok(t, f.Retain(t.Context(), ownVIPs...))
	silent(t, "both retained", true, true)
	ok(t, f.Retain(t.Context(), vip4))
	silent(t, "IPv4 retained", true, false)
	if closed, gated := stateOf(t, f); !slices.Equal(closed, []netip.Addr{vip4}) || len(gated) > 0 {
		t.Errorf("closed %v, gated %v", closed, gated)
	}
	if m, err := f.Mend(t.Context(), ownVIPs...); err != nil || len(m.Closed)+len(m.Gated) > 0 {
		t.Errorf("mended %+v: %v", m, err)
	}
	ok(t, openFence(t, true).Retain(t.Context())) // another process
	silent(t, "nothing retained", false, false)
}

// TestWayLasts: the gate's route lasts whole seconds, and never less than it should.
func TestWayLasts(t *testing.T) {
	for lifetime, want := range map[time.Duration]uint32{time.Second: 1, FenceLifetime: 2, 2001 * time.Millisecond: 3,
		time.Millisecond: 1} {
		if got := way(3, lifetime); got.expires != want || got.metric != 3 || got.oif != 3 {
			t.Errorf("%v: %+v, want %d s", lifetime, got, want)
		}
	}
}

// TestAfterCancel: a list that is given up is an error, not an empty one.
func TestAfterCancel(t *testing.T) {
	gateway(t)
	f := openFence(t, false)
	ok(t, f.Set(ownVIPs...))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := f.State(ctx); err == nil {
		t.Errorf("state %v without an error", list)
	}
}
