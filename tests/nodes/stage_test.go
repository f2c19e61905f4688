package nodes

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/wire"
	"sasyncd/tests/scenario"
)

// Limits say that something hangs, not how fast it should be.
const (
	callLimit = 30 * time.Second
	waitLimit = 60 * time.Second
	// rate of each of the four flows, in packets a second: enough to tell a gap,
	// and little for machines that share two processors.
	rate = 50
	// gapBudget is for a takeover without warning, adverts every 250 ms, on a
	// machine that may be busy with something else.
	gapBudget = 2 * time.Second
)

// stage is the standard lab with real machines: two gateways, and the rest of
// the world, each a guest of its own, joined by the switch.
//
//	         ┌── lan0 gw1 wan0 ──┐
//	[ lan ] ─┤      sync0        ├─ [ wan ]        [ sync ]: gw1, gw2
//	   │     └── lan0 gw2 wan0 ──┘     │
//	   └ h1 ───────── world ──── rgw ──┘
type stage struct {
	t       *testing.T
	sw      *wire.Switch
	ledger  *capture.Ledger // of what leaves machines towards the WAN
	wan     map[*wire.Port]int
	gw      [2]*gateway // the first master, then the other
	world   *harness.Machine
	ports   map[string]*wire.Port // by LAN-machine
	tunnels []lab.Tunnel
	more    int // SAs besides those of the tunnels
	key     string
	carpd   string // further lines of its configuration
}

// gateway is a place for a machine: power, cards, a disk.
type gateway struct {
	*harness.Machine // the latest

	name string
	n    int
	disk string
	st   *stage
	// kernel and modules are those of another user-mode-linux, see harness.MachineConfig.
	kernel, modules string
}

// newStage boots all three, starts the daemons, makes the tunnels on the master
// only, waits until a failover would work, and starts the traffic.
func newStage(t *testing.T) *stage {
	t.Helper()
	return newStageWith(t, nil, "")
}

// newStageWith has further lines of "ip -batch" run on the master, and further
// lines in all carpd.conf.
func newStageWith(t *testing.T, lines []string, carpd string) *stage {
	t.Helper()
	return newStageOn(t, lines, carpd, "", "")
}

// newStageOn has one gateway run another kernel than everything else, unless it is "".
func newStageOn(t *testing.T, lines []string, carpd, kernel, modules string) *stage {
	t.Helper()
	s := &stage{
		t: t, carpd: carpd, more: len(lines), ledger: capture.NewLedger([]string{"gw1", "gw2", "rgw"}, lab.Inner()),
		wan: map[*wire.Port]int{}, ports: map[string]*wire.Port{}, tunnels: lab.Tunnels(), key: scenario.NewKey(),
	}
	var err error
	if s.sw, err = wire.NewSwitch(1, s.tap); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.sw.Close)
	for _, p := range [][2]string{{"lan", "gw1"}, {"wan", "gw1"}, {"sync", "gw1"}, {"lan", "gw2"}, {"wan", "gw2"},
		{"sync", "gw2"}, {"lan", "world"}, {"wan", "world"}} {
		port, err := s.sw.Port(p[0], p[1])
		if err != nil {
			t.Fatal(err)
		}
		s.ports[port.Name] = port
	}
	for i, name := range []string{"wan-gw1", "wan-gw2", "wan-world"} {
		s.wan[s.ports[name]] = i
	}
	for i := range s.gw {
		s.gw[i] = &gateway{name: fmt.Sprintf("gw%d", i+1), n: i + 1, disk: t.TempDir(), st: s}
	}
	s.gw[1].kernel, s.gw[1].modules = kernel, modules
	var boots sync.WaitGroup
	var worldErr error
	var gwErr [2]error
	boots.Go(func() { s.world, worldErr = s.boot(harness.MachineConfig{Name: "world"}, "lan", "wan") })
	for i, g := range s.gw {
		boots.Go(func() { g.Machine, gwErr[i] = s.boot(g.config(), "lan", "wan", "sync") })
	}
	boots.Wait()
	t.Cleanup(func() {
		for _, m := range []*harness.Machine{s.world, s.gw[0].Machine, s.gw[1].Machine} {
			if m != nil {
				m.Cut()
			}
		}
	})
	t.Cleanup(s.keep) // before the power goes
	for _, err := range []error{worldErr, gwErr[0], gwErr[1]} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.call(s.world, "World.Setup", struct{}{}, nil)
	s.call(s.world, "World.Remote", lab.InstallRemoteLines(s.tunnels), nil)
	for _, g := range s.gw {
		s.call(g.Machine, "Gateway.Setup", Place{N: g.n, Carpd: g.carpd()}, nil)
	}
	for _, g := range s.gw {
		g.startDaemons()
	}
	s.gw[0], s.gw[1] = s.roles() // as equals they start at the same moment
	s.call(s.gw[0].Machine, "Gateway.IP", append(lab.InstallLines(s.tunnels), lines...), nil)
	s.waitFit(s.gw[0], s.gw[1])
	s.call(s.world, "World.Send", rate, nil)
	s.flowing(rate)
	return s
}

func (g *gateway) config() harness.MachineConfig {
	return harness.MachineConfig{Name: g.name, Disk: g.disk, Kernel: g.kernel, Modules: g.modules}
}

func (s *stage) boot(c harness.MachineConfig, lans ...string) (*harness.Machine, error) {
	for _, l := range lans {
		c.Ports = append(c.Ports, s.ports[l+"-"+c.Name].Path)
	}
	return harness.Boot(c)
}

// tap books what machines send towards the WAN.
func (s *stage) tap(at time.Time, p *wire.Port, w wire.Way, frame []byte) {
	if i, ok := s.wan[p]; ok && w == wire.Out {
		s.ledger.Add(at, i, frame)
	}
}

func (s *stage) call(m *harness.Machine, method string, args, reply any) {
	s.t.Helper()
	if reply == nil {
		reply = &struct{}{}
	}
	if err := m.Call(callLimit, method, args, reply); err != nil {
		s.t.Fatalf("%v\n%s", err, m.ConsoleEnd())
	}
}

// restore boots a gateway that has lost its power: an empty kernel, and its disk.
func (g *gateway) restore() {
	g.st.t.Helper()
	g.power()
	g.startDaemons()
}

// power is restore up to where the daemons start.
func (g *gateway) power() {
	g.st.t.Helper()
	var err error
	if g.Machine, err = g.st.boot(g.config(), "lan", "wan", "sync"); err != nil {
		g.st.t.Fatal(err)
	}
	g.st.call(g.Machine, "Gateway.Setup", Place{N: g.n, Carpd: g.carpd()}, nil)
}

func (g *gateway) carpd() string {
	vrrp := func(name, dev string, id int, a4, a6 any) string {
		return fmt.Sprintf("vrrp %s { carpdev %s; vrid %d; priority %d; interval 250ms; address %v/32; address "+
			"%v/128; group %s }\n",
			name, dev, id, 250-50*g.n, a4, a6, scenario.Group)
	}
	return fmt.Sprintf("group %s { preempt no; require sasyncd; start-hold 1s; alone after %ds }\n", scenario.Group,
		int(aloneAfter.Seconds())) +
		vrrp(scenario.Instance, "wan0", 10, lab.VIPOut, lab.VIPOut6) + vrrp("inside", "lan0", 11, lab.VIPIn,
		lab.VIPIn6) +
		"socket \"DIR/carpd.sock\"\nstatedir \"DISK/carpd\"\n" + g.st.carpd
}

func (g *gateway) startDaemons() {
	g.st.t.Helper()
	d := Daemons{
		Carpd: g.carpd(),
		Sasyncd: fmt.Sprintf("interface %s\ncarpd socket \"DIR/carpd.sock\"\npeer %s\nlisten on %s\n",
			scenario.Instance, syncAddr(3-g.n), syncAddr(g.n)) +
			"sharedkey file \"DIR/sasyncd.key\"\ncontrol none\nsocket \"DIR/sasyncd.sock\"\nstatedir \"DISK/sasyncd\"\n",
		Key: g.st.key,
	}
	g.st.call(g.Machine, "Gateway.Start", d, nil)
}

// syncAddr is a gateway's address on the sync link.
func syncAddr(n int) string { return fmt.Sprintf("10.9.0.%d", 10+n) }

func (g *gateway) port(lan string) *wire.Port { return g.st.ports[lan+"-"+g.name] }
