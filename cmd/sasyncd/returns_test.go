package main

import (
	"net/netip"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
)

// TestStandbyThatReturns: one that was away has what happened meanwhile, from the journal
// of its MASTER, and one that starts anew with what it held from its own memory of terms.
func TestStandbyThatReturns(t *testing.T) {
	gws := newGateways(t)
	one, two := gws[0], gws[1]
	one.start()
	two.start()
	one.is("MASTER")
	two.is("BACKUP")
	one.apply(sadb.OpAddPolicy, tunnelPolicy(1, gatewayVIPs[0]))
	two.has("of before", "out 10.2.1.0/24")
	two.d.Kill()
	one.apply(sadb.OpAddPolicy, tunnelPolicy(2, gatewayVIPs[1]))
	one.apply(sadb.OpDeletePolicy, tunnelPolicy(1, gatewayVIPs[0]))
	two.start()
	two.is("BACKUP")
	two.has("of meanwhile", "out 10.2.2.0/24")
	var s report.Status
	if err := two.ask("status", nil, &s); err != nil || s.Groups[0].Term != 1 {
		t.Errorf("term %d: %v", s.Groups[0].Term, err)
	}
	// With nobody to tell, it is remembered.
	one.d.Kill()
	two.d.Kill()
	two.gate.stop()
	two.start()
	lab.Eventually(t, 10*time.Second, "the answer of one that is alone", func() bool {
		s = report.Status{}
		return two.ask("status", nil, &s) == nil && len(s.Groups) == 1
	})
	if s.Groups[0].Term != 1 {
		t.Errorf("alone, without carpd: term %d", s.Groups[0].Term)
	}
}

// TestStopWithoutAStandby: a MASTER that nobody could follow hands over to nobody.
func TestStopWithoutAStandby(t *testing.T) {
	g := newGateways(t)[0]
	g.start()
	lab.Eventually(t, 10*time.Second, "it to be MASTER", func() bool {
		var s report.Status
		return g.ask("status", nil, &s) == nil && len(s.Groups) == 1 && s.Groups[0].Role == "MASTER"
	})
	if code := g.d.Term(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if said := g.gate.said(api.VerbResign); len(said) > 0 {
		t.Errorf("it told its carpd %+v", said)
	}
}

// TestBackupStaysReachable: what tunnels say of a network that a BACKUP has an address in
// itself does not keep it from being reached there, until it is MASTER.
func TestBackupStaysReachable(t *testing.T) {
	gws := newGateways(t)
	one, two := gws[0], gws[1]
	one.start()
	two.start()
	one.is("MASTER")
	two.is("BACKUP")
	p := tunnelPolicy(4, gatewayVIPs[1])
	p.Key.Selector = sadb.SelectorOf(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.2.4.0/24"))
	one.apply(sadb.OpAddPolicy, p)
	bypasses := func(g *gateway) (n int) {
		list, err := g.k.Policies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			src, _ := p.Key.Selector.SrcPrefix()
			if len(p.Templates) == 0 && p.Key.Dir == sadb.DirOut && src.Addr() == netip.MustParseAddr("192.0.2.12") {
				n++
			}
		}
		return n
	}
	lab.Eventually(t, 10*time.Second, "the BACKUP's own address to be excepted", func() bool { return bypasses(two) == 1 })
	if n := bypasses(one); n != 0 {
		t.Errorf("%d exceptions on the MASTER", n)
	}
	if res, err := lastLine[report.Failover](one, "failover", order{Force: true}); err != nil || len(res.Handovers) != 1 ||
		!res.Handovers[0].OK {
		t.Fatalf("%+v, %v", res, err)
	}
	two.is("MASTER")
	lab.Eventually(t, 10*time.Second, "the exceptions of who is MASTER to be gone", func() bool {
		return bypasses(two) == 0
	})
}
