// Package drills is what two gateways with real daemons, real ESP and a real
// kernel must show, whatever is done to them.
package drills

import (
	"net/netip"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, append(scenario.Options(), harness.Build("./cmd/carpctl"))...)
}

// limit of what is waited for: that it happens at all.
const limit = 15 * time.Second

// rate of each flow, in packets a second.
const rate = 250

// started returns a pair in which a failover would work. gw1 is MASTER.
func started(t *testing.T) (p *scenario.Pair, gw1, gw2 *scenario.Member) {
	t.Helper()
	p = scenario.NewPair(t)
	p.Start()
	return p, p.Members[0], p.Members[1]
}

// traffic starts flows between h1 and h2, both ways and both families, and a
// capture of the WAN.
func traffic(t *testing.T, p *scenario.Pair) (*meter.Meter, *capture.Capture) {
	t.Helper()
	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: p.H1, To: p.H2, Src: src, Dst: dst, Port: port, Rate: rate})
	}
	return meter.Start(t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...), c
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, limit, "traffic on every flow", func() bool {
		time.Sleep(20 * time.Millisecond) // the guest pays for every look
		for i, f := range m.Flows {
			if f.Received() < want[i] {
				return false
			}
		}
		return true
	})
}

// tables reads what ip xfrm says about a gateway.
func tables(t *testing.T, m *scenario.Member) scenario.Tables {
	t.Helper()
	tb, err := scenario.ReadTables(m.Node)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// requireEqual fails the test for every SA and policy that differs.
func requireEqual(t *testing.T, a, b scenario.Tables, nameA, nameB string) {
	t.Helper()
	if len(a.States) == 0 || len(a.Policies) == 0 {
		t.Errorf("%s has %d SAs and %d policies", nameA, len(a.States), len(a.Policies))
	}
	for _, d := range scenario.Differences(a, b, nameA, nameB) {
		t.Error(d)
	}
}

// requireNothingRefused fails the test when an end of the tunnels has refused a
// packet for its sequence number.
func requireNothingRefused(t *testing.T, p *scenario.Pair) {
	t.Helper()
	for _, nd := range []*lab.Node{p.RGW, p.Members[0].Node, p.Members[1].Node} {
		if st := nd.XfrmStat(); lab.Refused(nil, st) != 0 {
			t.Errorf("%s has refused packets: %v", nd.Name, st)
		}
	}
}

// requireMaster fails the test unless m is the only MASTER.
func requireMaster(t *testing.T, p *scenario.Pair, m *scenario.Member) {
	t.Helper()
	if ms := p.Masters(); len(ms) != 1 || ms[0] != m {
		t.Errorf("masters are %v, want %s alone", ms, m.Name)
	}
}
