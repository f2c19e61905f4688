package check

import (
	"fmt"

	"sasyncd/tests/harness/lab"
)

// encrypted are situations of tunnels, with ESP and all that belongs to it.
func encrypted() []Situation {
	list := []Situation{
		{Name: "nothing is wrong", Where: "nowhere", Want: Yes},
		{Name: "carpd is killed for good", Where: "standby", Fault: steps(kill(standby, "carpd")), Want: No,
			Code: "elector-lost"},
		{Name: "the sync link is cut, and the tunnels were negotiated anew",
			Where: "both", Fault: steps(pull(standby, syncCable), negotiate), Want: No, Code: "peer-unreachable"},
		{Name: "sasyncd was dead while the tunnels were negotiated anew",
			Where: "standby", Fault: steps(kill(standby, "sasyncd"), negotiate, restartSasyncd(standby)), Want: Yes},
		{Name: "the tunnels end on the gateway's own address", Where: "MASTER", Fault: steps(ownTunnels), Want: No},
		{Name: "the SAs and policies were flushed", Where: "MASTER",
			Fault: steps(run(master, "ip xfrm state flush", "ip xfrm policy flush")), Want: No},
		{Name: "the SAs and policies were flushed", Where: "standby", Fault: steps(run(standby, "ip xfrm state flush",
			"ip xfrm policy flush")), Want: Yes},
		{Name: "one SA was deleted by hand", Where: "standby", Fault: steps(deleteSA(standby)), Want: Yes},
		{Name: "an SA is near the end of its sequence numbers", Where: "MASTER", Fault: steps(nearTheEnd), Want: No,
			Code: "uncovered"},
		{Name: "rp_filter is strict", Where: "both", Fault: steps(
			sysctl(master, "net/ipv4/conf/lan0/rp_filter=1", "net/ipv4/conf/wan0/rp_filter=1"),
			sysctl(standby, "net/ipv4/conf/lan0/rp_filter=1", "net/ipv4/conf/wan0/rp_filter=1")), Want: Yes},
		{Name: "a `vip` is missing in sasyncd.conf", Where: "standby", Election: Link,
			Edits: edits(edit(standby, "sasyncd.conf", "vip 192.0.2.1 ", "vip ")), Want: No, Code: "vips-differ",
			Why: "the standby's kernel has the SAs, installed once a margin ahead; it follows them no more, and the " +
				"drill sends less than the margin"},
		{Name: "IPv6 is not forwarded", Where: "standby", Fault: steps(sysctl(standby,
			"net/ipv6/conf/all/forwarding=0")), Want: No, Code: "forwarding-off"},
		{Name: "a virtual IP is missing", Where: "standby", Edits: edits(edit(standby, "carpd.conf",
			"address 192.0.2.1/32; ", "")), Want: No, Code: "vips-differ"},
	}
	for i := range list {
		list[i].ESP = true
	}
	return list
}

// negotiate gives the tunnels new SAs, as IKE daemons do.
func negotiate(s *Site) {
	s.tunnels = lab.Negotiate(s.Members[master].Node, s.RGW, s.tunnels)
}

func restartSasyncd(gateway int) Step {
	return func(s *Site) { s.Members[gateway].startSasyncd() }
}

// ownTunnels has the tunnels end on the first gateway's own addresses, as without
// local_addrs in swanctl.conf.
func ownTunnels(s *Site) {
	m := s.Members[master]
	own := lab.Tunnels()
	own[0].Local, own[1].Local = m.OutAddr.String(), m.OutAddr6.String()
	for i := range own {
		own[i].SPIOut, own[i].SPIIn = own[i].SPIOut+0x100, own[i].SPIIn+0x100
	}
	for _, nd := range []*lab.Node{m.Node, s.RGW} {
		// One by one: a MASTER puts back policies that are flushed.
		nd.IP("xfrm state flush", "xfrm policy deleteall")
	}
	lab.Install(m.Node, own)
	lab.InstallRemote(s.RGW, own)
	s.RGW.IP("route replace 10.1.0.0/24 via "+m.OutAddr.String(), "route replace fd00:1::/64 via "+m.OutAddr6.String()+
		" dev wan0")
	s.tunnels = own
}

// deleteSA deletes the outbound SA of the first tunnel.
func deleteSA(gateway int) Step {
	return func(s *Site) {
		tn := s.tunnels[0]
		s.Members[gateway].IP(fmt.Sprintf("xfrm state del src %s dst %s proto esp spi %#x", tn.Local, tn.Remote,
			tn.SPIOut))
	}
}

// nearTheEnd negotiates, and the first tunnel's outbound SA, which counts in 32 bits,
// has a number from which a standby cannot be kept ahead.
func nearTheEnd(s *Site) {
	fresh := lab.Tunnels()
	for i := range fresh {
		fresh[i].SPIOut, fresh[i].SPIIn = fresh[i].SPIOut+0x100, fresh[i].SPIIn+0x100
	}
	m := s.Members[master]
	m.IP("xfrm state flush", "xfrm policy deleteall")
	s.RGW.IP("xfrm state flush", "xfrm policy deleteall")
	lab.InstallRemote(s.RGW, fresh)
	lines := lab.InstallLines(fresh)
	lines[0] += " replay-oseq 0xffffe000"
	m.IP(lines...)
	s.tunnels = fresh
}
