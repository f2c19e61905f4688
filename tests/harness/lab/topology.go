package lab

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Standard is the lab of most drills: protected hosts behind redundant gateways, a remote gateway,
// and a host behind that. Tunnels run from the gateways' outside VIP to rgw.
//
//	                       VIP 10.1.0.1          VIP 192.0.2.1
//	                       fd00:1::1             2001:db8::1
//	                   ┌───────────── gw1 ─────────────┐
//	                   │ lan0  .11   sync0    wan0 .11 │
//	h1 ─────────── [ lan ]             │             [ wan ] ─────────── rgw ──── [ rem ] ─── h2
//	eth0 10.1.0.10     │             [ sync ]          │      wan0 192.0.2.100     │    eth0 10.2.0.10
//	fd00:1::10         │               │               │      2001:db8::100        │    fd00:2::10
//	                   │ lan0  .12   sync0    wan0 .12 │           rem0 10.2.0.1 ──┘
//	                   └───────────── gw2 ─────────────┘           fd00:2::1
//	                           (gw3: .13, ...)
//
// Networks: lan 10.1.0.0/24 fd00:1::/64, wan 192.0.2.0/24 2001:db8::/64,
// rem 10.2.0.0/24 fd00:2::/64, sync 10.9.0.0/24 fd00:9::/64; gateway n has host
// number 10+n (hexadecimal digits read as decimal in IPv6) in lan, wan and sync.
// h1 routes everything to the inside VIPs, rgw routes lan to the outside VIPs,
// gateways route rem to rgw. No VIP is set by the lab.
type Standard struct {
	*Net
	LAN, WAN, Rem, Sync *Switch
	H1, H2              *Node
	RGW                 *Node
	Gateways            []*Gateway
	RGWPort             *Port // rgw's cable to the WAN
}

// Gateway is one of the redundant gateways of [Standard].
type Gateway struct {
	*Node
	LAN, WAN, Sync *Port
	SyncAddr       netip.Addr // IPv4, on the sync switch
	SyncAddr6      netip.Addr
	InAddr         netip.Addr // own addresses inside
	InAddr6        netip.Addr
	OutAddr        netip.Addr // own addresses outside
	OutAddr6       netip.Addr
}

// Addresses of the standard lab.
var (
	VIPIn   = netip.MustParseAddr("10.1.0.1")
	VIPIn6  = netip.MustParseAddr("fd00:1::1")
	VIPOut  = netip.MustParseAddr("192.0.2.1")
	VIPOut6 = netip.MustParseAddr("2001:db8::1")
	RGWOut  = netip.MustParseAddr("192.0.2.100")
	RGWOut6 = netip.MustParseAddr("2001:db8::100")
	H1Addr  = netip.MustParseAddr("10.1.0.10")
	H1Addr6 = netip.MustParseAddr("fd00:1::10")
	H2Addr  = netip.MustParseAddr("10.2.0.10")
	H2Addr6 = netip.MustParseAddr("fd00:2::10")
	LANNet  = netip.MustParsePrefix("10.1.0.0/24")
	LANNet6 = netip.MustParsePrefix("fd00:1::/64")
	RemNet  = netip.MustParsePrefix("10.2.0.0/24")
	RemNet6 = netip.MustParsePrefix("fd00:2::/64")
)

// NewStandard builds the standard lab with the given number of gateways (1 to 80).
func NewStandard(t T, gateways int) *Standard {
	t.Helper()
	n := New(t)
	s := &Standard{Net: n}
	s.LAN, s.WAN, s.Rem, s.Sync = n.Switch("lan"), n.Switch("wan"), n.Switch("rem"), n.Switch("sync")

	s.H1 = n.Node("h1")
	s.H1.Plug(s.LAN, "eth0", "10.1.0.10/24", "fd00:1::10/64")
	s.H1.IP("route add default via 10.1.0.1", "route add default via fd00:1::1 dev eth0")

	for i := range gateways {
		s.Gateways = append(s.Gateways, s.newGateway(i+1))
	}

	s.RGW = n.Node("rgw")
	s.RGW.Forward()
	s.RGWPort = s.RGW.Plug(s.WAN, "wan0", "192.0.2.100/24", "2001:db8::100/64")
	s.RGW.Plug(s.Rem, "rem0", "10.2.0.1/24", "fd00:2::1/64")
	s.RGW.IP("route add 10.1.0.0/24 via 192.0.2.1", "route add fd00:1::/64 via 2001:db8::1 dev wan0")

	s.H2 = n.Node("h2")
	s.H2.Plug(s.Rem, "eth0", "10.2.0.10/24", "fd00:2::10/64")
	s.H2.IP("route add default via 10.2.0.1", "route add default via fd00:2::1 dev eth0")
	return s
}

func (s *Standard) newGateway(n int) *Gateway {
	s.t.Helper()
	host := 10 + n
	v4 := func(net string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("%s.%d", net, host)) }
	v6 := func(net string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("%s::%d", net, host)) }
	g := &Gateway{
		Node:     s.Node(fmt.Sprintf("gw%d", n)),
		SyncAddr: v4("10.9.0"), SyncAddr6: v6("fd00:9"),
		InAddr: v4("10.1.0"), InAddr6: v6("fd00:1"),
		OutAddr: v4("192.0.2"), OutAddr6: v6("2001:db8"),
	}
	g.Forward()
	g.LAN = g.Plug(s.LAN, "lan0", g.InAddr.String()+"/24", g.InAddr6.String()+"/64")
	g.WAN = g.Plug(s.WAN, "wan0", g.OutAddr.String()+"/24", g.OutAddr6.String()+"/64")
	g.Sync = g.Plug(s.Sync, "sync0", g.SyncAddr.String()+"/24", g.SyncAddr6.String()+"/64")
	g.IP("route add 10.2.0.0/24 via 192.0.2.100", "route add fd00:2::/64 via 2001:db8::100 dev wan0")
	return g
}

// WANPorts returns all cables of the WAN: of the gateways, then of rgw.
func (s *Standard) WANPorts() []*Port {
	var ps []*Port
	for _, g := range s.Gateways {
		ps = append(ps, g.WAN)
	}
	return append(ps, s.RGWPort)
}

// Inner returns the protected networks, whose addresses must not show on the WAN.
func Inner() []netip.Prefix { return []netip.Prefix{LANNet, LANNet6, RemNet, RemNet6} }

// SetVIPs gives the gateway all four VIPs by hand, as carpd does for a master.
func (g *Gateway) SetVIPs() {
	g.t.Helper()
	g.IP(vipLines("replace")...)
}

// DropVIPs takes the VIPs of [Gateway.SetVIPs] away.
func (g *Gateway) DropVIPs() {
	g.t.Helper()
	g.IP(vipLines("del")...)
}

func vipLines(verb string) []string {
	return []string{
		"addr " + verb + " 10.1.0.1/32 dev lan0 noprefixroute",
		"addr " + verb + " fd00:1::1/128 dev lan0 nodad noprefixroute",
		"addr " + verb + " 192.0.2.1/32 dev wan0 noprefixroute",
		"addr " + verb + " 2001:db8::1/128 dev wan0 nodad noprefixroute",
	}
}

// PowerCut pulls all cables of the gateway and kills its daemons. They are
// stopped first, so that they neither notice the loss of one cable while
// another is still plugged, nor have their death told on the network.
func (g *Gateway) PowerCut() {
	g.t.Helper()
	for _, d := range g.procs {
		if d.Running() {
			d.Signal(syscall.SIGSTOP)
		}
	}
	for _, p := range g.ports {
		p.Pull()
	}
	g.KillDaemons()
}

// PowerOn plugs the cables in again. The namespace kept its SAs, policies and
// routes; daemons are for the caller to start. It has forgotten its neighbours:
// packets that waited for one would else end in ICMP errors three seconds after the
// power cut, in plaintext, which no machine without power sends.
func (g *Gateway) PowerOn() {
	g.t.Helper()
	g.IP("neigh flush all")
	for _, p := range g.ports {
		p.Replug()
	}
}
