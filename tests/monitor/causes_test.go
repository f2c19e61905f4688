package monitor

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
)

// world is what the drill plays in: two gateways, the remote end of their
// tunnel, a machine that should not be there, and who watches.
type world struct {
	net *lab.Net
	*server
	t        *testing.T
	gw1, gw2 *gateway
	remote   *lab.Node
	stranger *lab.Node
}

const drillKey = "0x0123456789abcdeffedcba98765432100f1e2d3c4b5a69788796a5b4c3d2e1f0"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{net: lab.New(t), t: t}
	lan, mgmt := w.net.Switch("lan"), w.net.Switch("mgmt")
	gateway := func(i int) *gateway {
		g := &gateway{Node: w.net.Node(fmt.Sprintf("gw%d", i)), t: t, priority: 250 - 50*i, key: drillKey,
			addr: fmt.Sprintf("10.1.0.1%d", i), peer: fmt.Sprintf("10.1.0.1%d", 3-i), watched: fmt.Sprintf("10.2.0.1%d",
				i)}
		g.port = g.Plug(lan, "eth0", g.addr+"/24")
		g.Plug(mgmt, "eth1", g.watched+"/24")
		g.Forward() // a gateway that does not forward is not fit
		g.IP("route add " + behind + "/32 via " + remote)
		return g
	}
	w.gw1, w.gw2 = gateway(1), gateway(2)
	w.remote, w.stranger = w.net.Node("remote"), w.net.Node("stranger")
	w.remote.Plug(lan, "eth0", remote+"/24")
	w.remote.IP("addr add " + behind + "/32 dev lo")
	w.stranger.Plug(lan, "eth0", "10.1.0.60/24")
	mon := w.net.Node("mon")
	mon.Plug(mgmt, "eth0", "10.2.0.100/24")
	for _, g := range w.gateways() {
		g.startCarpd()
		g.startSasyncd("sasyncd", "none")
	}
	w.server = serve(t, mon)
	w.gw1.IP(append(tunnel(1, "", ""), policies("out", "in")...)...)
	w.remote.IP(append(tunnel(1, "", ""), policies("in", "out")...)...)
	return w
}

func (w *world) gateways() []*gateway { return []*gateway{w.gw1, w.gw2} }

// tunnel is a pair of SAs, numbered, with further words for the gateways'
// outbound and inbound one.
func tunnel(n int, out, in string) []string {
	return []string{sa(vip, remote, 2*n, out), sa(remote, vip, 2*n+1, in)}
}

func sa(src, dst string, n int, more string) string {
	key := fmt.Sprintf("0x%02x%s", n, strings.Repeat("5a", 19))
	return fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %#x reqid 1 mode tunnel replay-window 32 aead "+
		"rfc4106(gcm(aes)) %s 128 %s", src, dst, 0x1000+n, key, more)
}

// policies are those of the tunnel, seen from the gateways as "out", "in".
func policies(there, back string) []string {
	policy := func(dir, src, dst, from, to string) string {
		return fmt.Sprintf("xfrm policy add dir %s src %s/32 dst %s/32 tmpl src %s dst %s proto esp reqid 1 mode tunnel", dir, src, dst, from, to)
	}
	return []string{policy(there, vip, behind, vip, remote), policy(back, behind, vip, remote, vip)}
}

// send sends packets from one address to another until the function that it
// returns is called.
func (w *world) send(nd *lab.Node, from, to string, every time.Duration) (stop func()) {
	w.t.Helper()
	var conn *net.UDPConn
	if err := nd.Do(func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				conn.Write([]byte("drill")) // refused for want of a listener, each other time
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait(); conn.Close() })
}

// fit waits until gw1 is MASTER, gw2 a standby in sync, and nothing is wrong.
func (w *world) fit() {
	w.t.Helper()
	w.is(w.gw1, "carpd", `carpd_state{state="master"%s} == 1`)
	w.synced()
}

// synced waits until the two agree, whoever is MASTER.
func (w *world) synced() {
	w.t.Helper()
	w.has("both to be connected and in sync",
		`sum(sasyncd_peer_connected) == 2 and sum(sasyncd_in_sync) == 2 and sum(up) == 4`)
}

// is waits for what holds of one gateway; %s in the expression is where its
// daemon's instance is put.
func (w *world) is(g *gateway, daemon, expr string) {
	w.t.Helper()
	port := map[string]string{"sasyncd": "9750", "carpd": "9751"}[daemon]
	w.has(g.Name+": "+expr, fmt.Sprintf(expr, fmt.Sprintf(`,instance="%s:%s"`, g.watched, port)))
}

// back has gw1 be MASTER again.
func (w *world) back() {
	w.t.Helper()
	w.synced()
	lab.Eventually(w.t, limit, "gw1 to be MASTER", func() bool {
		if len(w.query(`carpd_state{instance="10.2.0.11:9751",state="master"} == 1`)) > 0 {
			return true
		}
		w.gw2.carpctl("resign " + group) // refused while gw1 is not fit, or by who is not MASTER
		time.Sleep(2 * time.Second)
		return false
	})
	w.fit()
}

// overrun has the events of a node's kernel exceed what a sasyncd that
// stands still can be kept for.
func (w *world) overrun(g *gateway) {
	w.t.Helper()
	var k *xfrm.Kernel
	if err := g.Do(func() (err error) {
		k, err = xfrm.New(xfrm.Options{})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	defer k.Close()
	p := foreignPolicy(w.t, k)
	ops := make([]sadb.Op, 2000)
	for i := range ops {
		ops[i] = sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: p}
	}
	g.sasyncd.Signal(syscall.SIGSTOP)
	before := lostEvents(w.t, g.Node)
	lab.Eventually(w.t, limit, "an event to be lost", func() bool {
		for _, err := range k.Apply(context.Background(), ops) {
			if err != nil {
				w.t.Fatal(err)
			}
		}
		return lostEvents(w.t, g.Node) > before
	})
	g.sasyncd.Signal(syscall.SIGCONT)
}

// foreignPolicy is one that belongs to no group.
func foreignPolicy(t *testing.T, k *xfrm.Kernel) *sadb.Policy {
	t.Helper()
	snap, err := k.Dump(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range snap.Policies {
		if a, ok := p.Key.Selector.Src.Addr(sadb.FamilyIPv4); ok && a.String() == "10.99.0.1" {
			return p
		}
	}
	t.Fatal("no policy of 10.99.0.1")
	return nil
}

// lostEvents adds up the losses of all XFRM sockets of a node.
func lostEvents(t *testing.T, nd *lab.Node) (n int) {
	t.Helper()
	var b []byte
	if err := nd.Do(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/netlink")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 9 || f[1] != strconv.Itoa(syscall.NETLINK_XFRM) {
			continue
		}
		drops, err := strconv.Atoi(f[8])
		if err != nil {
			t.Fatalf("read /proc/net/netlink: %q: %v", line, err)
		}
		n += drops
	}
	return n
}

// charon starts strongSwan on a gateway, with a tunnel to where nobody answers,
// and returns the command under which sasyncd finds it.
func (w *world) charon(g *gateway) []string {
	w.t.Helper()
	run := filepath.Join(g.Dir(), "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		w.t.Fatal(err)
	}
	conf := g.WriteFile("strongswan.conf", `charon-systemd {
	load = random nonce openssl aes gcm sha1 sha2 hmac kdf pem pkcs1 kernel-netlink socket-default vici
	plugins {
		vici {
			socket = unix:///run/charon.vici
		}
	}
	journal {
		default = -1
	}
}
`)
	conns := g.WriteFile("swanctl.conf", `connections {
	nobody {
		version = 2
		local_addrs = `+vip+`
		remote_addrs = 10.1.0.77
		unique = never
		local {
			auth = psk
			id = a.example.org
		}
		remote {
			auth = psk
			id = b.example.org
		}
		children {
			nobody {
				local_ts = `+vip+`/32
				remote_ts = 10.4.0.77/32
				start_action = none
			}
		}
	}
}
secrets {
	ike-nobody {
		secret = "nobody answers"
	}
}
`)
	// The harness's own directory is below /run.
	enter := fmt.Sprintf("mkdir -p %[1]s/harness; [ ! -d /run/harness ] || mount --rbind /run/harness %[1]s/harness; "+
		"mount --rbind %[1]s /run; ", run)
	cmd := exec.Command("unshare", "-m", "sh", "-c", enter+"exec /usr/sbin/charon-systemd")
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf, "SWANCTL_DIR="+g.Dir())
	g.Exec("charon", cmd).MayExit()
	lab.Eventually(w.t, limit, "charon to take its connections", func() bool {
		_, err := g.Try("env SWANCTL_DIR=" + g.Dir() + " swanctl --load-all --noprompt --uri unix://" + run +
			"/charon.vici --file " + conns)
		return err == nil
	})
	return []string{"unshare", "-m", "sh", "-c", enter + `exec "$0" "$@"`}
}
