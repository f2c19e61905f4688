package shapes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// protoGRE must not be seen outside of ESP.
const protoGRE = 47

// transport is a pair of SAs in transport mode between a VIP and the remote,
// with their policies, for one protocol of the layer above ("": all).
type transport struct {
	local, remote netip.Addr
	proto         string
	reqid         int
	spiOut, spiIn uint32
	esn           bool
	ends          bool // the templates name the ends, as charon's do, or not, as setkey's
}

// lines are those of ip -batch at the local end, and at the remote.
func (x transport) lines() (local, remote []string) {
	sel := func(src, dst netip.Addr) string {
		s := fmt.Sprintf("src %s/%d dst %s/%d", src, src.BitLen(), dst, dst.BitLen())
		if x.proto != "" {
			s += " proto " + x.proto
		}
		return s
	}
	alg := func() string {
		if x.esn {
			return "aead rfc4106(gcm(aes)) " + randomKey(20) + " 128 replay-window 128 flag esn"
		}
		return "auth-trunc hmac(sha256) " + randomKey(32) + " 128 enc cbc(aes) " + randomKey(32) + " replay-window 32"
	}
	state := func(src, dst netip.Addr, spi uint32) string {
		return fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %#x reqid %d mode transport %s sel %s", src, dst,
			spi, x.reqid, alg(), sel(src, dst))
	}
	policy := func(dir string, src, dst netip.Addr) string {
		ends := ""
		if x.ends {
			ends = fmt.Sprintf("src %s dst %s ", src, dst)
		}
		return fmt.Sprintf("xfrm policy add dir %s %s priority 1000 tmpl %sproto esp reqid %d mode transport", dir,
			sel(src, dst), ends, x.reqid)
	}
	states := []string{state(x.local, x.remote, x.spiOut), state(x.remote, x.local, x.spiIn)}
	local = append(local, states...)
	local = append(local, policy("out", x.local, x.remote), policy("in", x.remote, x.local))
	remote = append(remote, states...)
	remote = append(remote, policy("out", x.remote, x.local), policy("in", x.local, x.remote))
	return local, remote
}

// transports: of IPv4, one for GRE and one for a service at the VIP; of IPv6
// one for all.
var transports = []transport{
	{local: lab.VIPOut, remote: lab.RGWOut, proto: "gre", reqid: 14, spiOut: 0x4001, spiIn: 0x4002},
	{local: lab.VIPOut, remote: lab.RGWOut, proto: "udp", reqid: 15, spiOut: 0x4003, spiIn: 0x4004, ends: true},
	{local: lab.VIPOut6, remote: lab.RGWOut6, reqid: 16, spiOut: 0x6001, spiIn: 0x6002, esn: true, ends: true},
}

// greRoutes lead the sites' networks into the tunnels.
func greRoutes(nd *lab.Node, net4, net6 netip.Prefix) {
	nd.IP("route replace "+net4.String()+" dev gre4", "route del "+net6.String(), "route add "+net6.String()+
		" dev gre6")
}

// Both shapes of transport mode, at once: sites behind GRE tunnels, and a remote
// host that speaks with a service at the virtual IP. The service runs on both
// gateways and sends all the time, on the BACKUP too, where nothing must come
// of it.
func TestTransport(t *testing.T) {
	p, gw1, gw2 := bare(t)
	for _, g := range p.Members {
		batch(t, g.Node, "gre", "gateway", "gre.batch")
		greRoutes(g.Node, lab.RemNet, lab.RemNet6)
	}
	batch(t, p.RGW, "gre", "remote", "gre.batch")
	greRoutes(p.RGW, lab.LANNet, lab.LANNet6)
	for _, x := range transports {
		local, remote := x.lines()
		// Keys are made once for both ends.
		remote[0], remote[1] = local[0], local[1]
		gw1.IP(local...)
		p.RGW.IP(remote...)
	}
	p.Start()

	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner(), Protocols: []uint8{protoGRE}})
	var flows []meter.Config
	for i, ends := range [][2]netip.Addr{{lab.H1Addr, lab.H2Addr}, {lab.H1Addr6, lab.H2Addr6}} {
		flows = append(flows, meter.Both(meter.Config{From: p.H1, To: p.H2, Src: ends[0], Dst: ends[1],
			Port: uint16(7000 + 2*i), Rate: rate})...)
	}
	for i, ends := range [][2]netip.Addr{{lab.VIPOut, lab.RGWOut}, {lab.VIPOut6, lab.RGWOut6}} {
		flows = append(flows, meter.Both(meter.Config{From: gw1.Node, FromAlso: []*lab.Node{gw2.Node}, To: p.RGW,
			Src: ends[0], Dst: ends[1], Port: uint16(7100 + 2*i), Rate: rate})...)
	}
	m := meter.Start(t, flows...)
	start := time.Now()
	flowing(t, m, rate)
	requireSilent(t, c, gw2, start, time.Now(), "as a backup from the start")

	// Power cut: the new MASTER's interfaces are up already.
	from := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate)
	taken := time.Now()
	requireGap(t, m, "power cut", scenario.BudgetPowerCut, from, taken)

	// It returns as from a reboot: its own policies are set by its start, the
	// rest comes from the master.
	gw1.Forget()
	var own []string
	for line := range strings.Lines(example(t, "gre", "gateway", "gre.batch")) {
		if strings.HasPrefix(line, "xfrm policy") {
			own = append(own, strings.TrimSpace(line))
		}
	}
	gw1.IP(own...)
	gw1.Return()
	p.WaitFit(gw2)
	flowing(t, m, rate)
	now := time.Now()
	flowing(t, m, rate/10) // what was under way
	requireSilent(t, c, gw1, taken, now, "after its return as a backup")
	if r := m.Between(taken, now); r.Lost > 0 {
		t.Errorf("gw1's return: %v", r)
	}
	equal(t, gw1, gw2)

	// Hand-over.
	from = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	flowing(t, m, rate)
	taken = time.Now()
	flowing(t, m, rate/10)
	requireGap(t, m, "hand-over", scenario.BudgetHandOver, from, taken)
	p.WaitFit(gw1)
	equal(t, gw1, gw2)

	// A sasyncd without an elector, beside a service that goes on sending.
	from = time.Now()
	gw1.Carpd.Kill()
	gw2.WaitRole("MASTER")
	killed := time.Now()
	flowing(t, m, 3*rate) // beyond the lease of the addresses
	requireGap(t, m, "carpd killed", scenario.BudgetPowerCut, from, time.Now())
	requireSilent(t, c, gw1, killed, time.Now(), "after its carpd was killed")

	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
	for _, f := range m.Flows {
		if r := f.Total(); r.Duplicate != 0 {
			t.Errorf("%v", r)
		}
	}
	for _, g := range p.Members {
		if s, err := g.Status(); err != nil || s.Counts.KernelErrors != 0 {
			t.Errorf("%s: %d errors of the kernel: %v", g.Name, s.Counts.KernelErrors, err)
		}
		if out := g.Run("ip xfrm policy"); strings.Count(out, "action block") != 4 {
			t.Errorf("%s has not its own 4 blocking policies:\n%s", g.Name, out)
		}
	}
}

// equal fails the test for every SA and policy that differs.
func equal(t *testing.T, a, b *scenario.Member) {
	t.Helper()
	x, err := scenario.ReadTables(a.Node)
	if err != nil {
		t.Fatal(err)
	}
	y, err := scenario.ReadTables(b.Node)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.States) == 0 || len(x.Policies) == 0 {
		t.Errorf("%s has %d SAs and %d policies", a.Name, len(x.States), len(x.Policies))
	}
	for _, d := range scenario.Differences(x, y, a.Name, b.Name) {
		t.Error(d)
	}
}
