package matrix

import (
	"flag"
	"net/netip"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

var (
	failovers = flag.Int("failovers", 20, "number of failovers in TestFailovers")
	seed      = flag.Uint64("seed", 1, "of what is random")
	only      = flag.String("only", "", "parts of fault/moment, separated by commas: only such cells")
	version   = flag.String("version", "unknown", "of what is tested, for the report")
)

func TestMain(m *testing.M) {
	harness.Main(m, harness.Build(append(scenario.Programs(), "./cmd/carpctl")...), harness.Memory(2<<30))
}

// limit of what is waited for: that it happens at all.
const limit = 20 * time.Second

// traffic starts flows between h1 and h2, both ways and both families, at rate
// packets a second each, and a capture of the WAN.
func traffic(t *testing.T, p *scenario.Pair, rate int) (*meter.Meter, *capture.Capture) {
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

// refused is the number of packets that any end of the tunnels has refused for
// their sequence number so far.
func refused(p *scenario.Pair) int {
	n := lab.Refused(nil, p.RGW.XfrmStat())
	for _, m := range p.Members {
		n += lab.Refused(nil, m.XfrmStat())
	}
	return n
}

// stats is what the kernels of all ends have counted as errors.
func stats(p *scenario.Pair) map[string]map[string]int {
	m := map[string]map[string]int{p.RGW.Name: p.RGW.XfrmStat()}
	for _, g := range p.Members {
		m[g.Name] = g.XfrmStat()
	}
	return m
}

// tables reads what ip xfrm says about a gateway.
func tables(t *testing.T, nd *lab.Node) scenario.Tables {
	t.Helper()
	tb, err := scenario.ReadTables(nd)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// ctl runs a control program of a gateway.
func ctl(t *testing.T, nd *lab.Node, program, args string) (string, error) {
	t.Helper()
	bin, err := harness.Binary(program)
	if err != nil {
		t.Fatal(err)
	}
	return nd.Try(bin + " " + args)
}
