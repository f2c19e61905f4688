package conformance

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// TestLeakGuard: what has an SA passes the packet filter, forwarded and from the node
// itself, and when the policies have gone nothing of what they protected leaves.
// user-mode-linux has no chains of family inet, so there it is shown that the error says
// so. What the filter drops in detail is in kernel/leakguard.
func TestLeakGuard(t *testing.T) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	gw.SetVIPs()
	tunnels := lab.Tunnels()
	lab.Install(gw.Node, tunnels)
	lab.InstallRemote(s.RGW, tunnels)
	var f *leakguard.Filter
	must(t, gw.Do(func() (err error) { f, err = leakguard.New(); return err }))
	defer func() { must(t, f.Close()) }()
	var classes []guard.Class
	for src, dst := range map[netip.Prefix]netip.Prefix{lab.LANNet: lab.RemNet, lab.LANNet6: lab.RemNet6} {
		classes = append(classes, guard.Class{
			Shape: guard.Shape{IPv6: src.Addr().Is6(), SrcBits: src.Bits(), DstBits: dst.Bits()},
			Keys:  []guard.Key{{Src: src.Addr(), Dst: dst.Addr()}},
		})
	}
	p := guard.Program{Layers: []guard.Layer{{Require: true, Classes: classes}}}
	err := f.Set(t.Context(), p, leakguard.Own{})
	if cpu, rerr := os.ReadFile("/proc/cpuinfo"); rerr == nil && bytes.Contains(cpu, []byte("User Mode Linux")) {
		if !errors.Is(err, leakguard.ErrUnsupported) || !strings.Contains(err.Error(), "chains of family inet") {
			t.Errorf("without chains of family inet: %v", err)
		}
		t.Log(err)
		return
	}
	must(t, err)

	esp, l := &outside{t: t, last: make(map[kindOf]time.Time)}, newLeaks(t)
	capture.Start(t, capture.Config{Ports: []*lab.Port{gw.WAN}, Inner: lab.Inner(), Watch: func(p *capture.Packet) {
		esp.see(p)
		l.see(p)
	}})
	port := netip.AddrPortFrom
	talk(t, s.H1, port(lab.H1Addr, 7000), port(lab.H2Addr, 7000))
	talk(t, s.H1, port(lab.H1Addr6, 7000), port(lab.H2Addr6, 7000))
	talk(t, gw.Node, port(lab.VIPIn, 7000), port(lab.H2Addr, 7000))
	talk(t, gw.Node, port(lab.VIPIn6, 7000), port(lab.H2Addr6, 7000))
	all := []netip.Addr{lab.H1Addr, lab.H1Addr6, lab.VIPIn, lab.VIPIn6}
	tunnel := []kindOf{{sadb.FamilyIPv4, "esp"}, {sadb.FamilyIPv6, "esp"}}
	drops := func() uint64 {
		t.Helper()
		n, err := f.Drops(t.Context())
		must(t, err)
		return n
	}
	for _, own := range []leakguard.Own{{}, {NoEarly: true}} {
		must(t, f.Set(t.Context(), p, own))
		if there, err := f.There(t.Context()); err != nil || !there {
			t.Errorf("the table is there: %v, %v", there, err)
		}
		esp.requireFlow(time.Now(), tunnel...)
		before := drops()
		l.requireHeld(time.Time{}, all...)
		esp.requireFlow(time.Now(), tunnel...)
		if n := drops(); n != before {
			t.Errorf("%d packets that have an SA are dropped, %+v", n-before, own)
		}

		gw.Run("ip xfrm policy flush")
		l.requireHeld(time.Time{}, all...)
		if n := drops(); n < before+100 { // of 400 a second, for a second
			t.Errorf("of what has no policies %d packets are dropped", n-before)
		}
		if err := gw.Do(func() error { return exchange(gw.OutAddr6, lab.RGWOut6) }); err != nil {
			t.Errorf("the node itself cannot reach the remote gateway: %v", err)
		}
		outPolicies(gw.Node, tunnels)
		esp.requireFlow(time.Now(), tunnel...)
	}
	gw.Run("ip xfrm policy flush")
	removed := time.Now()
	must(t, f.Remove(t.Context()))
	l.requireForwarded(removed, all...)
}
