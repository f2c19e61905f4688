package election

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// filters reports whether the kernel has a packet filter: that of
// user-mode-linux has not, and there tests see to it that carpd says so.
func filters(n *lab.Node) bool {
	_, err := n.Try("nft add table inet probe ; delete table inet probe")
	return err == nil
}

// refusesToStart expects that carpd ends because the kernel cannot do what the
// configuration wants.
func (p *pair) refusesToStart(g *gateway, doing string) {
	p.t.Helper()
	p.start(g)
	g.d.MayExit()
	if code := g.d.WaitExit(10 * time.Second); code != 1 || !strings.Contains(g.d.Output(), doing) ||
		!strings.Contains(g.d.Output(), "not supported") {
		p.t.Errorf("exit code %d: %s", code, g.d.Output())
	}
	if n := g.fenced(); n == 0 {
		p.t.Error("ended without the fence")
	}
}

// With `accept no` nobody can reach the virtual address itself; who routes
// through it does not notice. An owner accepts all the same.
func TestAccept(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	accept, priority := "no", 200
	p.instances = func(*gateway) string {
		return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; interval %s; address 10.1.0.1/32; address fd00:1::1/128; group gate; accept %s }
vrrp outside { carpdev out0; vrid 11; priority %d; interval %s; address 10.3.0.1/32; address fd00:3::1/128; group gate }
`, priority, p.interval, accept, priority, p.interval)
	}
	a := p.gws[0]
	if !filters(a.Node) {
		p.refusesToStart(a, "refuse packets to addresses")
		return
	}
	p.start(a)
	a.await(api.StateMaster, patience)
	m := p.traffic()
	reaches := func(vip string, from *lab.Node) bool { return from.Ping(addr(vip), 300*time.Millisecond) == nil }
	refused := func(when string, want bool) {
		t.Helper()
		lab.Eventually(t, patience, fmt.Sprintf("%s: refused is %v", when, want), func() bool {
			return reaches("10.1.0.1", p.host) != want && reaches("fd00:1::1", p.host) != want
		})
		// From the other side and on the other instance, and the node itself.
		if reaches("10.1.0.1", p.peer) == want || reaches("fd00:1::1", p.peer) == want {
			t.Errorf("%s: through the other interface the address is reached: %v", when, want)
		}
		if !reaches("10.3.0.1", p.peer) || !reaches("fd00:3::1", p.peer) || !reaches("10.1.0.11", p.host) {
			t.Errorf("%s: addresses are out of reach that accept packets", when)
		}
		if !reaches("10.1.0.1", a.Node) {
			t.Errorf("%s: the node does not reach its own address", when)
		}
	}
	refused("at first", true)
	if out := p.host.Run("ip neigh show 10.1.0.1") + p.host.Run("ip -6 neigh show fd00:1::1"); strings.Count(out,
		a.in.MAC.String()) != 2 {
		t.Errorf("the neighbours do not find the router: %s", out)
	}
	reload := func() {
		t.Helper()
		p.config(a)
		if out, code := a.ctl("reload"); code != 0 {
			t.Fatalf("reload: %s", out)
		}
	}
	accept = "yes"
	reload()
	refused("accept yes", false)
	accept = "no"
	reload()
	refused("accept no", true)
	priority = 255
	reload()
	refused("as the owner", false)
	began := time.Now()
	settle(t, 500*time.Millisecond)
	// When the sender stood still, so may have the gateway.
	if report := m.Between(began, time.Now()); report.Gap-report.Stall > 200*time.Millisecond {
		t.Errorf("traffic through the gateway: %v", report)
	}
	m.Stop()

	// Nothing is left behind.
	priority = 200
	reload()
	refused("accept no again", true)
	a.d.Kill()
	if out, err := a.Try(program(t, "carpd") + " -c " + p.config(a) + " cleanup"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a.IP("addr add 10.1.0.1/32 dev in0", "rule del from 10.1.0.1")
	if !reaches("10.1.0.1", p.host) {
		t.Error("the rules outlive cleanup")
	}
}
