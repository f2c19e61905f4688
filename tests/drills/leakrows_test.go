package drills

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// leakRow is something that takes policies away while hosts go on sending.
type leakRow struct {
	name string
	set  setting
	do   func(s *leakStage)
	// gap lets the table alone be late, and has the row played with both walls as well.
	gap bool
	// guards are played; no and auto if it is nil.
	guards []string
}

// TestLeaksRows: in each row packets leave in plaintext without a guard, and none with the
// one that is on by default, which drops them. What no policy is for and the gateway's own
// traffic are not hit. The rows need a kernel with nf_tables: make drill-leaks.
func TestLeaksRows(t *testing.T) {
	for _, row := range leakRows() {
		guards := row.guards
		if guards == nil {
			guards = []string{"no", "auto"}
		}
		for _, guard := range guards {
			t.Run(row.name+"/guard "+guard, func(t *testing.T) {
				s := newLeakStage(t, guard, row.set)
				row.do(s)
				s.result(row.name, row.gap && guard != "yes")
			})
		}
	}
}

func leakRows() []leakRow {
	flush := func(s *leakStage) {
		s.sasyncd.Kill()
		s.gw.IP("xfrm policy flush")
		s.gone(200)
	}
	const natDown = `
table ip beside {
	chain postrouting {
		type nat hook postrouting priority srcnat
		oifname "wan0" ip daddr 10.2.0.0/24 rt ipsec missing masquerade
	}
}`
	return []leakRow{
		{name: "policies flushed, sasyncd away", do: flush},
		{name: "policies and SAs flushed, sasyncd away", do: func(s *leakStage) {
			s.sasyncd.Kill()
			s.gw.IP("xfrm policy flush", "xfrm state flush")
			s.gone(200)
		}},
		{name: "policies expire, sasyncd away", do: func(s *leakStage) {
			s.sasyncd.Kill()
			s.gw.IP(s.policies("update", "limit time-hard 1")...)
			s.gone(200)
		}},
		{name: "policies deleted and added by two commands, ten times", do: func(s *leakStage) {
			for range 10 {
				s.gw.IP(s.policies("delete", "")...)
				s.gw.IP(s.policies("add", "")...)
			}
			s.gone(20)
		}},
		{name: "a tunnel is taken out of the configuration", do: func(s *leakStage) {
			s.gw.IP(s.policies("delete", "")...)
			s.gone(200)
		}},
		{name: "boot alone, no policy yet", do: func(s *leakStage) {
			if code := s.sasyncd.Term(limit); code != 0 {
				s.t.Errorf("sasyncd ended with %d", code)
			}
			s.verb("guard-remove")
			if s.guard != "no" && stopped(s.t, s.gw.Node) != 0 {
				s.t.Error("the guard is still there")
			}
			s.verb("guard-load") // of the unit, before the network is there
			s.gw.IP("xfrm policy flush", "xfrm state flush")
			s.gone(200)
		}},
		{name: "masquerade beside it, policies flushed", do: func(s *leakStage) {
			s.nft(natDown)
			flush(s)
		}},
		{name: "a flowtable beside it, policies flushed", do: func(s *leakStage) {
			s.nft(`
table inet beside {
	flowtable f {
		hook ingress priority 0
		devices = { lan0, wan0 }
	}
	chain forward {
		type filter hook forward priority 0
		meta l4proto udp flow add @f
	}
}`)
			flush(s)
		}},
		{name: "a tunnel is gone, nft flush ruleset", gap: true, guards: []string{"no", "auto", "yes"},
			do: func(s *leakStage) { s.disarm("nft flush ruleset") }},
		{name: "a tunnel is gone, nftables.service reloaded", gap: true, guards: []string{"no", "auto", "yes"},
			do: func(s *leakStage) {
				file := s.gw.WriteFile("reload.nft", "flush ruleset\n"+strings.TrimSpace(natDown)+"\n")
				s.disarm("nft -f " + file)
			}},
		{name: "UDP encapsulation, policies flushed", set: encapsulated(), do: flush},
		{name: "fragments, policies flushed", do: flush, set: setting{size: 1400, before: func(s *leakStage) {
			s.H1.IP("link set dev eth0 mtu 1280")
		}}},
		{name: "policies for one port, flushed", set: oneService(), do: flush},
		{name: "GRE in transport mode, policies flushed", set: greInTransport(), do: flush},
	}
}

// disarm takes the policies away, and then has another program remove the table. Without
// nf_tables nothing is lost by that.
func (s *leakStage) disarm(command string) {
	s.t.Helper()
	s.gw.IP(s.policies("delete", "")...)
	s.gone(50)
	if s.guard == "no" {
		return
	}
	if n := s.plain.Load(); n != 0 {
		s.t.Errorf("%d packets left in plaintext before anybody took the table away", n)
	}
	s.gw.Run(command)
	lab.Eventually(s.t, limit, "the table to be back", func() bool {
		_, err := s.gw.Try("nft list table inet sasyncd")
		return err == nil
	})
	s.gone(50) // what was on its way is captured
	n := s.plain.Load()
	s.gone(200)
	if more := s.plain.Load() - n; more != 0 {
		s.t.Errorf("%d packets left in plaintext after the table was back", more)
	}
}

// encapsulated are tunnels in UDP, to a remote end behind a NAT.
func encapsulated() setting {
	tunnels := lab.Tunnels()
	for i := range tunnels {
		tunnels[i].NATPort = 4501
	}
	return setting{tunnels: tunnels, before: func(s *leakStage) {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			encapSocket(s.t, s.RGW, family, 4501)
		}
	}}
}

// oneService are policies for the ports of the protected flows. That other ports to the same
// network leave in plaintext is what they say.
func oneService() setting {
	tunnels := lab.Tunnels()
	ports := []uint16{7000, 7002}
	for i := range tunnels {
		tunnels[i].RemoteNet += fmt.Sprintf(" proto udp dport %d", ports[i])
	}
	return setting{tunnels: tunnels, plain: func(p *capture.Packet) bool {
		at := 14 + 20
		if p.Dst.Is6() {
			at = 14 + 40
		}
		return (lab.RemNet.Contains(p.Dst) || lab.RemNet6.Contains(p.Dst)) && len(p.Frame) > at+4 &&
			int(p.Frame[at+2])<<8|int(p.Frame[at+3]) < 7100
	}, before: func(s *leakStage) {
		// Another service beside it has to pass all the time.
		s.more = meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7200, Rate: leakRate}
	}}
}

// greInTransport is a GRE tunnel whose packets a policy encrypts.
func greInTransport() setting {
	gre := lab.Tunnels()[:1]
	return setting{tunnels: gre, only4: true, plain: func(p *capture.Packet) bool { return p.Proto == unix.IPPROTO_GRE },
		before: func(s *leakStage) {
			key := "aead rfc4106(gcm(aes)) 0x" + strings.Repeat("5a", 20) + " 128"
			for _, nd := range []*lab.Node{s.gw.Node, s.RGW} {
				local, remote := lab.VIPOut, lab.RGWOut
				if nd == s.RGW {
					local, remote = remote, local
				}
				nd.IP("xfrm state flush", "xfrm policy flush",
					fmt.Sprintf("xfrm state add src %s dst %s proto esp spi 0x3001 reqid 7 mode transport %s", lab.VIPOut,
						lab.RGWOut, key),
					fmt.Sprintf("xfrm state add src %s dst %s proto esp spi 0x3002 reqid 7 mode transport %s", lab.RGWOut,
						lab.VIPOut, key),
					fmt.Sprintf("xfrm policy add dir out src %s/32 dst %s/32 proto gre tmpl proto esp reqid 7 mode transport",
						local, remote),
					fmt.Sprintf("xfrm policy add dir in src %s/32 dst %s/32 proto gre tmpl proto esp reqid 7 mode transport",
						remote, local),
					fmt.Sprintf("tunnel add gre9 mode gre local %s remote %s ttl 64", local, remote),
					"link set gre9 up")
			}
			s.gw.IP("route replace 10.2.0.0/24 dev gre9")
			s.RGW.IP("route replace 10.1.0.0/24 dev gre9")
		}}
}
