package conformance

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/kernel/rules"
	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

func openSink(t *testing.T, nd *lab.Node) *rules.Sink {
	t.Helper()
	var s *rules.Sink
	must(t, nd.Do(func() (err error) { s, err = rules.OpenSink(); return err }))
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func sinkRoute(src, dst netip.Prefix) guard.Route { return guard.Route{Src: src, Dst: dst} }

// TestSink: tunnels pass, and when their policies have gone nothing of what they
// protected leaves, forwarded or from the node itself, but for the exceptions.
func TestSink(t *testing.T) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	gw.SetVIPs()
	tunnels := lab.Tunnels()
	lab.Install(gw.Node, tunnels)
	lab.InstallRemote(s.RGW, tunnels)
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
	esp.requireFlow(time.Now(), tunnel...)

	// A second host, which is an exception's source, has a longer source of its own.
	excepted := netip.MustParseAddr("10.1.0.99")
	s.H1.IP("addr add 10.1.0.99/24 dev eth0")
	talk(t, s.H1, port(excepted, 7000), port(lab.H2Addr, 7000))

	want := []guard.Route{sinkRoute(lab.LANNet, lab.RemNet), sinkRoute(lab.LANNet6, lab.RemNet6)}
	sink := openSink(t, gw.Node)
	there := func(when string, want []guard.Route, is bool) {
		t.Helper()
		if got, err := sink.There(want); err != nil || got != is {
			t.Errorf("%s: there %v, %v, want %v", when, got, err, is)
		}
	}
	there("before", want, false)
	must(t, sink.Set(want))
	there("set", want, true)
	before := sinkState(gw)
	must(t, sink.Set(want)) // again is fine
	if after := sinkState(gw); after != before {
		t.Errorf("the second time changes\n%s\nto\n%s", before, after)
	}
	esp.requireFlow(time.Now(), tunnel...)

	gw.Run("ip xfrm policy flush")
	l.requireHeld(time.Now().Add(50*time.Millisecond), append(all, excepted)...)
	for from, to := range map[netip.Addr]netip.Addr{lab.H1Addr: lab.VIPIn, lab.H1Addr6: lab.VIPIn6} {
		if err := s.H1.Do(func() error { return exchange(from, to) }); err != nil {
			t.Errorf("the node does not answer %s: %v", from, err)
		}
	}
	if err := gw.Do(func() error { return exchange(gw.OutAddr6, lab.RGWOut6) }); err != nil {
		t.Errorf("the node itself cannot reach the remote gateway: %v", err)
	}

	// An exception of the table itself, and back.
	passes := append(want, guard.Route{Src: lab.LANNet, Dst: netip.PrefixFrom(lab.H2Addr, 32), Pass: true})
	set := time.Now()
	must(t, sink.Set(passes))
	there("with an exception", passes, true)
	there("with an exception, of what has none", want, false)
	l.requireForwarded(set, lab.H1Addr, lab.VIPIn, excepted)
	l.requireHeld(set, lab.H1Addr6, lab.VIPIn6)
	must(t, sink.Set(want))
	l.requireHeld(time.Now().Add(50*time.Millisecond), append(all, excepted)...)

	// A longer source comes first.
	one := []guard.Route{sinkRoute(netip.PrefixFrom(excepted, 32), lab.RemNet)}
	set = time.Now()
	must(t, sink.Set(one))
	l.requireForwarded(set, all...)
	l.requireHeld(time.Now().Add(50*time.Millisecond), excepted)
	must(t, sink.Set(append(one, want...)))
	order := gw.Run("ip rule show")
	if long, short := strings.Index(order, "from 10.1.0.99 "), strings.Index(order, "from 10.1.0.0/24 "); long < 0 ||
		short < long {
		t.Errorf("the longer source does not come first:\n%s", order)
	}
	must(t, sink.Set(want))

	// What others do to it is mended, by another process too.
	for _, harm := range []string{"ip link del sasyncd-null", "ip link set sasyncd-null down",
		"ip rule del from 10.1.0.0/24 pref 18", "ip -6 rule del from fd00:1::/64 pref 74",
		"ip route flush table 112200", "ip -6 route flush table 112200"} {
		gw.Run(harm)
		there(harm, want, false)
		next := openSink(t, gw.Node)
		must(t, next.Set(want))
		there(harm+", mended", want, true)
		l.requireHeld(time.Now().Add(50*time.Millisecond), all...)
	}

	outPolicies(gw.Node, tunnels)
	esp.requireFlow(time.Now(), tunnel...)
	l.requireHeld(time.Now(), append(all, excepted)...)

	gw.IP("rule add from 10.1.0.0/24 lookup main pref 19") // somebody else's
	gw.Run("ip xfrm policy flush")
	removed := time.Now()
	must(t, openSink(t, gw.Node).Remove())
	must(t, sink.Remove()) // again is fine
	l.requireForwarded(removed, all...)
	there("removed", want, false)
	if left := sinkState(gw); strings.TrimSpace(left) != "19:\tfrom 10.1.0.0/24 lookup main" {
		t.Errorf("left behind:\n%s", left)
	}
	if links := gw.Run("ip -o link show"); strings.Contains(links, rules.SinkDevice) {
		t.Errorf("left behind:\n%s", links)
	}
}

// outPolicies gives a gateway the policies again that encrypt.
func outPolicies(gw *lab.Node, tunnels []lab.Tunnel) {
	for _, tn := range tunnels {
		gw.IP(fmt.Sprintf("xfrm policy add dir out src %s dst %s tmpl src %s dst %s proto esp reqid %d mode tunnel",
			tn.LocalNet, tn.RemoteNet, tn.Local, tn.Remote, tn.ReqID))
	}
}

// TestSinkLimit: with too many sources the first have their routes, and the error says
// how many have none.
func TestSinkLimit(t *testing.T) {
	nd := lab.New(t).Node("gw")
	sink := openSink(t, nd)
	var list []guard.Route
	for i := range rules.SinkTables + 2 {
		list = append(list, sinkRoute(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24), lab.RemNet))
	}
	if err := sink.Set(list); err == nil || !strings.Contains(err.Error(), " 2 sources ") {
		t.Errorf("set %d sources: %v", len(list), err)
	}
	if n := strings.Count(nd.Run("ip rule show"), " lookup 1122"); n != rules.SinkTables {
		t.Errorf("%d sources have a rule", n)
	}
	if got, err := sink.There(list); err != nil || !got {
		t.Errorf("there %v, %v", got, err)
	}
	must(t, sink.Set(list[:1]))
	if n := strings.Count(nd.Run("ip rule show"), " lookup 1122"); n != 1 {
		t.Errorf("%d sources have a rule, want one", n)
	}
}

// sinkState is what `ip` shows of the sink but for its device, and of rules about it.
func sinkState(gw *lab.Gateway) string {
	var b strings.Builder
	for _, cmd := range []string{"ip rule show", "ip -6 rule show"} {
		out, _ := gw.Try(cmd)
		for line := range strings.Lines(out) {
			pref, _, _ := strings.Cut(line, ":")
			if len(pref) == 2 {
				b.WriteString(line)
			}
		}
	}
	for _, cmd := range []string{"ip route show table 112200", "ip -6 route show table 112200"} {
		out, _ := gw.Try(cmd) // it fails for a table that is not there
		b.WriteString(out)
	}
	return b.String()
}
