package conformance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// kindOf is what a packet that leaves a gateway outside is.
type kindOf struct {
	family sadb.Family
	what   string // "esp", "ike"
}

var allKinds = []kindOf{
	{sadb.FamilyIPv4, "esp"}, {sadb.FamilyIPv4, "ike"}, {sadb.FamilyIPv6, "esp"}, {sadb.FamilyIPv6, "ike"},
}

// outside watches what a gateway sends from its outside VIPs.
type outside struct {
	*capture.Capture
	t *testing.T

	mu   sync.Mutex
	last map[kindOf]time.Time // of the newest packet
}

func watchOutside(t *testing.T, s *lab.Standard, gw *lab.Gateway) *outside {
	o := &outside{t: t, last: make(map[kindOf]time.Time)}
	o.Capture = capture.Start(t, capture.Config{Ports: []*lab.Port{gw.WAN}, Inner: lab.Inner(), Watch: o.see})
	return o
}

func (o *outside) see(p *capture.Packet) {
	if p.Src != lab.VIPOut && p.Src != lab.VIPOut6 {
		return
	}
	k := kindOf{sadb.FamilyOf(p.Src), "ike"}
	if p.IsESP {
		k.what = "esp"
	} else if p.Proto != 17 {
		return // neighbour discovery, ICMP
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last[k] = p.At
}

func (o *outside) newest(k kindOf) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last[k]
}

// requireFlow waits until packets of the kinds are newer than since.
func (o *outside) requireFlow(since time.Time, kinds ...kindOf) {
	o.t.Helper()
	for _, k := range kinds {
		lab.Eventually(o.t, 5*time.Second, k.what+" from the VIP", func() bool { return o.newest(k).After(since) })
	}
}

// onItsWay is for how long a packet that had found its route may be on the way to where it
// is seen: its way ends in a thread of the guest's kernel, which may have to wait. It is
// no longer than talk's interval, so each sender has at most one.
const onItsWay = 10 * time.Millisecond

// requireSilence waits a while and wants no packet of the kinds that was sent after since.
func (o *outside) requireSilence(since time.Time, kinds ...kindOf) {
	o.t.Helper()
	until := time.Now().Add(1500 * time.Millisecond)
	lab.Eventually(o.t, 5*time.Second, "the time to pass", func() bool { return time.Now().After(until) })
	for _, k := range kinds {
		if at := o.newest(k); at.After(since.Add(onItsWay)) {
			o.t.Errorf("%s of family %d from the VIP %v after it should have ended", k.what, k.family, at.Sub(since))
		}
	}
}

// talk sends a UDP packet every few milliseconds through a connected socket,
// whose route the kernel caches, until the test ends. Errors are expected: a
// fence is felt.
func talk(t *testing.T, nd *lab.Node, from netip.AddrPort, to netip.AddrPort) {
	t.Helper()
	var conn *net.UDPConn
	err := nd.Do(func() (err error) {
		conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); done.Wait(); conn.Close() })
	done.Go(func() {
		tick := time.NewTicker(onItsWay)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = conn.Write([]byte("anything"))
			case <-ctx.Done():
				return
			}
		}
	})
}

// busyGateway is a lab with one gateway that holds the VIPs and tunnels and is
// made to send in every way: forwarded and local traffic into the tunnels, and
// IKE from the VIPs.
func busyGateway(t *testing.T) (*lab.Standard, *lab.Gateway, *outside) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	gw.SetVIPs()
	tunnels := lab.Tunnels()
	lab.Install(gw.Node, tunnels)
	lab.InstallRemote(s.RGW, tunnels)
	o := watchOutside(t, s, gw)
	port := netip.AddrPortFrom
	talk(t, s.H1, port(lab.H1Addr, 7000), port(lab.H2Addr, 7000))
	talk(t, s.H1, port(lab.H1Addr6, 7000), port(lab.H2Addr6, 7000))
	talk(t, gw.Node, port(lab.VIPIn, 7001), port(lab.H2Addr, 7001))
	talk(t, gw.Node, port(lab.VIPIn6, 7001), port(lab.H2Addr6, 7001))
	talk(t, gw.Node, port(lab.VIPOut, 500), port(lab.RGWOut, 500))
	talk(t, gw.Node, port(lab.VIPOut6, 500), port(lab.RGWOut6, 500))
	return s, gw, o
}

func openFence(t *testing.T, nd *lab.Node, selfClosing bool) *rules.Fence {
	t.Helper()
	var f *rules.Fence
	if err := nd.Do(func() (err error) { f, err = rules.OpenFence(selfClosing); return err }); err != nil {
		t.Fatal(err)
	}
	return f
}

// lease gives the gateway the VIPs for the time that the fence lives, as carpd
// does.
func lease(t *testing.T, gw *lab.Gateway) {
	t.Helper()
	seconds := int(rules.FenceLifetime / time.Second)
	for vip, name := range map[netip.Addr]string{lab.VIPIn: "lan0", lab.VIPIn6: "lan0", lab.VIPOut: "wan0",
		lab.VIPOut6: "wan0"} {
		link, err := gw.Netlink().LinkByName(name)
		must(t, err)
		must(t, gw.Netlink().AddrReplace(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(vip.BitLen(), vip.BitLen())},
			Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD, ValidLft: seconds, PreferedLft: seconds,
		}))
	}
}

// renewing renews as a master does, until stop is called or the test ends.
func renewing(t *testing.T, f *rules.Fence) (stop func()) {
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := f.Renew(); err != nil {
					t.Error(err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return stop
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wan is the index of the gateway's outside interface.
func wan(t *testing.T, gw *lab.Gateway) int {
	t.Helper()
	link, err := gw.Netlink().LinkByName("wan0")
	must(t, err)
	return link.Attrs().Index
}

var outerVIPs = []netip.Addr{lab.VIPOut, lab.VIPOut6}

func TestFenceSilencesAtOnceAndLiftsAtOnce(t *testing.T) {
	_, gw, o := busyGateway(t)
	o.requireFlow(time.Now(), allKinds...)
	f := openFence(t, gw.Node, true)
	defer f.Close()
	renewing(t, f)
	for range 3 {
		must(t, f.Set(outerVIPs...))
		must(t, f.Set(outerVIPs...)) // again is fine
		before := oseqs(t, gw)
		o.requireSilence(time.Now(), allKinds...)
		if after := oseqs(t, gw); after != before {
			t.Errorf("sequence numbers went from %v to %v behind the fence", before, after)
		}
		cleared := time.Now()
		must(t, f.Clear(wan(t, gw), outerVIPs...))
		must(t, f.Clear(wan(t, gw), outerVIPs...))
		o.requireFlow(cleared, allKinds...)
	}
	// Renewed, it stays open longer than the fence lives by itself.
	until := time.Now().Add(2 * rules.FenceLifetime)
	lab.Eventually(t, time.Minute, "the time to pass", func() bool { return time.Now().After(until) })
	o.requireFlow(time.Now(), allKinds...)
	o.Stop()
	if n, what := o.Plaintext(); n != 0 {
		t.Errorf("%d packets in plaintext: %v", n, what)
	}
}

func TestFenceClosesByItselfForIPv6(t *testing.T) {
	_, gw, o := busyGateway(t)
	f := openFence(t, gw.Node, true)
	must(t, f.Set(outerVIPs...))
	cleared := time.Now()
	must(t, f.Clear(wan(t, gw), outerVIPs...))
	o.requireFlow(cleared, allKinds...)

	// The process dies: neither fence nor leases are renewed any more.
	must(t, f.Renew())
	lease(t, gw)
	must(t, f.Close())
	// An address lives up to 0.36 s longer than its lease says, and until the
	// kernel gets to it.
	closed := time.Now().Add(rules.FenceLifetime + harness.Scaled(500*time.Millisecond))
	lab.Eventually(t, time.Minute, "the fence to close", func() bool { return time.Now().After(closed) })
	o.requireSilence(closed, allKinds...)
	if err := gw.Do(func() error { return exchange(gw.OutAddr6, lab.RGWOut6) }); err != nil {
		t.Errorf("the node's own address is fenced too: %v", err)
	}

	// Without the fence the tunnel would go on from the lost IPv6 address.
	gw.Run("ip -6 rule del pref " + strconv.Itoa(rules.FenceGatePref))
	o.requireFlow(time.Now(), kindOf{sadb.FamilyIPv6, "esp"})

	// Whoever comes next finds it as it is and can open it.
	next := openFence(t, gw.Node, true)
	defer next.Close()
	must(t, next.Set(outerVIPs...))
	state, err := next.State(t.Context())
	must(t, err)
	if len(state) != len(outerVIPs) {
		t.Errorf("state of %d addresses, want %d", len(state), len(outerVIPs))
	}
	for _, s := range state {
		if !s.Closed || s.Gated != (s.VIP == lab.VIPOut6) {
			t.Errorf("state %+v", s)
		}
	}
	renewing(t, next)
	gw.SetVIPs()
	cleared = time.Now()
	must(t, next.Clear(wan(t, gw), outerVIPs...))
	o.requireFlow(cleared, allKinds...)
	o.Stop()
	if n, what := o.Plaintext(); n != 0 {
		t.Errorf("%d packets in plaintext: %v", n, what)
	}
}

// exchange sends a datagram to a closed port and waits for the refusal.
func exchange(from, to netip.Addr) error {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for {
		if _, err := conn.Write([]byte("anyone?")); err != nil {
			if errors.Is(err, unix.ECONNREFUSED) {
				return nil
			}
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestFenceThatIsNotSelfClosing(t *testing.T) {
	_, gw, o := busyGateway(t)
	f := openFence(t, gw.Node, false)
	must(t, f.Set(outerVIPs...))
	o.requireSilence(time.Now(), allKinds...)
	must(t, f.Clear(wan(t, gw), outerVIPs...))
	must(t, f.Close())
	until := time.Now().Add(rules.FenceLifetime + time.Second)
	lab.Eventually(t, time.Minute, "the time to pass", func() bool { return time.Now().After(until) })
	o.requireFlow(time.Now(), allKinds...)
}

func TestFenceSurvivesItsProcessAndIsRetained(t *testing.T) {
	_, gw, o := busyGateway(t)
	f := openFence(t, gw.Node, true)
	other := netip.MustParseAddr("192.0.2.77")
	other6 := netip.MustParseAddr("2001:db8::77")
	must(t, f.Set(lab.VIPOut, lab.VIPOut6, other, other6))
	must(t, f.Close())
	o.requireSilence(time.Now(), allKinds...)

	next := openFence(t, gw.Node, true)
	defer next.Close()
	must(t, next.Retain(t.Context(), outerVIPs...))
	state, err := next.State(t.Context())
	must(t, err)
	if len(state) != 2 {
		t.Fatalf("%d addresses fenced, want 2: %+v", len(state), state)
	}
	for _, s := range state {
		if !s.Closed || (s.VIP != lab.VIPOut && s.VIP != lab.VIPOut6) {
			t.Errorf("state %+v", s)
		}
	}
	o.requireSilence(time.Now(), allKinds...)
	must(t, next.Retain(t.Context()))
	o.requireFlow(time.Now(), allKinds...)
}

func TestFenceOfOneGroupIsNotThatOfAnother(t *testing.T) {
	_, gw, o := busyGateway(t)
	f := openFence(t, gw.Node, true)
	defer f.Close()
	renewing(t, f)
	other6 := netip.MustParseAddr("2001:db8::77")
	must(t, f.Set(lab.VIPOut, lab.VIPOut6, other6))
	must(t, f.Clear(wan(t, gw), other6))
	o.requireSilence(time.Now(), allKinds...)
	cleared := time.Now()
	must(t, f.Clear(wan(t, gw), outerVIPs...))
	must(t, f.Set(other6))
	o.requireFlow(cleared, allKinds...)
}

// oseqs returns the outbound numbers of all SAs.
func oseqs(t *testing.T, gw *lab.Gateway) (list [4]uint64) {
	t.Helper()
	var k *xfrm.Kernel
	must(t, gw.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }))
	defer k.Close()
	snap, err := k.Dump(t.Context())
	must(t, err)
	for i, sa := range snap.SAs {
		list[i] = sa.OSeq
	}
	return list
}
