package track

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/tests/harness/netns"
)

// TestEcho: an address that answers is there in both families, and one that does not is
// missed from so many requests in a row on.
func TestEcho(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	netns.Veth(t, "in0", "host0", "10.1.0.11/24", "fd00:1::11/64")
	for _, s := range []string{"127.0.0.1", "::1", "10.1.0.11", "fd00:1::11"} {
		p := &pinger{addr: netip.MustParseAddr(s), timeout: 5 * time.Second, fail: 1}
		for range 3 {
			if err := p.check(t.Context()); err != nil {
				t.Errorf("%s: %v", s, err)
			}
		}
	}
	for _, s := range []string{"10.1.0.99", "fd00:1::99"} {
		p := &pinger{addr: netip.MustParseAddr(s), timeout: 20 * time.Millisecond, fail: 2}
		for i := range 3 {
			if err := p.check(t.Context()); errors.Is(err, errSilent) != (i >= 1) {
				t.Errorf("%s, request %d: %v", s, i+1, err)
			}
		}
		netns.Add(t, "in0", netip.PrefixFrom(p.addr, p.addr.BitLen()).String())
		p.timeout = 5 * time.Second
		if err := p.check(t.Context()); err != nil || p.missed != 0 {
			t.Errorf("%s, which answers again: %v, %d missed", s, err, p.missed)
		}
	}
}

// TestCarrier: a link is well while it is up and its other end is, and what cannot be read
// changes nothing.
func TestCarrier(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	netns.Veth(t, "in0", "host0")
	set := func(name string, do func(netlink.Link) error) {
		t.Helper()
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = do(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	await := func(when string, well bool) {
		t.Helper()
		// The kernel tells later, in its own time: the sleep is the pause between two looks.
		for began := time.Now(); (carrier("in0") == nil) != well; time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > 5*time.Second {
				t.Fatalf("%s: %v", when, carrier("in0"))
			}
		}
	}
	await("both up", true)
	set("host0", netlink.LinkSetDown)
	await("the other end is down", false)
	set("host0", netlink.LinkSetUp)
	await("it is up again", true)
	set("in0", netlink.LinkSetDown)
	await("it is down itself", false)

	var answer error
	c := &linkCheck{look: func() error { return answer }}
	for i, step := range []struct{ answer, want error }{{nil, nil}, {errors.New("torn"), nil}, {errCarrier, errCarrier},
		{errors.New("torn"), errCarrier}, {nil, nil}} {
		if answer = step.answer; c.check(t.Context()) != step.want {
			t.Errorf("look %d: %v, want %v", i, c.last, step.want)
		}
	}
}
