package conformance

import (
	"net/netip"
	"testing"
	"time"

	"sasyncd/kernel/rules"
	"sasyncd/tests/harness/lab"
)

func openGuard(t *testing.T, nd *lab.Node) *rules.Guard {
	t.Helper()
	var g *rules.Guard
	must(t, nd.Do(func() (err error) { g, err = rules.OpenGuard(); return err }))
	t.Cleanup(func() { must(t, g.Close()) })
	return g
}

// TestGuard: from when it is set nothing leaves in plaintext for where the policies
// led, however often they are flushed, neither forwarded nor from the node itself;
// and it can go when all of them are back.
func TestGuard(t *testing.T) {
	for _, tc := range []struct {
		name, to4, to6 string // what is encrypted
		wide           bool
	}{
		{"networks of the remote", lab.RemNet.String(), lab.RemNet6.String(), false},
		{"everything", "0.0.0.0/0", "::/0", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := lab.NewStandard(t, 1)
			gw := s.Gateways[0]
			gw.SetVIPs()
			l := watchLeaks(t, gw)
			hosts := []netip.Addr{lab.H1Addr, lab.H1Addr6}
			port := netip.AddrPortFrom
			talk(t, s.H1, port(lab.H1Addr, 7000), port(lab.H2Addr, 7000))
			talk(t, s.H1, port(lab.H1Addr6, 7000), port(lab.H2Addr6, 7000))
			// The node itself.
			talk(t, gw.Node, port(lab.VIPIn, 7000), port(lab.H2Addr, 7000))
			talk(t, gw.Node, port(lab.VIPIn6, 7000), port(lab.H2Addr6, 7000))
			own := []netip.Addr{lab.VIPIn, lab.VIPIn6}
			l.requireForwarded(time.Now(), append(hosts, own...)...)

			g := openGuard(t, gw.Node)
			if n, err := g.Set(t.Context()); err != nil || n != 0 {
				t.Fatalf("without a policy %d destinations are guarded, %v", n, err)
			}
			if _, set, err := g.Missing(t.Context()); err != nil || set {
				t.Fatalf("without a policy the guard is set, or: %v", err)
			}
			l.requireForwarded(time.Now(), hosts...)

			policies := func() {
				for _, p := range [][4]string{{lab.LANNet.String(), tc.to4, lab.VIPOut.String(), lab.RGWOut.String()},
					{lab.LANNet6.String(), tc.to6, lab.VIPOut6.String(), lab.RGWOut6.String()}} {
					gw.IP("xfrm policy update dir out src " + p[0] + " dst " + p[1] + " tmpl src " + p[2] + " dst " +
						p[3] + " proto esp mode tunnel reqid 7")
				}
			}
			policies()
			missing := func(want int) {
				t.Helper()
				if n, set, err := g.Missing(t.Context()); err != nil || !set || n != want {
					t.Errorf("missing %d, set %v, %v, want %d", n, set, err, want)
				}
			}
			for range 2 { // again, with the policies gone, is fine
				if _, err := g.Set(t.Context()); err != nil {
					t.Fatal(err)
				}
				gw.Run("ip xfrm policy flush")
				missing(2)
			}
			guarded := hosts
			if !tc.wide {
				guarded = append(guarded, own...)
			}
			l.requireHeld(time.Now().Add(50*time.Millisecond), guarded...)
			for from, to := range map[netip.Addr]netip.Addr{lab.H1Addr: lab.VIPIn, lab.H1Addr6: lab.VIPIn6} {
				if err := s.H1.Do(func() error { return exchange(from, to) }); err != nil {
					t.Errorf("the node does not answer %s: %v", from, err)
				}
			}
			if err := gw.Do(func() error { return exchange(gw.OutAddr6, lab.RGWOut6) }); err != nil {
				t.Errorf("the node itself cannot reach the remote gateway: %v", err)
			}

			left := func(when string, want bool) {
				t.Helper()
				if got, err := g.Left(t.Context()); err != nil || got != want {
					t.Errorf("%s: left %v, %v, want %v", when, got, err, want)
				}
			}
			left("set", false)
			must(t, g.Leave(t.Context()))
			left("left", true)
			l.requireHeld(time.Now(), guarded...)
			if _, err := g.Set(t.Context()); err != nil {
				t.Fatal(err)
			}
			left("set again", false)
			l.requireHeld(time.Now(), guarded...)
			must(t, g.Leave(t.Context()))

			policies()
			missing(0)
			// Another process lifts it.
			lifted := time.Now()
			must(t, openGuard(t, gw.Node).Lift(t.Context()))
			if _, set, err := g.Missing(t.Context()); err != nil || set {
				t.Errorf("it is still set, or: %v", err)
			}
			gw.Run("ip xfrm policy flush")
			l.requireForwarded(lifted, append(hosts, own...)...)
			for _, cmd := range []string{"ip rule show pref 4", "ip -6 rule show pref 4", "ip route show table 112114",
				"ip -6 route show table 112114"} {
				// It fails for a table that is not there any more.
				if left, err := gw.Try(cmd); err == nil && left != "" {
					t.Errorf("left behind: %s", left)
				}
			}
		})
	}
}
