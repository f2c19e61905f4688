// Package routed is tunnels that interfaces lead into: xfrm interfaces with
// if_id, and vti with marks. user-mode-linux has no xfrm interfaces, so it always
// runs on Debian's cloud kernel under qemu: make drill-qemu.
package routed

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
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

func TestMain(m *testing.M) { harness.Main(m, append(scenario.Options(), harness.QEMU())...) }

// rate of each flow, in packets a second.
const rate = 100

// limit of what is waited for: that it happens at all.
const limit = 20 * time.Second

// detection is how long a silent master is believed in: three intervals.
const detection = 750 * time.Millisecond

// example runs a script of deploy/examples/route-based on a node.
func example(t *testing.T, nd *lab.Node, script, verb string, env ...string) {
	t.Helper()
	cmd := exec.Command("sh", filepath.Join("..", "..", "deploy", "examples", "route-based", script), verb)
	cmd.Env = append(os.Environ(), env...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := nd.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s %s on %s: %v: %s", script, verb, nd.Name, err, out.String())
	}
}

// way is one way to make interfaces for the two tunnels of the lab.
type way struct {
	extra [2]string // of the SAs and policies
	make  func(*testing.T, *scenario.Member)
	names [2]string
}

var xfrm = way{
	extra: [2]string{"if_id 0x2a", "if_id 0x2b"},
	names: [2]string{"ipsec1", "ipsec2"},
	make: func(t *testing.T, m *scenario.Member) {
		example(t, m.Node, "xfrm.sh", "up", "UPLINK=wan0", "NAME=ipsec1", "ID=0x2a", "NETS="+lab.RemNet.String())
		example(t, m.Node, "xfrm.sh", "up", "UPLINK=wan0", "NAME=ipsec2", "ID=0x2b", "NETS="+lab.RemNet6.String())
	},
}

var vti = way{
	extra: [2]string{"mark 0x2a mask 0xffffffff", "mark 0x2b mask 0xffffffff"},
	names: [2]string{"vti1", "vti2"},
	make: func(t *testing.T, m *scenario.Member) {
		example(t, m.Node, "vti.sh", "up", "NAME=vti1", "KEY=42", "VIP="+lab.VIPOut.String(), "REMOTE="+
			lab.RGWOut.String(), "NETS="+lab.RemNet.String())
		example(t, m.Node, "vti.sh", "up", "NAME=vti2", "KEY=43", "VIP="+lab.VIPOut6.String(), "REMOTE="+
			lab.RGWOut6.String(), "NETS="+lab.RemNet6.String())
	},
}

// A failover with traffic through interfaces: power cut, return, hand-over, with
// the same proof from the wire as for tunnels that policies lead into. The remote
// end is policy-based, and knows of nothing.
func TestFailover(t *testing.T) {
	for name, w := range map[string]way{"xfrm": xfrm, "vti": vti} {
		t.Run(name, func(t *testing.T) { w.failover(t) })
	}
}

func (w way) failover(t *testing.T) {
	p := scenario.NewPair(t)
	gw1, gw2 := p.Members[0], p.Members[1]
	gw1.Forget() // the tunnels without interfaces
	for i := range p.Tunnels {
		tn := &p.Tunnels[i]
		tn.Extra, tn.LocalNet, tn.RemoteNet = w.extra[i], "0.0.0.0/0", "0.0.0.0/0"
		if strings.Contains(tn.Local, ":") {
			tn.LocalNet, tn.RemoteNet = "::/0", "::/0"
		}
	}
	lab.Install(gw1.Node, p.Tunnels)
	for _, m := range p.Members {
		w.make(t, m)
	}
	p.H2.IP("addr add "+stray.String()+"/24 dev eth0", "addr add "+stray6.String()+"/64 dev eth0 nodad")
	p.Start()
	before := tables(t, gw1)
	for _, extra := range w.extra {
		all := strings.Join(before.States, "") + strings.Join(before.Policies, "")
		if n := strings.Count(strings.ReplaceAll(all, "/0xffffffff", " mask 0xffffffff"), extra); n != 5 {
			t.Errorf("gw1 has %d SAs and policies with %q, want 5:\n%s", n, extra, all)
		}
	}
	requireEqual(t, before, tables(t, gw2), "gw1", "gw2")

	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: p.H1, To: p.H2, Src: src, Dst: dst, Port: port, Rate: rate})
	}
	m := meter.Start(t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	x := meter.StartTransfer(t, p.H1, p.H2, lab.H1Addr, lab.H2Addr, 8000)
	flowing(t, m, rate)

	// What is sent into the interface of a backup stays there.
	w.silent(t, p, gw2)

	start := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	flowing(t, m, 2*rate)
	cut := m.Between(start, time.Now())
	t.Logf("power cut: %v", cut)
	if budget := 2 * scenario.BudgetPowerCut; cut.Gap > budget {
		t.Errorf("power cut: a gap of %v, limit %v", cut.Gap, budget)
	}
	gw1.Return()
	p.WaitFit(gw2)
	requireEqual(t, before, tables(t, gw1), "gw1 at the start", "gw1 after its return")
	flowing(t, m, rate)
	w.silent(t, p, gw1)

	start = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	flowing(t, m, 2*rate)
	over := m.Between(start, time.Now())
	t.Logf("hand-over: %v", over)
	// Budgets are for machines that are not emulated. Here it is enough that
	// nobody had to find out.
	if over.Gap > detection {
		t.Errorf("hand-over: a gap of %v, and a power cut is detected after %v", over.Gap, detection)
	}
	if err := x.Finish(limit); err != nil {
		t.Error(err)
	}
	m.Stop()
	c.RequireClean()
	for _, nd := range []*lab.Node{p.RGW, gw1.Node, gw2.Node} {
		if st := nd.XfrmStat(); lab.Refused(nil, st) != 0 {
			t.Errorf("%s has refused packets: %v", nd.Name, st)
		}
	}
	for _, g := range p.Members {
		requireEqual(t, before, tables(t, g), "gw1 at the start", g.Name+" at the end")
	}
}

// Addresses of h2 to which h1 sends by way of a backup.
var stray, stray6 = netip.MustParseAddr("10.2.0.77"), netip.MustParseAddr("fd00:2::77")

// silent has a backup asked to forward into its interfaces, and sees nothing leave.
func (w way) silent(t *testing.T, p *scenario.Pair, backup *scenario.Member) {
	t.Helper()
	p.H1.IP("route replace "+stray.String()+" via "+backup.InAddr.String(),
		"route replace "+stray6.String()+" via "+backup.InAddr6.String()+" dev eth0")
	wan := capture.Start(t, capture.Config{Ports: []*lab.Port{backup.WAN}, Inner: lab.Inner()})
	start := time.Now()
	refused := func(i int) int { return statistic(t, backup, w.names[i]) }
	was := [2]int{refused(0), refused(1)}
	sent := meter.Start(t,
		meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: stray, Port: 7100, Rate: rate},
		meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr6, Dst: stray6, Port: 7101, Rate: rate})
	lab.Eventually(t, limit, "both interfaces of "+backup.Name+" to have refused 20 packets", func() bool {
		time.Sleep(50 * time.Millisecond)
		return refused(0) >= was[0]+20 && refused(1) >= was[1]+20
	})
	sent.Stop()
	wan.Stop()
	if r := sent.Total(); r.Lost != r.Sent {
		t.Errorf("%v: all should be lost", r)
	}
	if n := wan.Between(start, time.Now(), backup.WAN); n.ESP != 0 || n.Plaintext != 0 {
		t.Errorf("%s, a backup, has sent %d ESP packets and %d in plaintext", backup.Name, n.ESP, n.Plaintext)
	}
	// Its own address inside is reached through the master all the same.
	for _, own := range []netip.Addr{backup.InAddr, backup.InAddr6} {
		if err := p.H2.Ping(own, harness.Scaled(2*time.Second)); err != nil {
			t.Errorf("%s, a backup, is not reached from the remote network: %v", backup.Name, err)
		}
	}
}

// statistic is what an interface has been given to send and has thrown away.
func statistic(t *testing.T, m *scenario.Member, name string) int {
	t.Helper()
	l, err := m.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	s := l.Attrs().Statistics
	return int(s.TxErrors + s.TxDropped)
}

// flowing waits until n more packets have arrived on every flow.
func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	want := make([]int, len(m.Flows))
	for i, f := range m.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, limit, fmt.Sprintf("%d packets on every flow", n), func() bool {
		time.Sleep(50 * time.Millisecond)
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
