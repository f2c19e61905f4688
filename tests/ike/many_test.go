package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// TestStrongSwanNAT: with a NAT in front of the remote gateway, ESP goes in UDP
// (IPv4; IPv6 has no NAT). The backup's charon is passive but runs, and holds
// the socket that inbound packets need.
func TestStrongSwanNAT(t *testing.T) {
	p, gw1, gw2 := bare(t)
	behindNAT(t, p)
	charons := make(map[*scenario.Member]*charon)
	for gw, spis := range map[*scenario.Member]string{gw1: "c1", gw2: "c2"} {
		conf := strings.ReplaceAll(example(t, "strongswan", "gateway", "swanctl.conf"), lab.RGWOut.String(), natOut)
		charons[gw] = newCharon(t, gw.Node, spis, conf)
		charons[gw].supervise()
	}
	r := newCharon(t, p.RGW, "cf", strings.ReplaceAll(example(t, "strongswan", "remote", "swanctl.conf"),
		lab.RGWOut.String(), natIn))
	r.start()
	for _, gw := range p.Members {
		startOn(t, p, gw, &stage{Node: gw.Node}, "strongswan")
	}
	gw1.Lead()
	waitIKE(t, gw1, "active")
	p.WaitFit(gw1)
	for _, gw := range p.Members {
		if out := gw.Run("ip xfrm state"); strings.Count(out, "espinudp") != 2 {
			t.Errorf("%s has no SAs for ESP in UDP", gw.Name)
		}
	}
	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	from := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	w.requireNoIKE(t, gw2.WAN, time.Time{}, from, "as a backup")
	waitIKE(t, gw2, "active")
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)
	rekey(t, m, "after the power cut", charons[gw2], r)
	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// Addresses of the NAT, and of the remote gateway behind it.
const (
	natOut = "192.0.2.101"
	natIn  = "172.16.0.2"
)

// behindNAT puts a NAT between the WAN and the remote gateway's IPv4 address. It
// is one to one, so that the gateways can initiate.
func behindNAT(t *testing.T, p *scenario.Pair) *lab.Node {
	t.Helper()
	home := p.Switch("home")
	nat := p.Node("nat")
	nat.Forward()
	nat.Plug(p.WAN, "wan0", natOut+"/24")
	nat.Plug(home, "home0", "172.16.0.1/24")
	nat.Run("tc qdisc add dev wan0 clsact")
	mapTo(nat, natOut, 20)
	p.RGW.Plug(home, "home0", natIn+"/24")
	p.RGW.IP("addr del 192.0.2.100/24 dev wan0", "route replace 192.0.2.0/24 via 172.16.0.1",
		"route replace 10.1.0.0/24 via 172.16.0.1")
	for _, gw := range p.Members {
		gw.IP("route replace 10.2.0.0/24 via " + natOut)
	}
	return nat
}

// mapTo has the NAT show the remote gateway as another address. Of several the
// one with the lowest number counts.
func mapTo(nat *lab.Node, out string, number int) {
	const add = "tc filter add dev wan0 %[1]s protocol ip pref %[2]d matchall action nat %[1]s %[3]s/32 %[4]s"
	nat.Run(fmt.Sprintf(add, "ingress", number, out, natIn))
	nat.Run(fmt.Sprintf(add, "egress", number, natIn, out))
}

// TestStrongSwanMapping: the gateways cannot initiate to a remote behind NAT, so
// its tunnel lives on what was replicated; and then the NAT's mapping changes,
// of which nobody tells but the kernel.
func TestStrongSwanMapping(t *testing.T) {
	p, gw1, gw2 := bare(t)
	nat := behindNAT(t, p)
	for gw, spis := range map[*scenario.Member]string{gw1: "c1", gw2: "c2"} {
		conf := strings.ReplaceAll(example(t, "strongswan", "gateway", "swanctl.conf"), "remote_addrs = "+
			lab.RGWOut.String(), "remote_addrs = %any")
		newCharon(t, gw.Node, spis, conf).supervise()
	}
	conf := strings.ReplaceAll(example(t, "strongswan", "remote", "swanctl.conf"), lab.RGWOut.String(), natIn)
	r := newCharon(t, p.RGW, "cf", conf)
	r.start()
	for _, gw := range p.Members {
		startOn(t, p, gw, &stage{Node: gw.Node}, "strongswan")
	}
	gw1.Lead()
	waitTunnels(t, gw1, "active", 1) // that over IPv6
	r.swanctl("--initiate --child site4")
	p.WaitFit(gw1)
	requireSameSAs(t, gw1.Node, gw2.Node)
	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	from := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	waitTunnels(t, gw2, "active", 1)
	flowing(t, m, rate)
	to := time.Now()
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)

	const other = "192.0.2.102"
	nat.IP("addr add " + other + "/24 dev wan0")
	from = to
	mapTo(nat, other, 10)
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "another mapping", scenario.BudgetPowerCut, from, to)
	if out := gw2.Run("ip xfrm state"); strings.Contains(out, natOut) || !strings.Contains(out, other) {
		t.Errorf("%s still sends to the former mapping", gw2.Name)
	}
	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// many is how many tunnels one remote has in TestStrongSwanMany.
const many = 30

// TestStrongSwanMany: 30 tunnels to one remote, each with an IKE SA of its own, and
// 30 remotes with one tunnel each, are negotiated afresh after a power cut, paced
// so that no limit of half-open SAs is hit.
func TestStrongSwanMany(t *testing.T) {
	t.Run("one remote", func(t *testing.T) { testMany(t, "", func(int) netip.Addr { return lab.RGWOut }) })
	// One charon has all the addresses; the gateways cannot tell. It would count the
	// half-open SAs of all, in total and of one peer, where each of 30 daemons would
	// have its own. So its limits are above what comes here. "One remote" has the
	// defaults.
	t.Run("a remote each", func(t *testing.T) {
		limits := "cookie_threshold = 100\n\tcookie_threshold_ip = 100\n\tblock_threshold = 200"
		testMany(t, limits, func(i int) netip.Addr {
			if i == 0 {
				return lab.RGWOut
			}
			return netip.AddrFrom4([4]byte{192, 0, 2, byte(110 + i)})
		})
	})
}

func testMany(t *testing.T, remotes string, far func(i int) netip.Addr) {
	p, gw1, gw2 := bare(t)
	for i := 1; i < many && far(i) != far(0); i++ {
		p.RGW.IP(fmt.Sprintf("addr add %s/24 dev wan0", far(i)))
	}
	gateway, remote := manyConf(far)
	for gw, spis := range map[*scenario.Member]string{gw1: "c1", gw2: "c2"} {
		newCharon(t, gw.Node, spis, gateway).supervise()
	}
	r := newCharon(t, p.RGW, "cf", remote)
	r.more = remotes
	r.start()
	for _, gw := range p.Members {
		startOn(t, p, gw, &stage{Node: gw.Node}, "strongswan")
	}
	gw1.Lead()
	waitTunnels(t, gw1, "active", many)
	p.WaitFit(gw1)
	w := watch(t, p)
	m := meter.Start(t, meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000,
		Rate: rate})...)
	flowing(t, m, rate)

	from := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	k := waitTunnels(t, gw2, "active", many)
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	t.Logf("%d tunnels negotiated in %.1f s", many, k.PromoteSeconds)
	if k.PromoteSeconds > 10 {
		t.Errorf("the negotiation took %.1f s, more than 10", k.PromoteSeconds)
	}
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)
	for _, bad := range []string{"COOKIE", "half-open", "giving up"} {
		for line := range strings.Lines(r.log()) {
			if strings.Contains(line, bad) {
				t.Errorf("the remote's log has %q: %s", bad, line)
			}
		}
	}
	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// manyConf returns swanctl.conf of the gateways and of the remote. The first of
// the tunnels has the lab's hosts.
func manyConf(far func(i int) netip.Addr) (gateway, remote string) {
	const conn = `	t%[1]d {
		version = 2; local_addrs = %[2]s; remote_addrs = %[3]s; mobike = no; unique = %[4]s
		proposals = aes128gcm16-prfsha256-curve25519
		local { auth = psk; id = %[5]s%[1]d.example.org }
		remote { auth = psk; id = %[6]s%[1]d.example.org }
		children { t%[1]d { local_ts = %[7]s; remote_ts = %[8]s; esp_proposals = aes128gcm16; reqid = %[9]s } }
	}
`
	var g, r, secrets strings.Builder
	for i := range many {
		net := lab.RemNet
		if i > 0 {
			net = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 3, byte(i), 0}), 24)
		}
		vip, lan := lab.VIPOut.String(), lab.LANNet.String()
		g.WriteString(settings(conn, i, vip, far(i).String(), "never", "gw", "remote", lan, net.String(),
			fmt.Sprint(i+1)))
		r.WriteString(settings(conn, i, far(i).String(), vip, "replace", "remote", "gw", net.String(), lan, "0"))
		secrets.WriteString(settings("ike-%[1]d { id-1 = gw%[1]d.example.org; id-2 = remote%[1]d.example.org; secret "+
			"= many-%[1]d }\n", i))
	}
	conf := func(conns string) string {
		return "connections {\n" + conns + "}\nsecrets {\n" + secrets.String() + "}\n"
	}
	return conf(g.String()), conf(r.String())
}
