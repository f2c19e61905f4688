// Package election tests carpd, the real program, in network namespaces: who is
// master, when, and what is in the kernel then. It needs root, but no ESP.
package election

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// binary is where TestMain put carpd.
const envBinary = "ELECTION_BIN"

// TestMain runs natively as root. Anybody else needs the guest that package
// harness starts.
func TestMain(m *testing.M) {
	if tid := os.Getenv(envHold); tid != "" {
		if err := holdThread(tid); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 || harness.Guest() {
		harness.Main(m, harness.Build("./cmd/carpd", "./cmd/carpctl"))
	}
	dir, err := os.MkdirTemp("", "election")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBinary, dir)
	if err := flag.Set("test.parallel", strconv.Itoa(beside())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := trustedtest.Main(m) // the daemons follow no configuration from /tmp
	os.RemoveAll(dir)
	os.Exit(code)
}

// beside is how many parallel tests run at a time: they wait for timers, hardly for
// processors. What measures traffic, has leases or limits of a second or two, or gives
// the processors something to do, is not among them and has the machine to itself.
func beside() int {
	if harness.Race() {
		return 3
	}
	return 6
}

func build(dir string) error {
	for _, p := range []string{"carpd", "carpctl"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, p), "sasyncd/cmd/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if harness.Race() {
			cmd.Args = slices.Insert(cmd.Args, 2, "-race")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", p, err, out)
		}
	}
	return nil
}

func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv(envBinary); dir != "" {
		return filepath.Join(dir, name)
	}
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pair is gateways with an inside and an outside, and a host on each.
//
//	          VIP 10.1.0.1 fd00:1::1       VIP 10.3.0.1 fd00:3::1
//	host ──[in]──────────── in0 gw1 out0 ─────────────[out]── peer
//	.100     └───────────── in0 gw2 out0 ───────────────┘     .100
type pair struct {
	t          *testing.T
	net        *lab.Net
	in, out    *lab.Switch
	host, peer *lab.Node
	gws        []*gateway
	options    string // for the group
	interval   string
	instances  func(g *gateway) string // instead of the usual two
}

type gateway struct {
	*lab.Node
	t        *testing.T
	n        int
	in, out  *lab.Port
	priority int
	d        *lab.Daemon
}

var (
	vipIn   = netip.MustParseAddr("10.1.0.1")
	vipIn6  = netip.MustParseAddr("fd00:1::1")
	vipOut  = netip.MustParseAddr("10.3.0.1")
	vipOut6 = netip.MustParseAddr("fd00:3::1")
	allVIPs = []netip.Addr{vipIn, vipIn6, vipOut, vipOut6}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

const interval = 250 * time.Millisecond

// patience is how long a change may take that is waited for. How fast one has to
// be is for those tests to say that measure traffic, and what brought it about
// says its reason.
const patience = 10 * time.Second

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, net: lab.New(t), interval: "250ms"}
	p.in, p.out = p.net.Switch("in"), p.net.Switch("out")
	p.host = p.net.Node("host")
	p.host.Plug(p.in, "eth0", "10.1.0.100/24", "fd00:1::100/64")
	p.peer = p.net.Node("peer")
	p.peer.Plug(p.out, "eth0", "10.3.0.100/24", "fd00:3::100/64")
	for n := 1; n <= 2; n++ {
		g := &gateway{Node: p.net.Node(fmt.Sprintf("gw%d", n)), t: t, n: n, priority: 250 - 50*n}
		g.Forward()
		g.in = g.Plug(p.in, "in0", fmt.Sprintf("10.1.0.1%d/24", n), fmt.Sprintf("fd00:1::1%d/64", n))
		g.out = g.Plug(p.out, "out0", fmt.Sprintf("10.3.0.1%d/24", n), fmt.Sprintf("fd00:3::1%d/64", n))
		p.gws = append(p.gws, g)
	}
	return p
}

func (g *gateway) socket() string { return filepath.Join(g.Dir(), "carpd.sock") }

// config writes carpd.conf.
func (p *pair) config(g *gateway) string {
	instances := fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; interval %s; address 10.1.0.1/32; address fd00:1::1/128; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; interval %s; address 10.3.0.1/32; address fd00:3::1/128; group gate }
`, g.priority, p.interval, g.priority, p.interval)
	if p.instances != nil {
		instances = p.instances(g)
	}
	return g.WriteFile("carpd.conf", fmt.Sprintf("group gate { start-hold 300ms; %s }\n%s\nsocket %q\nstatedir %q\n",
		p.options, instances, g.socket(), filepath.Join(g.Dir(), "state")))
}

// start runs carpd.
func (p *pair) start(g *gateway) {
	p.t.Helper()
	g.d = g.Exec("carpd", exec.Command(program(p.t, "carpd"), "-d", "-v", "-v", "-c", p.config(g)))
}

// run is a pair whose first node is master and whose second is backup.
func run(t *testing.T) (p *pair, master, backup *gateway) {
	t.Helper()
	p = newPair(t)
	p.start(p.gws[0])
	p.gws[0].await(api.StateMaster, patience)
	p.start(p.gws[1])
	p.gws[1].await(api.StateBackup, patience)
	p.gws[1].awaitLog("master heard", 4)
	return p, p.gws[0], p.gws[1]
}

// state asks carpd, and waits until it answers.
func (g *gateway) state() (s *api.GroupState) {
	g.t.Helper()
	err := errors.New("not asked")
	defer func() {
		if s == nil {
			g.t.Logf("%s: carpd does not tell its state: %v", g.Name, err)
		}
	}()
	lab.Eventually(g.t, patience, g.Name+" answers", func() bool { s, err = g.ask(); return err == nil })
	return s
}

// ask asks carpd once.
func (g *gateway) ask() (*api.GroupState, error) { return ask.Group(g.socket(), 2*time.Second) }

// await waits until carpd is in a state, and returns how long that took.
func (g *gateway) await(want string, limit time.Duration) time.Duration {
	g.t.Helper()
	return lab.Eventually(g.t, limit, g.Name+" is "+want, func() bool {
		s, err := g.ask()
		return err == nil && s.State == want
	})
}

func (g *gateway) awaitLog(text string, times int) {
	g.t.Helper()
	lab.Eventually(g.t, patience, fmt.Sprintf("%s says %q %d times", g.Name, text, times), func() bool {
		return strings.Count(g.d.Output(), text) >= times
	})
}

// awaitFor waits until carpd's state is that old.
func (g *gateway) awaitFor(age time.Duration) {
	g.t.Helper()
	lab.Eventually(g.t, age+5*time.Second, fmt.Sprintf("state of %s is %v old", g.Name, age), func() bool {
		s, err := g.ask()
		return err == nil && s.AgeMS > age.Milliseconds()
	})
}

// holds counts the virtual addresses on the node.
func (g *gateway) holds() int {
	n := 0
	for _, a := range allVIPs {
		if g.Has(a) {
			n++
		}
	}
	return n
}

// fenced counts the addresses that the fence silences.
func (g *gateway) fenced() int {
	n := 0
	out := g.Run("ip -4 rule show") + g.Run("ip -6 rule show")
	for _, a := range allVIPs {
		if strings.Contains(out, "from "+a.String()+" blackhole") {
			n++
		}
	}
	return n
}

func (g *gateway) ctl(args ...string) (string, int) {
	g.t.Helper()
	out, err := exec.Command(program(g.t, "carpctl"), append([]string{"-s", g.socket()}, args...)...).CombinedOutput()
	code := 0
	if err != nil {
		code = -1
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			code = ee.ExitCode()
		}
	}
	return string(out), code
}

// client is a sasyncd of the test.
type client struct {
	*api.Client
	mu     sync.Mutex
	events []api.Message
	answer bool // prepares at once
	// next is ordered to take over as soon as this one is asked to prepare for
	// BACKUP, which is what sasyncd's channel does; ordered is what came of it.
	next    *client
	ordered []error
	stop    func()
}

func (g *gateway) client(answer bool) *client {
	g.t.Helper()
	c := &client{answer: answer, Client: api.NewClient(api.ClientConfig{
		Socket: g.socket(), Name: "sasyncd", Prepare: true, Instances: []string{"outside"},
		Log: slog.New(slog.DiscardHandler),
	})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = c.Run(ctx) }()
	go func() {
		defer close(done)
		for m := range c.Events() {
			c.mu.Lock()
			next, answer := c.next, c.answer
			c.events = append(c.events, m)
			c.mu.Unlock()
			if next != nil && isPrepare(api.StateBackup)(m) {
				err := next.Takeover(ctx, m.Group, m.Term, 0)
				c.mu.Lock()
				c.ordered = append(c.ordered, err)
				c.mu.Unlock()
			}
			if answer && m.Event == api.EventPrepare {
				_ = c.Prepared(ctx, m.Group, m.Term)
			}
		}
	}()
	c.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	g.t.Cleanup(c.stop)
	return c
}

// handOver has the master give way to the next one by order, and reports
// whether the order came in time: carpd waits a tenth of a second for it, which a
// machine that does much else may need for less. Otherwise the master has resigned.
func (c *client) handOver(t *testing.T, old *gateway, next *client) bool {
	t.Helper()
	c.mu.Lock()
	c.next = next
	before := len(c.ordered)
	c.mu.Unlock()
	if out, code := old.ctl("resign", "gate"); code != 0 {
		t.Fatalf("resign: %s", out)
	}
	var err error
	lab.Eventually(t, patience, "the order to take over", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.ordered) == before {
			return false
		}
		err = c.ordered[before]
		return true
	})
	if err != nil {
		t.Logf("the order to take over: %v", err)
	}
	return err == nil
}

// has reports whether an event has come.
func (c *client) has(match func(api.Message) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.events, match)
}

func (c *client) await(t *testing.T, what string, match func(api.Message) bool) {
	t.Helper()
	lab.Eventually(t, patience, what, func() bool { return c.has(match) })
}
