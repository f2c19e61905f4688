// Package firewall is the ruleset of deploy/nftables on a pair: what must pass
// passes through a failover, what must not does not, and connections that the
// ruleset has seen begin go on. user-mode-linux has no nf_tables, so it always
// runs on Debian's cloud kernel under qemu: make drill-qemu.
package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func TestMain(m *testing.M) {
	harness.Main(m, append(scenario.Options(), harness.Build("./cmd/carpctl"), harness.QEMU())...)
}

const (
	rate     = 50 // of each flow, in packets a second
	limit    = 20 * time.Second
	deploy   = "../../deploy"
	service  = 7100 // that a partner may use
	upload   = 8000
	download = 8001
)

// shipped reads a file of deploy/ and gives it the lab's names: each expression
// must match.
func shipped(t *testing.T, file string, changes map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deploy, file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for from, to := range changes {
		re := regexp.MustCompile(from)
		if !re.MatchString(text) {
			t.Fatalf("%s has nothing like %s", file, from)
		}
		text = re.ReplaceAllLiteralString(text, to)
	}
	return text
}

// guarded is a pair behind its firewalls: the IPv4 tunnel is a site of ours, the
// IPv6 tunnel a partner's.
func guarded(t *testing.T) (p *scenario.Pair, gw1, gw2 *scenario.Member) {
	t.Helper()
	p = scenario.NewPair(t)
	gw1, gw2 = p.Members[0], p.Members[1]
	gw1.Forget() // the tunnels without marks
	p.Tunnels[0].ExtraIn, p.Tunnels[1].ExtraIn = "output-mark 0x10", "output-mark 0x20"
	lab.Install(gw1.Node, p.Tunnels)
	ruleset := shipped(t, "nftables/sasyncd.nft", map[string]string{
		`(?m)^define outside = .*$`:  `define outside = "wan0"`,
		`(?m)^define inside = .*$`:   `define inside = "lan0"`,
		`(?m)^define sync = .*$`:     `define sync = "sync0"`,
		`(?m)^define members = .*$`:  `define members = { 10.9.0.11, 10.9.0.12 }`,
		`(?m)^define remote4 = .*$`:  `define remote4 = { 10.2.0.0/24 }`,
		`(?m)^define remote6 = .*$`:  `define remote6 = { fd00:2::/64 }`,
		`(?m)^define services = .*$`: fmt.Sprintf(`define services = { %d }`, service),
	})
	for _, m := range p.Members {
		m.Run("nft -f " + m.WriteFile("sasyncd.nft", ruleset))
	}
	p.Start()
	return p, gw1, gw2
}

// What must pass passes, before, during and after a failover and the way back;
// what must not never does.
func TestRuleset(t *testing.T) {
	p, gw1, gw2 := guarded(t)
	evil := impostor(p)
	if st := p.Members[1].Run("ip xfrm state"); strings.Count(st, "output-mark") != 2 {
		t.Errorf("gw2 has not the marks of gw1's SAs:\n%s", st)
	}
	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	flow := func(from, to *lab.Node, src, dst netip.Addr, port uint16) meter.Config {
		return meter.Config{From: from, To: to, Src: src, Dst: dst, Port: port, Rate: rate}
	}
	pass := meter.Start(t,
		flow(p.H1, p.H2, lab.H1Addr, lab.H2Addr, 7000),
		flow(p.H2, p.H1, lab.H2Addr, lab.H1Addr, 7001),
		flow(p.H1, p.H2, lab.H1Addr6, lab.H2Addr6, 7002),
		flow(p.H2, p.H1, lab.H2Addr6, lab.H1Addr6, service))
	stop := meter.Start(t, flow(p.H2, p.H1, lab.H2Addr6, lab.H1Addr6, 7200)) // no service
	probe := func(master *scenario.Member) {
		t.Helper()
		flowing(t, pass, rate)
		for _, m := range p.Members {
			refused(t, p.RGW, netip.AddrPortFrom(m.OutAddr, 500), "the sync port from outside")
			refused(t, p.H1, netip.AddrPortFrom(m.InAddr, 500), "the sync port from inside")
		}
		refused(t, p.H2, netip.AddrPortFrom(lab.VIPIn, 500), "the sync port through a tunnel")
		spoofed(t, p, evil, master)
	}
	probe(gw1)
	gw1.Off()
	gw2.WaitRole("MASTER")
	probe(gw2)
	gw1.Return()
	p.WaitFit(gw2)
	gw2.Resign()
	gw1.WaitRole("MASTER")
	probe(gw1)
	p.WaitFit(gw1)
	stop.Stop()
	pass.Stop()
	if r := stop.Total(); r.Lost != r.Sent || r.Sent == 0 {
		t.Errorf("what a partner sends to no service: %v: all should be lost", r)
	}
	c.RequireClean()
	for _, nd := range []*lab.Node{p.RGW, gw1.Node, gw2.Node} {
		if st := nd.XfrmStat(); lab.Refused(nil, st) != 0 {
			t.Errorf("%s has refused packets: %v", nd.Name, st)
		}
	}
	// The rules were in the way of something: none of it came by chance.
	for _, m := range p.Members {
		rules := m.Run("nft list table inet gateway")
		if !regexp.MustCompile(`packets [1-9]\d* bytes \d+ comment "refused by input"`).MatchString(rules) {
			t.Errorf("%s has refused nothing:\n%s", m.Name, rules)
		}
	}
}

// refused fails the test when a connection is answered, with whatever.
func refused(t *testing.T, from *lab.Node, to netip.AddrPort, what string) {
	t.Helper()
	err := from.Do(func() error {
		// A literal address: Dial makes the socket on this thread.
		c, err := (&net.Dialer{Timeout: 700 * time.Millisecond, FallbackDelay: -1}).Dial("tcp", to.String())
		if err == nil {
			c.Close()
		}
		return err
	})
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%s, %v from %s: %v, want no answer", what, to, from.Name, err)
	}
}

// nowhere is an address behind the tunnel that somebody on the WAN has taken.
var nowhere = netip.MustParseAddr("10.2.0.200")

// impostor is a machine on the WAN that says it is behind the tunnel.
func impostor(p *scenario.Pair) *lab.Node {
	nd := p.Node("impostor")
	nd.Plug(p.WAN, "eth0", "192.0.2.66/24", nowhere.String()+"/32")
	nd.IP("route add " + lab.LANNet.String() + " via " + lab.VIPOut.String())
	return nd
}

// spoofed fails the test when a gateway or a host takes the impostor's word.
func spoofed(t *testing.T, p *scenario.Pair, from *lab.Node, master *scenario.Member) {
	t.Helper()
	var arrived atomic.Int64
	inside := capture.Start(t, capture.Config{Ports: p.H1.Ports(), Watch: func(pk *capture.Packet) {
		if pk.Src == nowhere {
			arrived.Add(1)
		}
	}})
	before := dropped(t, master)
	err := from.Do(func() error {
		c, err := net.ListenPacket("udp4", nowhere.String()+":0")
		if err != nil {
			return err
		}
		defer c.Close()
		for _, to := range []netip.Addr{lab.H1Addr, lab.VIPOut} { // forwarded, and for the gateway itself
			for range 5 {
				if _, err := c.WriteTo([]byte("out of nowhere"),
					net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 4500))); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, limit, "the firewall of "+master.Name+" to drop what is not from a tunnel", func() bool {
		time.Sleep(50 * time.Millisecond)
		return dropped(t, master) >= before+5
	})
	inside.Stop()
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d packets from %v, which is not behind a tunnel, got inside", n, nowhere)
	}
}

var notFromTunnel = regexp.MustCompile(`packets (\d+) bytes \d+ drop comment "not from a tunnel"`)

// dropped counts what a gateway has dropped as not from a tunnel.
func dropped(t *testing.T, m *scenario.Member) (n int) {
	t.Helper()
	for _, f := range notFromTunnel.FindAllStringSubmatch(m.Run("nft list table inet gateway"), -1) {
		var k int
		if _, err := fmt.Sscan(f[1], &k); err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// oneWay is a connection that h1 opened and on which h2 speaks: by the partner's
// tunnel, whose rules let nothing through that nobody inside has asked for.
type oneWay struct {
	conn  net.Conn
	bytes atomic.Int64 // that h1 has got
}

func listen(t *testing.T, p *scenario.Pair, port uint16) *oneWay {
	t.Helper()
	at := netip.AddrPortFrom(lab.H2Addr6, port).String()
	var ln net.Listener
	err := p.H2.Do(func() (err error) {
		ln, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	w := &oneWay{}
	err = p.H1.Do(func() (err error) {
		// A keepalive would be a word from h1.
		w.conn, err = (&net.Dialer{Timeout: harness.Scaled(limit), FallbackDelay: -1, KeepAlive: -1}).Dial("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close() })
	go speak(ln)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := w.conn.Read(buf)
			if err != nil {
				return // what has not come is missed
			}
			w.bytes.Add(int64(n))
		}
	}()
	return w
}

// speak accepts one connection and writes to it until it breaks.
func speak(ln net.Listener) {
	c, err := ln.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := c.Write(make([]byte, 512)); err != nil {
			return
		}
	}
}

// goesOn waits until more has arrived.
func (w *oneWay) goesOn(t *testing.T) {
	t.Helper()
	was := w.bytes.Load()
	lab.Eventually(t, limit, "bytes from h2 on a connection that h1 opened", func() bool {
		time.Sleep(20 * time.Millisecond)
		return w.bytes.Load() > was+4096
	})
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
