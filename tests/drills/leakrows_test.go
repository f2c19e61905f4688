package drills

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/leaks"
)

// leakRow is something that takes policies away while hosts go on sending.
type leakRow struct {
	name string
	set  leaks.Setting
	do   func(t *testing.T, s *leaks.Stage)
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
				s := leaks.New(t, guard, row.set)
				row.do(t, s)
				s.Result(row.name, row.gap && guard != "yes")
			})
		}
	}
}

func leakRows() []leakRow {
	flush := func(_ *testing.T, s *leaks.Stage) {
		s.Sasyncd.Kill()
		s.Gateway.IP("xfrm policy flush")
		s.Gone(200)
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
		{name: "policies and SAs flushed, sasyncd away", do: func(t *testing.T, s *leaks.Stage) {
			s.Sasyncd.Kill()
			s.Gateway.IP("xfrm policy flush", "xfrm state flush")
			s.Gone(200)
		}},
		{name: "policies expire, sasyncd away", do: func(t *testing.T, s *leaks.Stage) {
			s.Sasyncd.Kill()
			s.Gateway.IP(s.Policies("update", "limit time-hard 1")...)
			s.Gone(200)
		}},
		{name: "policies deleted and added by two commands, ten times", do: func(t *testing.T, s *leaks.Stage) {
			for range 10 {
				s.Gateway.IP(s.Policies("delete", "")...)
				s.Gateway.IP(s.Policies("add", "")...)
			}
			s.Gone(20)
		}},
		{name: "a tunnel is taken out of the configuration", do: func(t *testing.T, s *leaks.Stage) {
			s.Gateway.IP(s.Policies("delete", "")...)
			s.Gone(200)
			if s.Guard == "no" {
				return
			}
			// What the metric and the alert are about.
			lab.Eventually(t, limit, "sasyncd to count what is dropped", func() bool {
				var a struct{ Dropped, Remembered int }
				return s.Ask("guard", &a) == nil && a.Dropped > 0 && a.Remembered == len(s.Tunnels)
			})
		}},
		{name: "boot alone, no policy yet", do: func(t *testing.T, s *leaks.Stage) {
			if code := s.Sasyncd.Term(limit); code != 0 {
				t.Errorf("sasyncd ended with %d", code)
			}
			s.Verb("guard-remove")
			if s.Guard != "no" && leaks.Stopped(t, s.Gateway.Node) != 0 {
				t.Error("the guard is still there")
			}
			s.Verb("guard-load") // of the unit, before the network is there
			s.Gateway.IP("xfrm policy flush", "xfrm state flush")
			s.Gone(200)
		}},
		{name: "masquerade beside it, policies flushed", do: func(t *testing.T, s *leaks.Stage) {
			s.NFT(natDown)
			flush(t, s)
		}},
		{name: "a flowtable beside it, policies flushed", do: func(t *testing.T, s *leaks.Stage) {
			s.NFT(`
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
			flush(t, s)
		}},
		{name: "a tunnel is gone, nft flush ruleset", gap: true, guards: []string{"no", "auto", "yes"},
			do: func(t *testing.T, s *leaks.Stage) { disarm(t, s, "nft flush ruleset") }},
		{name: "a tunnel is gone, nftables.service reloaded", gap: true, guards: []string{"no", "auto", "yes"},
			do: func(t *testing.T, s *leaks.Stage) {
				file := s.Gateway.WriteFile("reload.nft", "flush ruleset\n"+strings.TrimSpace(natDown)+"\n")
				disarm(t, s, "nft -f "+file)
			}},
		{name: "UDP encapsulation, policies flushed", set: encapsulated(), do: flush},
		{name: "fragments, policies flushed", do: flush, set: leaks.Setting{Size: 1400, Before: func(s *leaks.Stage) {
			s.H1.IP("link set dev eth0 mtu 1280")
		}}},
		{name: "policies for one port, flushed", set: oneService(), do: flush},
		{name: "GRE in transport mode, policies flushed", set: greInTransport(), do: flush},
	}
}

// disarm takes the policies away, and then has another program remove the table. Without
// nf_tables nothing is lost by that.
func disarm(t *testing.T, s *leaks.Stage, command string) {
	t.Helper()
	s.Gateway.IP(s.Policies("delete", "")...)
	s.Gone(50)
	if s.Guard == "no" {
		return
	}
	if n := s.Plaintext(); n != 0 {
		t.Errorf("%d packets left in plaintext before anybody took the table away", n)
	}
	s.Gateway.Run(command)
	lab.Eventually(s.T, limit, "the table to be back", func() bool {
		_, err := s.Gateway.Try("nft list table inet sasyncd")
		return err == nil
	})
	s.Gone(50) // what was on its way is captured
	n := s.Plaintext()
	s.Gone(200)
	if more := s.Plaintext() - n; more != 0 {
		t.Errorf("%d packets left in plaintext after the table was back", more)
	}
}

// encapsulated are tunnels in UDP, to a remote end behind a NAT.
func encapsulated() leaks.Setting {
	tunnels := lab.Tunnels()
	for i := range tunnels {
		tunnels[i].NATPort = 4501
	}
	return leaks.Setting{Tunnels: tunnels, Before: func(s *leaks.Stage) {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			encapSocket(s.T, s.RGW, family, 4501)
		}
	}}
}

// oneService are policies for the ports of the protected flows. That other ports to the same
// network leave in plaintext is what they say.
func oneService() leaks.Setting {
	tunnels := lab.Tunnels()
	ports := []uint16{7000, 7002}
	for i := range tunnels {
		tunnels[i].RemoteNet += fmt.Sprintf(" proto udp dport %d", ports[i])
	}
	return leaks.Setting{Tunnels: tunnels, Plain: func(p *capture.Packet) bool {
		at := 14 + 20
		if p.Dst.Is6() {
			at = 14 + 40
		}
		return (lab.RemNet.Contains(p.Dst) || lab.RemNet6.Contains(p.Dst)) && len(p.Frame) > at+4 &&
			int(p.Frame[at+2])<<8|int(p.Frame[at+3]) < 7100
	}, More: func(s *leaks.Stage) meter.Config { // another service beside it has to pass all the time
		return meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7200, Rate: leaks.Rate}
	}}
}

// greInTransport is a GRE tunnel whose packets a policy encrypts.
func greInTransport() leaks.Setting {
	gre := lab.Tunnels()[:1]
	return leaks.Setting{Tunnels: gre, Only4: true,
		Plain: func(p *capture.Packet) bool { return p.Proto == unix.IPPROTO_GRE },
		Before: func(s *leaks.Stage) {
			key := "aead rfc4106(gcm(aes)) 0x" + strings.Repeat("5a", 20) + " 128"
			for _, nd := range []*lab.Node{s.Gateway.Node, s.RGW} {
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
			s.Gateway.IP("route replace 10.2.0.0/24 dev gre9")
			s.RGW.IP("route replace 10.1.0.0/24 dev gre9")
		}}
}
