// Package shapes has drills of VPNs that are built in other ways than two sites
// behind gateways in tunnel mode: hosts that speak with the virtual IP in
// transport mode, GRE and dynamic routing above that, WireGuard beside it. They
// are not in "make test": make drill-shapes.
package shapes

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) { harness.Main(m, scenario.Options()...) }

// limit of what is waited for: that it happens at all.
const limit = 30 * time.Second

// rate of each flow, in packets a second.
const rate = 200

// example reads one of the files that the documentation shows, with the lab's
// addresses in place of its own.
func example(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy", "examples"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"203.0.113.1", lab.VIPOut.String(), "2001:db8:1::1", lab.VIPOut6.String(),
		"198.51.100.1", lab.RGWOut.String(), "2001:db8:2::1", lab.RGWOut6.String(),
	).Replace(string(b))
}

// batch runs an example of ip -batch in a node.
func batch(t *testing.T, nd *lab.Node, path ...string) {
	t.Helper()
	nd.IP(strings.Split(strings.TrimSpace(example(t, path...)), "\n")...)
}

// bare returns a pair without the lab's tunnels.
func bare(t *testing.T) (p *scenario.Pair, gw1, gw2 *scenario.Member) {
	t.Helper()
	p = scenario.NewPair(t)
	p.Tunnels = nil
	for _, nd := range []*lab.Node{p.Members[0].Node, p.RGW} {
		nd.IP("xfrm state flush", "xfrm policy flush")
	}
	return p, p.Members[0], p.Members[1]
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	for i, f := range m.Flows {
		lab.Eventually(t, limit, fmt.Sprintf("%d packets on %s", n, f.Name), func() bool {
			time.Sleep(20 * time.Millisecond) // the guest pays for every look
			return f.Received() >= want[i]
		})
	}
}

// requireGap fails the test if the longest gap of a period is beyond its budget.
func requireGap(t *testing.T, m *meter.Meter, what string, budget time.Duration, from, to time.Time) {
	t.Helper()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		if r.Gap > budget || r.Sent == 0 {
			t.Errorf("%s: %s: a gap of %v, at most %v may be", what, f.Name, r.Gap, budget)
		}
	}
}

// requireSilent fails the test if a gateway has sent ESP in a period.
func requireSilent(t *testing.T, c *capture.Capture, m *scenario.Member, from, to time.Time, when string) {
	t.Helper()
	if n := c.Between(from, to, m.WAN).ESP; n != 0 {
		t.Errorf("%s sent %d ESP packets %s", m.Name, n, when)
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

func randomKey(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return "0x" + hex.EncodeToString(b)
}
