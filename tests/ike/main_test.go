// Package ike has drills with real IKE daemons on both gateways and at the
// remote end. They take longer than the others and need Debian's packages of
// those daemons, so they have a target of their own: make drill-ike.
package ike

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) { harness.Main(m, scenario.Options()...) }

// limit of what is waited for: that it happens at all.
const limit = 30 * time.Second

// rate of each flow, in packets a second.
const rate = 200

var outside = []netip.Addr{lab.VIPOut, lab.VIPOut6}

// bare returns a pair without the lab's static tunnels: they are negotiated.
func bare(t *testing.T) (p *scenario.Pair, gw1, gw2 *scenario.Member) {
	t.Helper()
	p = scenario.NewPair(t)
	p.Members[0].Forget()
	p.RGW.Run("ip xfrm state flush")
	p.RGW.Run("ip xfrm policy flush")
	return p, p.Members[0], p.Members[1]
}

// traffic starts flows between h1 and h2, both ways and both families.
func traffic(t *testing.T, p *scenario.Pair) *meter.Meter {
	t.Helper()
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: p.H1, To: p.H2, Src: src, Dst: dst, Port: port, Rate: rate})
	}
	return meter.Start(t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, limit, "traffic on every flow", func() bool {
		for i, f := range m.Flows {
			if f.Received() < want[i] {
				return false
			}
		}
		return true
	})
}

// budgetHandOver is scenario.BudgetHandOver beside IKE daemons: that of the old master
// starts anew meanwhile, on the guest's only processor. A takeover after silence takes
// three advertisements, 750 ms less what the last one was early, at least 500 ms.
const budgetHandOver = scenario.BudgetHandOver + 150*time.Millisecond

// slowest is the most of a flow's own stall that excuses losses: how late charon
// was seen to deal with an answer in a guest whose only processor was taken, as by the
// start of another charon.
const slowest = 150 * time.Millisecond

// requireLost fails the test for losses of what was sent in a period: none
// from the gateways to the remote. The other way, the remote uses a fresh SA
// from the moment it answers; until the answer is dealt with, what it sends has
// no SA at the gateway. That is one packet at most on a machine that runs
// charon at once, and a few more while the guest itself stood still.
func requireLost(t *testing.T, m *meter.Meter, what string, from, to time.Time) {
	t.Helper()
	for i, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		may := 0
		if i%2 == 1 {
			may = 1 + int((slowest+r.Stall).Seconds()*rate)
		}
		if r.Lost > may {
			t.Errorf("%s: %s lost %d packets, at most %d may be", what, f.Name, r.Lost, may)
		}
		if r.Sent == 0 {
			t.Errorf("%s: %s sent nothing", what, f.Name)
		}
	}
}

// requireNone fails the test for any loss of what was sent in a period.
func requireNone(t *testing.T, m *meter.Meter, what string, from, to time.Time) {
	t.Helper()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		if r.Lost != 0 || r.Sent == 0 {
			t.Errorf("%s: %s lost %d of %d packets, none may be", what, f.Name, r.Lost, r.Sent)
		}
	}
}

// requireOneGap fails the test if what a move of the virtual IPs cost is not
// one gap within the budget: outside of it nothing may be lost to the remote,
// and one packet of each flow from it.
func requireOneGap(t *testing.T, m *meter.Meter, what string, budget time.Duration, from, to time.Time) {
	t.Helper()
	for i, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		// One packet may be under way at either end, and a sender that stood
		// still makes up for it.
		may := int((r.Gap+r.Idle+min(r.Stall, slowest)).Seconds()*rate) + 2
		if i%2 == 1 {
			may++
		}
		if r.Lost > may || r.Gap > budget || r.Sent == 0 {
			t.Errorf("%s: %s lost %d of %d packets, at most %d may be in a gap of at most %v", what, f.Name, r.Lost,
				r.Sent, may, budget)
		}
	}
}

// requireSameSAs waits until a standby holds exactly the SAs of its
// master, and as many policies.
func requireSameSAs(t *testing.T, master, standby *lab.Node) {
	t.Helper()
	var want, got scenario.Tables
	lab.Eventually(t, limit, standby.Name+" to hold the SAs of "+master.Name, func() bool {
		var err1, err2 error
		want, err1 = scenario.ReadTables(master)
		got, err2 = scenario.ReadTables(standby)
		spis := func(x scenario.Tables) []uint32 { return slices.Sorted(maps.Keys(x.Sent)) }
		return err1 == nil && err2 == nil && len(want.Sent) > 0 && slices.Equal(spis(want), spis(got)) &&
			len(want.Policies) == len(got.Policies)
	})
}
