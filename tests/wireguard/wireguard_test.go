package wireguard

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

const (
	limit = 30 * time.Second // of what is waited for: that it happens at all
	rate  = 200              // of each flow, in packets a second
	port  = 51820

	// Gaps of the traffic: those of the election, and a handshake.
	budgetPowerCut = 1200 * time.Millisecond
	budgetHandOver = 300 * time.Millisecond
	// WireGuard's own time until an end that is not answered begins a handshake
	// is 15 s (section 6.5 of its paper) and up to a third of a second.
	budgetRoaming = 18 * time.Second
)

// pair is two WireGuard gateways and a remote.
type pair struct {
	*lab.Standard
	t    *testing.T
	keys [2][2]string // of the gateways and of the remote: private, public
	gws  []*gateway
	own  own
}

type gateway struct {
	*lab.Gateway
	p    *pair
	conf string // wg0.conf
}

// example reads one of the files that the documentation shows, with the lab's
// names in place of its own.
func (p *pair) example(path ...string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy", "examples", "wireguard"}, path...)...))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.NewReplacer(
		"via 203.0.113.254 dev eth0", "dev wan0", "eth0", "wan0", "eth1", "lan0",
		"203.0.113.1", lab.VIPOut.String(), "198.51.100.1", lab.RGWOut.String(),
		"<the gateways' private key>", p.keys[0][0], "<the gateways' public key>", p.keys[0][1],
		"<the remote's private key>", p.keys[1][0], "<the remote's public key>", p.keys[1][1],
	).Replace(string(b))
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{Standard: lab.NewStandard(t, 2), t: t}
	for i := range p.keys {
		private, err := exec.Command("wg", "genkey").Output()
		if err != nil {
			t.Fatalf("make a key: %v", err)
		}
		pub := exec.Command("wg", "pubkey")
		pub.Stdin = strings.NewReader(string(private))
		public, err := pub.Output()
		if err != nil {
			t.Fatalf("make a key: %v", err)
		}
		p.keys[i] = [2]string{strings.TrimSpace(string(private)), strings.TrimSpace(string(public))}
	}
	for _, g := range p.Gateways {
		g.IP("route del 10.2.0.0/24") // the lab's
		g.Run("nft -f " + g.WriteFile("wireguard.nft", p.example("gateway", "wireguard.nft")))
		p.boot(g.Node, "gateway", "wireguard.batch")
		p.gws = append(p.gws, &gateway{Gateway: g, p: p, conf: p.example("gateway", "wg0.conf")})
	}
	p.RGW.IP("route del 10.1.0.0/24")
	return p
}

// boot runs an example of ip -batch; the interface is made by wireguard-go.
func (p *pair) boot(nd *lab.Node, path ...string) {
	p.t.Helper()
	var lines []string
	for line := range strings.Lines(p.example(path...)) {
		if !strings.HasPrefix(line, "link add") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	nd.IP(lines...)
}

// device makes wg0.
func (p *pair) device(nd *lab.Node) {
	p.t.Helper()
	inRun(nd, "wireguard-go", "wireguard-go -f wg0").MayExit()
	lab.Eventually(p.t, limit, "wg0 of "+nd.Name, func() bool {
		_, err := os.Stat(filepath.Join(nd.Dir(), "run", "wireguard", "wg0.sock"))
		return err == nil
	})
}

// inRun starts a command that has the node's own /run, where wireguard-go and
// wg meet.
func inRun(nd *lab.Node, name, command string) *lab.Daemon {
	return nd.Exec(name, exec.Command("unshare", "-m", "sh", "-c", fmt.Sprintf(
		"mkdir -p %[1]s && mount --bind %[1]s /run && exec %[2]s", filepath.Join(nd.Dir(), "run"), command)))
}

// remote starts the remote end.
func (p *pair) remote() {
	p.t.Helper()
	p.device(p.RGW)
	p.RGW.IP("link set wg0 up", "route add 10.1.0.0/24 dev wg0")
	conf := p.RGW.WriteFile("wg0.conf", p.example("remote", "wg0.conf"))
	wg := inRun(p.RGW, "wg", "wg setconf wg0 "+conf)
	wg.MayExit()
	if code := wg.WaitExit(limit); code != 0 {
		p.t.Fatalf("wg setconf ended with %d", code)
	}
}

// start boots the gateway's daemons.
func (g *gateway) start() {
	t := g.p.t
	t.Helper()
	g.p.device(g.Node)
	conf := g.p.example("gateway", "carpd.conf") + fmt.Sprintf("socket %q\nstatedir %q\n", g.socket(), g.Dir())
	if g.Name == "gw2" {
		conf = strings.ReplaceAll(conf, "priority 200", "priority 150")
	}
	g.Exec("carpd", exec.Command(program(t, "carpd"), "-dc", g.WriteFile("carpd.conf", conf)))
	script := g.WriteFile("notify-vpn", strings.ReplaceAll(g.p.example("gateway", "notify-vpn"),
		"/etc/wireguard/wg0.conf", g.WriteFile("wg0.conf", g.conf)))
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	inRun(g.Node, "notify", program(t, "carpctl")+" -s "+g.socket()+" notify -- vpn "+script)
	lab.Eventually(t, limit, "carpd of "+g.Name, func() bool { _, err := g.state(); return err == nil })
}

func (g *gateway) socket() string { return filepath.Join(g.Dir(), "carpd.sock") }

// ask sends carpd a request.
func (g *gateway) ask(r api.Request) (api.Message, error) { return ask.Carpd(g.socket(), r, limit) }

func (g *gateway) state() (string, error) {
	m, err := g.ask(api.Request{Verb: api.VerbStatus})
	if err != nil {
		return "", err
	}
	for _, s := range m.Groups {
		if s.Group == "vpn" {
			return s.State, nil
		}
	}
	return "", fmt.Errorf("carpd of %s has no group vpn", g.Name)
}

// waitState waits for a state and for what the script makes of it.
func (g *gateway) waitState(want string) {
	g.p.t.Helper()
	lab.Eventually(g.p.t, limit, g.Name+" to be "+want, func() bool {
		s, err := g.state()
		out, _ := g.Try("ip link show wg0")
		return err == nil && s == want && strings.Contains(out, ",UP") == (want == api.StateMaster)
	})
}

// own counts what WireGuard sends from other addresses than the virtual IP.
type own struct {
	mu    sync.Mutex
	wrong []string
	sent  map[string]int // by node
}

func (o *own) packet(p *capture.Packet) {
	const ethernet, udp = 14, 17
	if p.Proto != udp || !p.Src.Is4() || p.Port.Node.Name == "rgw" {
		return
	}
	ip := p.Frame[ethernet:]
	if n := int(ip[0]&15) * 4; len(ip) < n+8 || binary.BigEndian.Uint16(ip[n:]) != port {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent == nil {
		o.sent = map[string]int{}
	}
	if p.Src != lab.RGWOut {
		o.sent[p.Port.Node.Name]++
	}
	// From the remote: what came for the address after it had gone is routed on.
	if p.Src != lab.VIPOut && p.Src != lab.RGWOut && len(o.wrong) < 10 {
		o.wrong = append(o.wrong, fmt.Sprintf("%s sends from %v", p.Port.Node.Name, p.Src))
	}
}

func (o *own) from(node string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent[node]
}

// traffic starts flows between h1 and h2 and a capture of the WAN.
func (p *pair) traffic() (*meter.Meter, *capture.Capture) {
	p.t.Helper()
	c := capture.Start(p.t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner(), Watch: p.own.packet})
	m := meter.Start(p.t, meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000,
		Rate: rate})...)
	return m, c
}

func flowing(t *testing.T, m *meter.Meter, n int) {
	t.Helper()
	for _, f := range m.Flows {
		want := f.Received() + n
		lab.Eventually(t, limit, "traffic on "+f.Name, func() bool {
			time.Sleep(5 * time.Millisecond)
			return f.Received() >= want
		})
	}
}

// moved waits for traffic after a takeover and holds its gap to a budget.
func (p *pair) moved(m *meter.Meter, what string, budget time.Duration, from time.Time) {
	p.t.Helper()
	flowing(p.t, m, rate)
	to := time.Now()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		p.t.Logf("%s: %v", what, r)
		if r.Gap > budget {
			p.t.Errorf("%s: %s: a gap of %v, at most %v may be", what, f.Name, r.Gap, budget)
		}
	}
}

// finish ends the traffic: nothing was seen in plaintext, and nothing of
// WireGuard from an address that is not the virtual IP.
func (p *pair) finish(m *meter.Meter, c *capture.Capture) {
	p.t.Helper()
	m.Stop()
	c.Stop()
	if n, examples := c.Plaintext(); n != 0 {
		p.t.Errorf("%d packets in plaintext, first:\n%s", n, strings.Join(examples, "\n"))
	}
	for _, w := range p.own.wrong {
		p.t.Error(w)
	}
	if p.own.from("gw1") == 0 || p.own.from("gw2") == 0 {
		p.t.Errorf("the capture saw %d packets of gw1's WireGuard and %d of gw2's", p.own.from("gw1"),
			p.own.from("gw2"))
	}
}

// The files of docs/wireguard.md: power cut, return, hand-over, death of carpd.
func TestWireGuard(t *testing.T) {
	p := newPair(t)
	p.remote()
	gw1, gw2 := p.gws[0], p.gws[1]
	gw1.start()
	gw1.waitState(api.StateMaster)
	gw2.start()
	gw2.waitState(api.StateBackup)
	m, c := p.traffic()
	flowing(t, m, rate)
	if n := p.own.from("gw2"); n != 0 {
		t.Errorf("the backup's WireGuard sent %d packets", n)
	}

	from := time.Now()
	gw1.PowerCut()
	gw2.waitState(api.StateMaster)
	p.moved(m, "power cut", budgetPowerCut, from)

	sent := p.own.from("gw1")
	from = time.Now()
	gw1.start()
	gw1.PowerOn()
	gw1.waitState(api.StateBackup)
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	if r := m.Between(from, to); r.Lost != 0 {
		t.Errorf("return: %v", r)
	}
	if n := p.own.from("gw1"); n != sent {
		t.Errorf("the backup's WireGuard sent %d packets", n-sent)
	}

	from = time.Now()
	if _, err := gw2.ask(api.Request{Verb: api.VerbResign, Group: "vpn", Reason: "drill"}); err != nil {
		t.Fatal(err)
	}
	gw1.waitState(api.StateMaster)
	p.moved(m, "hand-over", budgetHandOver, from)
	gw2.waitState(api.StateBackup)
	p.finish(m, c)
}

// A peer without an endpoint in the gateways' configuration is not found by the
// new master: it has to begin itself, which takes WireGuard 15 seconds.
func TestRoamingPeer(t *testing.T) {
	p := newPair(t)
	p.remote()
	for _, g := range p.gws {
		endpoint := "Endpoint = " + lab.RGWOut.String() + ":51820\n"
		if !strings.Contains(g.conf, endpoint) {
			t.Fatalf("no endpoint in\n%s", g.conf)
		}
		g.conf = strings.ReplaceAll(g.conf, endpoint, "")
	}
	gw1, gw2 := p.gws[0], p.gws[1]
	gw1.start()
	gw1.waitState(api.StateMaster)
	gw2.start()
	gw2.waitState(api.StateBackup)
	m, c := p.traffic()
	flowing(t, m, rate)
	from := time.Now()
	gw1.PowerCut()
	gw2.waitState(api.StateMaster)
	p.moved(m, "power cut", budgetRoaming, from)
	p.finish(m, c)
}
