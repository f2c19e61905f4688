package rules

import (
	"net/netip"
	"slices"
	"testing"

	"sasyncd/tests/harness/netns"
)

// What each part does to ESP is shown in tests/conformance. Here is what it puts into the
// routing policy of the machine's kernel, by what the kernel routes then.

var (
	vip4, vip6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	far4, far6 = netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8::200")
	ownVIPs    = []netip.Addr{vip4, vip6}
)

// gateway makes an interface with two virtual addresses and returns its index.
func gateway(t *testing.T) int {
	t.Helper()
	t.Parallel()
	netns.Enter(t)
	return netns.Veth(t, "out0", "far0", "192.0.2.11/24", "2001:db8::11/64", "192.0.2.1/32", "2001:db8::1/128")
}

// silent wants the kernel to route from those of the two virtual addresses that are not
// said to be silent, and from no other.
func silent(t *testing.T, when string, four, six bool) {
	t.Helper()
	_, from4 := netns.Way(vip4, far4)
	_, from6 := netns.Way(vip6, far6)
	if from4 == four || from6 == six {
		t.Errorf("%s: silent is IPv4 %v, IPv6 %v, want %v, %v", when, !from4, !from6, four, six)
	}
}

func openFence(t *testing.T, selfClosing bool) *Fence {
	t.Helper()
	f, err := OpenFence(selfClosing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stateOf reads a fence: which addresses are closed, which gated.
func stateOf(t *testing.T, f *Fence) (closed, gated []netip.Addr) {
	t.Helper()
	list, err := f.State(t.Context())
	ok(t, err)
	slices.SortFunc(list, func(a, b FenceState) int { return a.VIP.Compare(b.VIP) })
	for _, s := range list {
		if s.Closed {
			closed = append(closed, s.VIP)
		}
		if s.Gated {
			gated = append(gated, s.VIP)
		}
	}
	return closed, gated
}
