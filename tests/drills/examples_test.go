package drills

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// placed reads a file of deploy/examples and gives it the lab's interfaces and
// addresses, and a gateway's own paths: nothing else of it is changed, but times where
// the machine is emulated (patient).
func placed(t *testing.T, m *scenario.Member, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy", "examples"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"eth0", "wan0", "eth1", "lan0",
		"203.0.113.254", lab.RGWOut.String(), "10.1.0.254", lab.H1Addr.String(), // before those that they begin with
		"203.0.113.1", lab.VIPOut.String(), "203.0.113.2", "192.0.2.11", "203.0.113.3", "192.0.2.12", "2001:db8:1::1",
		lab.VIPOut6.String(),
		"10.9.0.1", "10.9.0.11", "10.9.0.2", "10.9.0.12",
		"192.168.1.2", "10.9.0.11", "192.168.1.3", "10.9.0.12",
		"/etc/carpd/", m.Dir()+"/",
		"/etc/sasyncd.key", m.Dir()+"/sasyncd.key",
		"/run/sasyncd/keepalived.fifo sasyncd", m.Dir()+"/fifo root", "/run/sasyncd/keepalived.fifo", m.Dir()+"/fifo",
	).Replace(string(b))
}

// patient makes the times of a carpd.conf as many times as long where the machine
// is emulated, as the other drills do; with the race detector starting `ip` alone
// takes longer there than a program that is tracked may take.
func patient(carpd string) string {
	if harness.Slow() == 1 {
		return carpd
	}
	carpd = regexp.MustCompile(`(?m)^track exec .*`).ReplaceAllString(carpd, "$0 timeout 1s")
	if !strings.Contains(carpd, "prepare-timeout") {
		carpd = strings.Replace(carpd, "require sasyncd\n", "require sasyncd\n\tprepare-timeout 2s\n", 1)
	}
	return regexp.MustCompile(`(interval|timeout) \w+`).ReplaceAllStringFunc(carpd, func(s string) string {
		word, text, _ := strings.Cut(s, " ")
		if d, err := time.ParseDuration(text); err == nil {
			text = min(harness.Scaled(d), time.Minute).String() // the most that a limit may be
		}
		return word + " " + text
	})
}

// runExample starts carpd, if it has a configuration, and sasyncd, and waits until they
// answer.
func runExample(m *scenario.Member, carpd, sasyncd string) {
	if carpd != "" {
		carpd = patient(carpd)
		m.Carpd = m.Daemon("carpd", "-dc", m.WriteFile("carpd.conf", carpd+"socket \""+m.CarpdSocket()+
			"\"\nstatedir \""+m.State()+"\"\n"))
		m.WaitCarpd()
		sasyncd += "carpd socket \"" + m.CarpdSocket() + "\"\n"
	}
	m.WriteFile("sasyncd.key", m.Key+"\n")
	m.Sasyncd = m.Daemon("sasyncd", "-dc", m.WriteFile("sasyncd.conf", sasyncd+"socket \""+m.Socket()+"\"\nstatedir \""+
		m.State()+"\"\n"))
	m.WaitSasyncd()
}

// startBoth starts the first gateway, has it be MASTER, and then the second.
func startBoth(p *scenario.Pair, start func(m *scenario.Member, n int)) {
	start(p.Members[0], 1)
	p.Members[0].WaitRole("MASTER")
	start(p.Members[1], 2)
	p.WaitFit(p.Members[0])
}

// onlyIPv4 leaves the tunnel that ends on addresses which the example has.
func onlyIPv4(p *scenario.Pair) {
	gw1 := p.Members[0]
	gw1.Forget()
	p.Tunnels = p.Tunnels[:1]
	lab.Install(gw1.Node, p.Tunnels)
}

// takesOver has the first gateway lose its power, and the second carry on.
func takesOver(t *testing.T, p *scenario.Pair) {
	t.Helper()
	gw1, gw2 := p.Members[0], p.Members[1]
	before := tables(t, gw1)
	requireEqual(t, before, tables(t, gw2), "gw1", "gw2")
	gw1.Off()
	gw2.WaitRole("MASTER")
	requireEqual(t, before, tables(t, gw2), "gw1 before", "gw2")
	if !strings.Contains(gw2.Run("ip -o addr"), " "+lab.VIPOut.String()+"/") {
		t.Errorf("gw2 is master without %v", lab.VIPOut)
	}
}

// Most users begin with a copy of deploy/examples/pair.
func TestExamplePair(t *testing.T) {
	p := scenario.NewPair(t)
	m, c := traffic(t, p)
	startBoth(p, func(g *scenario.Member, _ int) {
		runExample(g, placed(t, g, "pair", g.Name, "carpd.conf"), placed(t, g, "pair", g.Name, "sasyncd.conf"))
	})
	takesOver(t, p)
	flowing(t, m, rate)
	m.Stop()
	c.RequireClean()
}

// CARP as it is spoken with BSDs, and a sasyncd.conf as OpenBSD has it.
func TestExampleCARP(t *testing.T) {
	p := scenario.NewPair(t)
	onlyIPv4(p)
	startBoth(p, func(g *scenario.Member, n int) {
		carpd, sasyncd := placed(t, g, "carp", "carpd.conf"), placed(t, g, "openbsd", "sasyncd.conf")
		if n == 2 {
			carpd = strings.ReplaceAll(carpd, "advskew 0", "advskew 100")
			sasyncd = strings.NewReplacer("10.9.0.11", "10.9.0.12", "10.9.0.12", "10.9.0.11").Replace(sasyncd)
		}
		runExample(g, carpd, sasyncd)
	})
	takesOver(t, p)
}

// keepalived elects, by the files that are shipped for it.
func TestExampleKeepalived(t *testing.T) {
	p := scenario.NewPair(t)
	startBoth(p, func(g *scenario.Member, _ int) {
		file := g.WriteFile("keepalived.conf", placed(t, g, "keepalived", g.Name, "keepalived.conf"))
		g.Other = g.Exec("keepalived", exec.Command("/usr/sbin/keepalived", "--dont-fork", "--log-console", "--vrrp",
			"-f", file, "-p", filepath.Join(g.Dir(), "keepalived.pid"), "-r", filepath.Join(g.Dir(), "vrrp.pid")))
		runExample(g, "", placed(t, g, "keepalived", g.Name, "sasyncd.conf"))
	})
	requireFences(t, p.Members[0], p.Members[1])
	takesOver(t, p)
	if _, none := fenced(t, p.Members[1]); !none {
		t.Errorf("gw2 is master and fenced:\n%s", p.Members[1].Run("ip rule"))
	}
}

// The silent master is shot by IPMI before its addresses are taken: the program
// that is shipped, with an ipmitool of ours, whose machine needs a moment to die.
func TestExampleFencing(t *testing.T) {
	ctl, err := harness.Binary("carpctl")
	if err != nil {
		t.Fatal(err)
	}
	p := scenario.NewPair(t)
	onlyIPv4(p)
	said := func(g *scenario.Member) string { return filepath.Join(g.Dir(), "said") }
	startBoth(p, func(g *scenario.Member, n int) {
		carpd := placed(t, g, "fencing", "carpd.conf")
		if n == 2 {
			carpd = strings.ReplaceAll(carpd, "priority 200", "priority 150")
		}
		tool := g.WriteFile("ipmitool", `#!/bin/sh
echo "$@" >> `+said(g)+`
case "$*" in
*"power off") ;;
*"power status")
	case $(grep -c status `+said(g)+`) in 1) echo "Chassis Power is on" ;; *) echo "Chassis Power is off" ;; esac ;;
*) exit 1 ;;
esac
`)
		script := g.WriteFile("fence-ipsec", placed(t, g, "fencing", "fence-ipsec"))
		for _, f := range []string{tool, script} {
			if err := os.Chmod(f, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		runExample(g, carpd, placed(t, g, "pair", g.Name, "sasyncd.conf"))
		fence := exec.Command(ctl, "-s", g.CarpdSocket(), "fence", "--", scenario.Group, script)
		fence.Env = append(os.Environ(), "PATH="+g.Dir()+":"+os.Getenv("PATH"))
		g.Exec("fence", fence)
	})
	takesOver(t, p)
	b, _ := os.ReadFile(said(p.Members[1]))
	const to = "-I lanplus -H bmc-gw2.example.org -U fence -f DIR/bmc.password chassis power "
	if got, want := strings.ReplaceAll(string(b), p.Members[1].Dir(), "DIR"), to+"off\n"+to+"status\n"+to+
		"status\n"; got != want {
		t.Errorf("gw2's ipmitool was called with\n%swant\n%s", got, want)
	}
}

// What carpd tracks: a cable that carries nothing in one direction, and a program
// that fails. Each has the MASTER hand over, and nobody takes anything back.
func TestExampleTracking(t *testing.T) {
	p := scenario.NewPair(t)
	gw1, gw2 := p.Members[0], p.Members[1]
	startBoth(p, func(g *scenario.Member, n int) {
		carpd := placed(t, g, "tracking", "carpd.conf")
		if n == 2 {
			carpd = strings.ReplaceAll(carpd, "priority 200", "priority 150")
		}
		if err := os.Chmod(g.WriteFile("check-ipsec", placed(t, g, "tracking", "check-ipsec")), 0o700); err != nil {
			t.Fatal(err)
		}
		g.IP("route add default via " + lab.RGWOut.String())
		runExample(g, carpd, placed(t, g, "pair", g.Name, "sasyncd.conf"))
	})
	gw1.WAN.Block(lab.In)
	gw2.WaitRole("MASTER")
	gw1.WAN.Unblock(lab.In)
	p.WaitFit(gw2)
	gw2.IP("route del default")
	gw1.WaitRole("MASTER")
	p.WaitFit(gw1)
}
