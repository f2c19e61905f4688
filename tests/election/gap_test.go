package election

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// traffic sends through the gateways in both directions and families.
func (p *pair) traffic() *meter.Meter {
	p.t.Helper()
	p.host.IP("route add 10.3.0.0/24 via 10.1.0.1", "route add fd00:3::/64 via fd00:1::1")
	p.peer.IP("route add 10.1.0.0/24 via 10.3.0.1", "route add fd00:1::/64 via fd00:3::1")
	four := meter.Config{From: p.host, To: p.peer, Src: addr("10.1.0.100"), Dst: addr("10.3.0.100"), Port: 5000,
		Rate: 1000}
	six := meter.Config{From: p.host, To: p.peer, Src: addr("fd00:1::100"), Dst: addr("fd00:3::100"), Port: 6000,
		Rate: 1000}
	return meter.Start(p.t, append(meter.Both(four), meter.Both(six)...)...)
}

// TestTrafficGap: planned changes are felt for milliseconds, in both directions
// and families, again and again; the death of the master for its detection.
func TestTrafficGap(t *testing.T) {
	p, ca, cb := required(t)
	for _, g := range p.gws { // without any, forwarding would be held
		g.protect()
	}
	ready(t, ca, api.Ready{InSync: true, PeerReady: true})
	p.gws[0].await(api.StateMaster, patience)
	ready(t, cb, api.Ready{InSync: true, PeerReady: true})
	clients := []*client{ca, cb}
	m := p.traffic()
	from := 0
	for done, round := 0, 1; done < 4; round++ {
		if round > 20 {
			t.Fatalf("only %d of %d hand-overs were quick enough to be one", done, round-1)
		}
		old, next := p.gws[from], p.gws[1-from]
		began := time.Now()
		ordered := clients[from].handOver(t, old, clients[1-from])
		next.await(api.StateMaster, patience)
		old.await(api.StateBackup, patience)
		settle := time.Now().Add(1500 * time.Millisecond)
		lab.Eventually(t, 3*time.Second, "traffic has flowed again", func() bool { return time.Now().After(settle) })
		report := m.Between(began, time.Now())
		t.Logf("hand-over %d: %v", round, report)
		from = 1 - from
		if !ordered {
			continue // so it was the resignation of a slow machine
		}
		if done++; report.Gap > 100*time.Millisecond {
			t.Errorf("gap of hand-over %d: %v", round, report.Gap)
		}
	}
	began := time.Now()
	p.gws[from].in.Pull()
	p.gws[from].out.Pull()
	p.gws[from].d.Kill()
	p.gws[1-from].await(api.StateMaster, takeover)
	settle := time.Now().Add(1500 * time.Millisecond)
	lab.Eventually(t, 3*time.Second, "traffic has flowed again", func() bool { return time.Now().After(settle) })
	report := m.Between(began, time.Now())
	t.Logf("power cut: %v", report)
	if report.Gap > time.Second {
		t.Errorf("gap of a power cut: %v", report.Gap)
	}
	m.Stop()
}

// The rules of the fence are gone only where the addresses are.
func TestFenceFollowsAddresses(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	for _, g := range []*gateway{a, b} {
		for _, family := range []string{"-4", "-6"} {
			out := g.Run(fmt.Sprintf("ip %s rule show", family))
			if g == b && !strings.Contains(out, "blackhole") {
				t.Errorf("%s is not fenced:\n%s", g.Name, out)
			}
			if g == a && strings.Contains(out, "blackhole") {
				t.Errorf("%s is fenced:\n%s", g.Name, out)
			}
		}
	}
}
