package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// What a failover is without sasyncd: keepalived moves the addresses, and
// strongSwan, which runs on both gateways with the same connections, negotiates
// all anew, as its documentation has users set it up: policies of the kind
// "trap" everywhere, dead peer detection at the remote end.

const (
	keepalivedConf = `global_defs {
	vrrp_version 3
}
vrrp_sync_group BOTH {
	group {
		OUT
		IN
	}
}
vrrp_instance OUT {
	state BACKUP
	interface wan0
	virtual_router_id 10
	priority PRIORITY
	advert_int 0.25
	virtual_ipaddress {
		192.0.2.1/32
	}
	virtual_ipaddress_excluded {
		2001:db8::1/128
	}
}
vrrp_instance IN {
	state BACKUP
	interface lan0
	virtual_router_id 11
	priority PRIORITY
	advert_int 0.25
	virtual_ipaddress {
		10.1.0.1/32
	}
	virtual_ipaddress_excluded {
		fd00:1::1/128
	}
}
`
	// The remote finds a dead gateway by a question after deadDelay without
	// traffic from it, which it repeats after 1, 1.8 and 3.24 s, where the
	// defaults are 4 s and five times: then it would be some three minutes.
	deadDelay  = 5 * time.Second
	charonConf = `charon-systemd {
	load = random nonce openssl aes gcm sha1 sha2 hmac kdf gmp pem kernel-netlink socket-default vici
	install_routes = no
	retransmit_timeout = 1
	retransmit_tries = 3
	plugins {
		vici {
			socket = unix://SOCKET
		}
	}
	filelog {
		all {
			path = LOG
			default = 1
			flush_line = yes
			time_format = %H:%M:%S
		}
	}
	journal {
		default = -1
	}
}
`
)

// connections is the swanctl.conf of one end.
func connections(local4, remote4, local6, remote6, localNets, remoteNets, more string) string {
	l4, l6, _ := strings.Cut(localNets, " ")
	r4, r6, _ := strings.Cut(remoteNets, " ")
	conn := func(name, local, remote, lts, rts string) string {
		return fmt.Sprintf(`	%s {
		version = 2
		local_addrs = %s
		remote_addrs = %s
		mobike = no
		unique = replace
		proposals = aes128gcm16-prfsha256-curve25519
		%s
		local {
			auth = psk
		}
		remote {
			auth = psk
		}
		children {
			%s {
				local_ts = %s
				remote_ts = %s
				esp_proposals = aes128gcm16
				start_action = trap
				close_action = trap
				dpd_action = restart
			}
		}
	}
`, name, local, remote, more, name, lts, rts)
	}
	return "connections {\n" + conn("site4", local4, remote4, l4, r4) + conn("site6", local6, remote6, l6, r6) + `}
secrets {
	ike-site {
		secret = "correct horse battery staple"
	}
}
`
}

// strongSwan runs charon in a node and loads connections.
func strongSwan(t lab.T, nd *lab.Node, conf string) {
	t.Helper()
	socket := filepath.Join(nd.Dir(), "charon.vici")
	main := nd.WriteFile("strongswan.conf", strings.NewReplacer("SOCKET", socket, "LOG",
		filepath.Join(nd.Dir(), "charon.log")).Replace(charonConf))
	conns := nd.WriteFile("swanctl.conf", conf)
	// ahead of the traffic, which shares the processor
	cmd := exec.Command("nice", "-n", "-15", "/usr/sbin/charon-systemd")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+main, "SWANCTL_DIR="+nd.Dir())
	d := nd.Exec("charon", cmd)
	d.MayExit() // some exit for a signal at the end
	var last error
	lab.Eventually(t, patience, "charon of "+nd.Name+" to have its connections", func() bool {
		_, last = nd.Try("env SWANCTL_DIR=" + nd.Dir() + " /usr/sbin/swanctl --load-all --noprompt --uri unix://" +
			socket + " --file " + conns)
		return last == nil
	})
}

// requireSAs ends the part if a gateway has not the SAs of both tunnels: traffic
// that flows without them is not what was to be measured.
func requireSAs(t lab.T, g *lab.Gateway) {
	t.Helper()
	list, err := g.Netlink().XfrmStateList(netlink.FAMILY_ALL)
	if n := len(list); err != nil || n < 4 {
		t.Fatalf("%s has %d SAs, want two for each of two tunnels; %v", g.Name, n, err)
	}
}

// renegotiated returns how long traffic stopped after a power cut, which comes a
// part of the interval behind an advertisement, on the flows that are given, in a
// lab without sasyncd.
func renegotiated(t lab.T, part float64, flows func(*lab.Standard) []meter.Config) time.Duration {
	t.Helper()
	s := lab.NewStandard(t, 2)
	dpd := fmt.Sprintf("dpd_delay = %ds", int(deadDelay.Seconds()))
	lan, rem := lab.LANNet.String()+" "+lab.LANNet6.String(), lab.RemNet.String()+" "+lab.RemNet6.String()
	vip4, vip6, rgw4, rgw6 := lab.VIPOut.String(), lab.VIPOut6.String(), lab.RGWOut.String(), lab.RGWOut6.String()
	strongSwan(t, s.RGW, connections(rgw4, vip4, rgw6, vip6, rem, lan, dpd))
	for i, g := range s.Gateways {
		strongSwan(t, g.Node, connections(vip4, rgw4, vip6, rgw6, lan, rem, dpd))
		conf := g.WriteFile("keepalived.conf", strings.ReplaceAll(keepalivedConf, "PRIORITY", fmt.Sprint(200-50*i)))
		g.Exec("keepalived", exec.Command("keepalived", "--dont-fork", "--log-console", "--vrrp", "-f", conf,
			"-p", filepath.Join(g.Dir(), "keepalived.pid"), "-r", filepath.Join(g.Dir(), "vrrp.pid")))
		lab.Eventually(t, patience, "a gateway has the addresses", func() bool {
			return strings.Contains(s.Gateways[0].Run("ip -o addr show dev wan0"), " "+vip4+"/")
		})
	}
	m := meter.Start(t, flows(s)...)
	flowing(t, m.Flows, window) // the first packets negotiate
	flowing(t, m.Flows, 2*time.Second)
	requireSAs(t, s.Gateways[0])
	const interval = 250 * time.Millisecond // as in keepalivedConf
	if _, err := scenario.AwaitAdvert(s.H1, "eth0", s.Gateways[0].InAddr, interval); err != nil {
		t.Fatalf("%v", err)
	}
	time.Sleep(time.Duration(part * float64(interval))) // what is measured, not a wait for something
	from := time.Now()
	s.Gateways[0].PowerCut()
	limit := time.Now().Add(3 * time.Minute)
	for _, f := range m.Flows {
		for n := f.Received() + flowRate/2; f.Received() < n; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s does not flow again", f.Name)
			}
		}
	}
	gap := m.Between(from, time.Now()).Gap
	requireSAs(t, s.Gateways[1])
	m.Stop()
	for _, nd := range s.Nodes() {
		nd.KillDaemons()
	}
	return gap
}

// alone: the same power cut for who has strongSwan and no sasyncd.
func alone(t lab.T) []result.Line {
	for _, program := range []string{"/usr/sbin/charon-systemd", "/usr/sbin/swanctl"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%v", errors.Join(err, errors.New("needs charon-systemd and strongswan-swanctl of Debian, see "+
				"make bench")))
		}
	}
	four := func(s *lab.Standard) meter.Config {
		return meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: flowRate}
	}
	six := func(s *lab.Standard) meter.Config {
		return meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7002, Rate: flowRate}
	}
	var both []time.Duration
	for k := range rounds {
		both = append(both, renegotiated(t, (float64(k)+0.5)/rounds,
			func(s *lab.Standard) []meter.Config { return append(meter.Both(four(s)), meter.Both(six(s))...) }))
	}
	back := renegotiated(t, 0.5, func(s *lab.Standard) []meter.Config {
		return []meter.Config{meter.Both(four(s))[1], meter.Both(six(s))[1]}
	})
	mine := outage[250*time.Millisecond]
	line := func(what string, d time.Duration, note string) result.Line {
		l := result.Line{What: "outage after a power cut beside strongSwan alone, adverts every 250 ms, " + what,
			Figure: ms(mine), Floor: ms(d), Verdict: result.Beside, Note: note}
		if mine == 0 {
			l.Figure = "not measured"
		} else {
			l.Ratio = float64(d) / float64(mine)
		}
		return l
	}
	return []result.Line{
		line("traffic from both sides", median(both),
			fmt.Sprintf("median of %d; two tunnels; keepalived moves the addresses, the first packet from inside "+
				"makes the new gateway negotiate; the ratio says how many times longer the peer takes", rounds)),
		line("traffic from the remote side only", back,
			fmt.Sprintf("one run: the remote goes on sending to a gateway that has no SA until its dead peer "+
				"detection notices (dpd_delay %v, 4 messages within 6 s; strongSwan's own timeouts would be 165 s)",
				deadDelay)),
	}
}
