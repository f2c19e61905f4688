package shapes

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// bgp starts FRR's bgpd, and the zebra it needs, with a configuration.
func bgp(t *testing.T, nd *lab.Node, config string) *lab.Daemon {
	t.Helper()
	const programs = "/usr/lib/frr/"
	who, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	dir, err := os.MkdirTemp("", "frr") //nolint:usetesting // a name that fits into the address of a unix socket
	if err == nil {
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "bgpd.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "zserv.api")
	start := func(name, config string) *lab.Daemon {
		d := nd.Exec(name, exec.Command(programs+name, "-u", "frr", "-g", "frr", "-f", config, "-z", socket,
			"-i", filepath.Join(dir, name+".pid"), "-P", "0", "--vty_socket", dir, "--log", "stdout"))
		d.MayExit()
		return d
	}
	start("zebra", "/dev/null")
	lab.Eventually(t, limit, "zebra to listen", func() bool { _, err := os.Stat(socket); return err == nil })
	return start("bgpd", file)
}

// waitUp waits until a gateway's session with the remote is up, for the first
// time in the life of its bgpd.
func waitUp(t *testing.T, bgpd *lab.Daemon) {
	t.Helper()
	up := regexp.MustCompile(`neighbor 10\.255\.0\.2\S* in vrf \S+ Up`)
	lab.Eventually(t, limit, "the session of "+bgpd.Name, func() bool { return up.MatchString(bgpd.Output()) })
}

// BGP above GRE above IPsec, as in networks of many small operators: the BACKUP
// has no session with the remote and yet the routes, and to the remote a
// takeover is a graceful restart. So routing adds nothing to the
// gap of the takeover.
func TestDynamicRouting(t *testing.T) {
	p, gw1, gw2 := bare(t)
	start := func(m *scenario.Member) *lab.Daemon {
		conf := example(t, "gre", "gateway", "frr.conf")
		if m == gw2 {
			conf = strings.NewReplacer("10.9.0.11", "10.9.0.12", "10.9.0.12", "10.9.0.11").Replace(conf)
		}
		return bgp(t, m.Node, conf)
	}
	for _, g := range p.Members {
		batch(t, g.Node, "gre", "gateway", "gre.batch")
		g.IP("route del 10.2.0.0/24", "route del fd00:2::/64") // the lab's
	}
	batch(t, p.RGW, "gre", "remote", "gre.batch")
	p.RGW.IP("route del 10.1.0.0/24", "route del fd00:1::/64")
	for _, g := range p.Members {
		g.StartDaemons()
	}
	gw1.Lead()
	local, remote := transports[0].lines()
	remote[0], remote[1] = local[0], local[1]
	gw1.IP(local...)
	p.RGW.IP(remote...)
	p.WaitFit(gw1)

	b1, b2 := start(gw1), start(gw2)
	bgp(t, p.RGW, example(t, "gre", "remote", "frr.conf"))
	waitUp(t, b1)
	routed := func(g *scenario.Member) {
		t.Helper()
		lab.Eventually(t, limit, g.Name+" to have the remote's route", func() bool {
			return strings.Contains(g.Run("ip route show 10.2.0.0/24 proto bgp"), "dev gre4")
		})
	}
	routed(gw1)
	routed(gw2)
	lab.Eventually(t, limit, "the remote to have the route", func() bool {
		return strings.Contains(p.RGW.Run("ip route show 10.1.0.0/24 proto bgp"), "dev gre4")
	})

	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner(), Protocols: []uint8{protoGRE}})
	m := meter.Start(t, meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000,
		Rate: rate})...)
	flowing(t, m, rate)

	// move is what a takeover costs. BGP costs nothing behind it, when the session
	// is made anew.
	move := func(what string, budget time.Duration, to *scenario.Member, b *lab.Daemon, f func()) {
		t.Helper()
		from := time.Now()
		f()
		to.WaitRole("MASTER")
		flowing(t, m, rate)
		taken := time.Now()
		requireGap(t, m, what, budget, from, taken)
		waitUp(t, b)
		t.Logf("%s: the session is up %v later", what, time.Since(from).Round(10*time.Millisecond))
		flowing(t, m, rate)
		end := time.Now()
		flowing(t, m, rate/10)
		if r := m.Between(taken, end); r.Lost != 0 {
			t.Errorf("%s: while the session was made anew: %v", what, r)
		}
	}
	move("power cut", scenario.BudgetPowerCut, gw2, b2, gw1.Off)
	gw1.Return()
	p.WaitFit(gw2)
	b1 = start(gw1)
	routed(gw1)
	move("hand-over", scenario.BudgetHandOver, gw1, b1, gw2.Resign)

	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
}
