package conformance

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"sasyncd/kernel/rules"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// leaks sees when packets of hosts leave a gateway outside as they are.
type leaks struct {
	t    *testing.T
	mu   sync.Mutex
	last map[netip.Addr]time.Time // of the newest packet, by source
}

func watchLeaks(t *testing.T, gw *lab.Gateway) *leaks {
	l := newLeaks(t)
	capture.Start(t, capture.Config{Ports: []*lab.Port{gw.WAN}, Inner: lab.Inner(), Watch: l.see})
	return l
}

func newLeaks(t *testing.T) *leaks { return &leaks{t: t, last: make(map[netip.Addr]time.Time)} }

func (l *leaks) see(p *capture.Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[p.Src] = p.At
}

func (l *leaks) newest(src netip.Addr) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[src]
}

// requireForwarded waits until packets of all sources have left since then.
func (l *leaks) requireForwarded(since time.Time, sources ...netip.Addr) {
	l.t.Helper()
	for _, src := range sources {
		lab.Eventually(l.t, 5*time.Second, "packets of "+src.String()+" outside",
			func() bool { return l.newest(src).After(since) })
	}
}

// requireHeld waits a while and wants none of theirs.
func (l *leaks) requireHeld(since time.Time, sources ...netip.Addr) {
	l.t.Helper()
	until := time.Now().Add(time.Second)
	lab.Eventually(l.t, 5*time.Second, "the time to pass", func() bool { return time.Now().After(until) })
	for _, src := range sources {
		if at := l.newest(src); at.After(since) {
			l.t.Errorf("a packet of %s is forwarded %v after it should have been held", src, at.Sub(since))
		}
	}
}

func openHold(t *testing.T, nd *lab.Node) *rules.Hold {
	t.Helper()
	var h *rules.Hold
	must(t, nd.Do(func() (err error) { h, err = rules.OpenHold(); return err }))
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

// TestHold: what is held is not forwarded, in both families and also where the
// interface comes later; what is for the node itself arrives, and the fence of
// another address is left alone.
func TestHold(t *testing.T) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	gw.SetVIPs()
	l := watchLeaks(t, gw)
	hosts := []netip.Addr{lab.H1Addr, lab.H1Addr6}
	port := netip.AddrPortFrom
	talk(t, s.H1, port(lab.H1Addr, 7000), port(lab.H2Addr, 7000))
	talk(t, s.H1, port(lab.H1Addr6, 7000), port(lab.H2Addr6, 7000))
	l.requireForwarded(time.Now(), hosts...)

	f := openFence(t, gw.Node, true)
	defer f.Close()
	must(t, f.Set(lab.VIPOut))
	h := openHold(t, gw.Node)
	must(t, h.Set(t.Context(), "lan0", "late0"))
	must(t, h.Set(t.Context(), "lan0", "late0")) // again is fine
	l.requireHeld(time.Now().Add(50*time.Millisecond), hosts...)
	for from, to := range map[netip.Addr]netip.Addr{lab.H1Addr: lab.VIPIn, lab.H1Addr6: lab.VIPIn6} {
		if err := s.H1.Do(func() error { return exchange(from, to) }); err != nil {
			t.Errorf("the node does not answer %s: %v", from, err)
		}
	}
	if err := gw.Do(func() error { return exchange(gw.OutAddr6, lab.RGWOut6) }); err != nil {
		t.Errorf("the node itself cannot send: %v", err)
	}

	// An interface that did not exist when it was held.
	late := s.Switch("late")
	h3, h3Addr, h3Addr6 := s.Node("h3"), netip.MustParseAddr("10.5.0.10"), netip.MustParseAddr("fd00:5::10")
	h3.Plug(late, "eth0", "10.5.0.10/24", "fd00:5::10/64")
	h3.IP("route add default via 10.5.0.1", "route add default via fd00:5::1 dev eth0")
	gw.Plug(late, "late0", "10.5.0.1/24", "fd00:5::1/64")
	talk(t, h3, port(h3Addr, 7000), port(lab.H2Addr, 7000))
	talk(t, h3, port(h3Addr6, 7000), port(lab.H2Addr6, 7000))
	for from, to := range map[string]string{"10.5.0.10": "10.5.0.1", "fd00:5::10": "fd00:5::1"} {
		if err := h3.Do(func() error {
			return exchange(netip.MustParseAddr(from),
				netip.MustParseAddr(to))
		}); err != nil {
			t.Errorf("the node does not answer %s: %v", from, err)
		}
	}
	l.requireHeld(time.Time{}, h3Addr, h3Addr6)

	// Another process finds it, and lifts it for one of them.
	next := openHold(t, gw.Node)
	held, err := next.Held(t.Context())
	must(t, err)
	slices.Sort(held)
	if !slices.Equal(held, []string{"lan0", "late0"}) {
		t.Errorf("held are %q", held)
	}
	lifted := time.Now()
	must(t, next.Set(t.Context(), "late0"))
	l.requireForwarded(lifted, hosts...)
	l.requireHeld(time.Time{}, h3Addr, h3Addr6)
	lifted = time.Now()
	must(t, next.Set(t.Context()))
	l.requireForwarded(lifted, append(hosts, h3Addr, h3Addr6)...)
	if state, err := f.State(t.Context()); err != nil || len(state) != 1 || !state[0].Closed {
		t.Errorf("the fence is %+v, %v", state, err)
	}
}

// TestProtected: only a policy with a template counts.
func TestProtected(t *testing.T) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	h := openHold(t, gw.Node)
	want := func(when string, want bool) {
		t.Helper()
		if got, err := h.Protected(); err != nil || got != want {
			t.Errorf("%s: protected %v, %v", when, got, err)
		}
	}
	want("no policy", false)
	gw.IP("xfrm policy add dir out src 10.1.0.11 dst 0.0.0.0/0 action allow",
		"xfrm policy add dir fwd src 10.7.0.0/16 dst 10.8.0.0/16 action block")
	want("a bypass and a block", false)
	lab.Install(gw.Node, lab.Tunnels())
	want("tunnels", true)
	for vip, want := range map[netip.Addr]bool{lab.VIPOut: true, lab.VIPOut6: true, lab.VIPIn: false} {
		if got, err := h.Protected(vip); err != nil || got != want {
			t.Errorf("policies of %s: %v, %v", vip, got, err)
		}
	}
	gw.Run("ip xfrm policy flush")
	want("flushed", false)
}
