package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// brisk has sessions lose their neighbor after 150 ms. A machine that is not alone loses
// some without a fault.
var brisk = flag.Bool("brisk", false, "BFD at 50 ms and 3 packets, for which the machine must be alone")

// rhythm is that of the sessions.
func rhythm() (interval time.Duration, multiplier int) {
	if *brisk {
		return 50 * time.Millisecond, 3
	}
	return 200 * time.Millisecond, 5
}

// handOver is how long it may take after a loss of the upstream path until the other
// gateway is MASTER: the detection time, and 150 ms for the election.
func handOver() time.Duration {
	interval, multiplier := rhythm()
	return time.Duration(multiplier)*interval + 150*time.Millisecond
}

// uplink is a pair with an upstream router that both track by BFD.
//
//	[lan]── lan0 h1 up0 ──[up]
//	  └──── lan0 h2 up0 ────┘└── eth0 router
type uplink struct {
	t      *testing.T
	router *host
	port   *lab.Port // of the router
	gws    [2]*host
	ups    [2]*lab.Port
	zebra  *lab.Daemon
	bfdd   *lab.Daemon
	dir    string // of FRR

	mu      sync.Mutex
	clients [2]*api.Client
	fit     [2]*api.Fitness // nil: not told yet
}

// peer is what bfdd says of a session.
type peer struct {
	Peer         netip.Addr `json:"peer"`
	Status       string     `json:"status"`
	RemoteDiag   string     `json:"remote-diagnostic"`
	RemoteRx     int        `json:"remote-receive-interval"`
	RemoteTx     int        `json:"remote-transmit-interval"`
	RemoteMissed int        `json:"remote-detect-multiplier"`
}

// newUplink makes the network; the upstream addresses end in 1, 2 and fe, whatever
// prefix they have.
func newUplink(t *testing.T) *uplink {
	t.Helper()
	net := lab.New(t)
	lan, up := net.Switch("lan"), net.Switch("up")
	u := &uplink{t: t, router: &host{Node: net.Node("router"), t: t}}
	u.port = u.router.Plug(up, "eth0", "10.77.0.254/24", "fd77::fe/64", "fe80::fe/64")
	for i := range u.gws {
		nd, n := net.Node(fmt.Sprintf("h%d", i+1)), i+1
		u.gws[i] = &host{Node: nd, t: t, port: nd.Plug(lan, "lan0", fmt.Sprintf("10.66.0.%d/24", n))}
		u.ups[i] = nd.Plug(up, "up0", fmt.Sprintf("10.77.0.%d/24", n), fmt.Sprintf("fd77::%d/64", n),
			fmt.Sprintf("fe80::%d/64", n))
	}
	u.dir = frrDir(t)
	return u
}

// start runs FRR's bfdd, and the zebra that it needs, with a session to each gateway.
func (u *uplink) start(prefix, local string, link bool) {
	u.t.Helper()
	var config strings.Builder
	config.WriteString("bfd\n")
	for n := 1; n <= 2; n++ {
		fmt.Fprintf(&config, " peer %s%d local-address %s", prefix, n, local)
		if link {
			config.WriteString(" interface eth0")
		}
		interval, multiplier := rhythm()
		fmt.Fprintf(&config, "\n  detect-multiplier %d\n  receive-interval %d\n  transmit-interval %[2]d\n  no shutdown\n !\n",
			multiplier, interval.Milliseconds())
	}
	file := filepath.Join(u.dir, "bfdd.conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o644); err != nil {
		u.t.Fatal(err)
	}
	socket := filepath.Join(u.dir, "zserv.api")
	run := func(name, config string, more ...string) *lab.Daemon {
		return u.router.Exec(name, exec.Command(foreign(u.t, name), append([]string{"-u", "frr", "-g", "frr", "-f", config,
			"-z", socket, "-i", filepath.Join(u.dir, name+".pid"), "-P", "0", "--vty_socket", u.dir,
			"--log", "stdout"}, more...)...))
	}
	if u.zebra == nil {
		u.zebra = run("zebra", "/dev/null")
		lab.Eventually(u.t, patience, "zebra listens", func() bool { _, err := os.Stat(socket); return err == nil })
	}
	var more []string
	if help, _ := exec.Command(foreign(u.t, "bfdd"), "--help").CombinedOutput(); bytes.Contains(help, []byte("--bfdctl")) {
		more = []string{"--bfdctl", filepath.Join(u.dir, "bfdd.sock")} // FRR before 10
	}
	u.bfdd = run("bfdd", file, more...)
}

// peers asks bfdd for its sessions, by the last number of the gateway's address.
func (u *uplink) peers() map[byte]peer {
	out, _ := exec.Command(foreign(u.t, "vtysh"), "--vty_socket", u.dir, "-d", "bfdd", "-c",
		"show bfd peers json").CombinedOutput()
	var list []peer
	if _, text, ok := strings.Cut(string(out), "["); !ok || json.Unmarshal([]byte("["+text), &list) != nil {
		return nil // it has not started yet
	}
	by := make(map[byte]peer)
	for _, p := range list {
		b := p.Peer.AsSlice()
		by[b[len(b)-1]] = p
	}
	return by
}

// sasyncd runs a client of a gateway's carpd that is in sync. Those of both gateways
// tell each other how fit their nodes are, as the real ones do.
func (u *uplink) sasyncd(n int) {
	u.t.Helper()
	c := api.NewClient(api.ClientConfig{Socket: u.gws[n-1].socket(), Name: "sasyncd", Prepare: true,
		Instances: []string{"x"}, Log: slog.New(slog.DiscardHandler)})
	u.mu.Lock()
	u.clients[n-1] = c
	u.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = c.Run(ctx) }()
	go func() {
		defer close(done)
		for m := range c.Events() {
			if m.Event == api.EventPrepare {
				_ = c.Prepared(ctx, m.Group, m.Term)
			}
			if m.Fitness != nil {
				u.mu.Lock()
				u.fit[n-1] = m.Fitness
				u.mu.Unlock()
				u.report(ctx, 0)
				u.report(ctx, 1)
			}
		}
	}()
	u.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// report tells the carpd of a gateway about itself and the other one.
func (u *uplink) report(ctx context.Context, i int) {
	u.mu.Lock()
	c, other := u.clients[i], u.fit[1-i]
	u.mu.Unlock()
	if c == nil {
		return
	}
	r := api.Ready{InSync: true}
	if other != nil {
		r.PeerReady, r.PeerTold, r.PeerDemotion, r.WillingDemotion = true, true, other.Demotion, 255
		if other.Willing {
			r.WillingDemotion = other.Demotion
		}
	}
	_ = c.Ready(ctx, "g", r, 0)
}

// session is the only BFD session of a gateway.
func (h *host) session() api.BFDSession {
	h.t.Helper()
	s := h.state()
	if len(s.BFD) != 1 {
		h.t.Fatalf("%s has the BFD sessions %+v", h.Name, s.BFD)
	}
	return s.BFD[0]
}

// agreed waits until a gateway and bfdd have the session Up, with the intervals of both.
func (u *uplink) agreed(n int) {
	u.t.Helper()
	interval, multiplier := rhythm()
	ms := int(interval.Milliseconds())
	lab.Eventually(u.t, patience, fmt.Sprintf("session of h%d is Up", n), func() bool {
		s := u.gws[n-1].state()
		return len(s.BFD) == 1 && s.BFD[0].State == "Up" && s.BFD[0].NeighborState == "Up" &&
			int(s.BFD[0].TransmitMS) == ms && int(s.BFD[0].DetectionMS) == multiplier*ms && s.Demotion == 0
	})
	lab.Eventually(u.t, patience, fmt.Sprintf("bfdd has the session of h%d Up", n), func() bool {
		p := u.peers()[byte(n)]
		return p.Status == "up" && p.RemoteRx == ms && p.RemoteTx == ms && p.RemoteMissed == multiplier
	})
}

// cut takes the upstream path from a MASTER, whose carrier stays, and returns how long
// it took until the other one is MASTER.
func (u *uplink) cut(old int) time.Duration {
	u.t.Helper()
	next := u.gws[2-old]
	w := lab.NewWatch()
	lab.Part(u.ups[old-1], u.port)
	for w.Elapsed() < patience {
		if s, err := ask.Group(next.socket(), patience); err == nil && s.State == api.StateMaster {
			return w.Elapsed()
		}
		w.Sleep(2 * time.Millisecond)
	}
	u.t.Fatalf("%s is not MASTER", next.Name)
	return 0
}

func (u *uplink) mend(n int) {
	u.t.Helper()
	lab.Rejoin(u.ups[n-1], u.port)
}

// carpd's sessions against FRR's bfdd: they agree on intervals, the loss of the path
// hands over, and the session comes back with the path, after a crash of either
// program, and after an orderly end. Not parallel to others.
func TestBFDWithFRR(t *testing.T) {
	for _, tt := range []struct{ name, prefix, router, more string }{
		{"ipv4", "10.77.0.", "10.77.0.254", ""},
		{"ipv6", "fd77::", "fd77::fe", ""},
		{"link-local", "fe80::", "fe80::fe", "interface up0 source fe80::%d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUplink(t)
			u.start(tt.prefix, tt.router, tt.more != "")
			run := func(n int) {
				more := tt.more
				if strings.Contains(more, "%d") {
					more = fmt.Sprintf(more, n)
				}
				h := u.gws[n-1]
				interval, multiplier := rhythm()
				h.carpd(fmt.Sprintf("group g { require sasyncd }\nvrrp x { carpdev lan0; vrid %d; priority %d; interval "+
					"50ms; address %s; group g }\ntrack bfd %s interval %dms multiplier %d group g demote 10 %s",
					vrid, 250-50*n, virtual, tt.router, interval.Milliseconds(), multiplier, more))
			}
			one, two := u.gws[0], u.gws[1]
			run(1)
			u.sasyncd(1)
			one.await(api.StateMaster, patience)
			run(2)
			u.sasyncd(2)
			two.await(api.StateBackup, patience)
			u.agreed(1)
			u.agreed(2)

			for old := 1; old <= 2; old++ {
				from, to := u.gws[old-1], u.gws[2-old]
				took := u.cut(old)
				t.Logf("%s is MASTER %v after the loss of the path", to.Name, took.Round(time.Millisecond))
				if took > harness.Scaled(handOver()) {
					t.Errorf("hand-over after %v, want %v at most", took, handOver())
				}
				from.await(api.StateBackup, patience)
				if s := from.state(); s.Demotion != 10 || from.session().State != "Down" ||
					from.session().Diagnostic == "" {
					t.Errorf("without the path: demotion %d, session %+v", s.Demotion, from.session())
				}
				if vip := netip.MustParseAddr(virtual); from.holds(vip) || !to.holds(vip) {
					t.Error("the virtual address has not moved")
				}
				u.mend(old)
				u.agreed(old)
				// Nothing moves because it is well again.
				to.stays(api.StateMaster, time.Second)
				if out := from.d.Output(); strings.Count(out, "demote=10") != 1 || strings.Count(out, "demote=0") != 1 {
					t.Errorf("%s has not logged the loss and the return once each", from.Name)
				}
			}

			// A router that dies is lost for both, and is found again.
			u.bfdd.Kill()
			for _, h := range u.gws {
				lab.Eventually(t, patience, h.Name+" is demoted", func() bool { return h.state().Demotion == 10 })
			}
			u.start(tt.prefix, tt.router, tt.more != "")
			u.agreed(1)
			u.agreed(2)

			// A carpd that dies comes back with another discriminator, and one that ends says so.
			two.d.Kill()
			run(2)
			u.agreed(2)
			two.d.Term(3 * time.Second)
			lab.Eventually(t, patience, "bfdd hears of the end", func() bool {
				p := u.peers()[2]
				return p.Status == "down" && strings.Contains(p.RemoteDiag, "administratively")
			})
		})
	}
}
