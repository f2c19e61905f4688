package election

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// With the protocol's own MAC a neighbour learns nothing new when the master
// changes, and traffic flows all the same, while the backup does not forward
// what switches flood to it.
func TestVirtualMAC(t *testing.T) {
	p := newPair(t)
	p.instances = func(g *gateway) string {
		return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; address 10.1.0.1/32; address fd00:1::1/128; mac virtual; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; address 10.3.0.1/32; address fd00:3::1/128; mac virtual; group gate }
`, g.priority, g.priority)
	}
	a, b := p.gws[0], p.gws[1]
	// Both lead astray what is not set up with care.
	for _, g := range p.gws {
		g.Sysctl("net/ipv4/conf/all/rp_filter=1")
	}
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.await(api.StateBackup, patience)
	b.awaitLog("master heard", 4)

	m := p.traffic()
	settle(t, 500*time.Millisecond)
	mac := func(ip string) string { return p.host.Run("ip neigh show " + ip) }
	for ip, want := range map[string]string{"10.1.0.1": "00:00:5e:00:01:0a", "fd00:1::1": "00:00:5e:00:02:0a"} {
		if out := mac(ip); !strings.Contains(out, want) {
			t.Errorf("neighbour %s is %q, want %s", ip, out, want)
		}
	}
	if out := b.Run("ip -o link show type macvlan"); strings.Count(out, "<BROADCAST,MULTICAST> ") != 4 {
		t.Errorf("the backup's virtual interfaces are not all there and down:\n%s", out)
	}
	// Own traffic of a node says its own MAC, also with the address as source.
	a.IP("neigh flush dev in0")
	a.sendFrom(t, "10.1.0.1", "10.1.0.100")
	lab.Eventually(t, patience, "the master has asked for the host", func() bool {
		return strings.Contains(a.Run("ip neigh show 10.1.0.100"), "lladdr")
	})
	if out := mac("10.1.0.1"); !strings.Contains(out, "00:00:5e:00:01:0a") {
		t.Errorf("the master gave its own MAC away: %s", out)
	}
	// Take-over: nothing to learn.
	began := time.Now()
	a.d.Kill()
	b.await(api.StateMaster, takeover)
	settle(t, 1500*time.Millisecond)
	report := m.Between(began, time.Now())
	t.Logf("killed: %v", report)
	if report.Gap > time.Second {
		t.Errorf("gap of %v", report.Gap)
	}
	lab.Eventually(t, patience, "the dead node's addresses are gone", func() bool { return a.holds() == 0 })
	// It comes back, clears up, and forwards nothing.
	p.start(a)
	a.await(api.StateBackup, patience)
	if out := a.Run("ip -o link show type macvlan"); strings.Count(out, "<BROADCAST,MULTICAST> ") != 4 {
		t.Errorf("virtual interfaces after the return:\n%s", out)
	}
	m.Stop()
}

// Connections of the node itself do not begin from an address that will move.
func TestOwnSource(t *testing.T) {
	t.Parallel()
	_, a, _ := run(t)
	for _, to := range []string{"fd00:1::100", "fd00:3::100", "10.1.0.100"} {
		out := a.Run("ip route get " + to)
		for _, vip := range allVIPs {
			if strings.Contains(out, "src "+vip.String()+" ") {
				t.Errorf("to %s from a virtual address: %s", to, out)
			}
		}
	}
	// Asked for, it is used.
	a.sendFrom(t, "fd00:1::1", "fd00:1::100")
}

// What somebody deletes is put back, counted, and announced.
func TestRepairIsCounted(t *testing.T) {
	t.Parallel()
	p, a, _ := run(t)
	p.host.IP("neigh replace 10.1.0.1 dev eth0 lladdr 02:00:00:00:00:99 nud reachable")
	a.IP("addr del 10.1.0.1/32 dev in0")
	lab.Eventually(t, patience, "the repair is counted",
		func() bool { return a.state().Instances[0].Routers[0].Repaired == 1 })
	lab.Eventually(t, patience, "the neighbours are told", func() bool {
		return strings.Contains(p.host.Run("ip neigh show 10.1.0.1"), a.in.MAC.String())
	})
}

// sendFrom sends a datagram with a given source.
func (g *gateway) sendFrom(t *testing.T, src, dst string) {
	t.Helper()
	err := g.Do(func() error {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(src)}, &net.UDPAddr{IP: net.ParseIP(dst), Port: 9})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
	if err != nil {
		t.Errorf("send from %s: %v", src, err)
	}
}
