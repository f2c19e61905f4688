package drills

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// frr starts FRR's vrrpd and the zebra it needs on a gateway. Its virtual
// routers live on macvlans with the addresses, which it takes down as backup.
func frr(t *testing.T) func(m *scenario.Member) *lab.Daemon {
	t.Helper()
	const programs = "/usr/lib/frr/"
	who, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	return func(m *scenario.Member) *lab.Daemon {
		t.Helper()
		dir, err := os.MkdirTemp("", "frr")
		if err == nil {
			err = os.Chown(dir, uid, gid)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		var config strings.Builder
		// The addresses of a backup stay on interfaces that are down, and those
		// that are up must not answer for them.
		m.Run("sysctl -qw net.ipv4.conf.all.arp_ignore=1")
		for i, r := range []struct {
			dev string
			vip netip.Addr
		}{{"wan0", lab.VIPOut}, {"lan0", lab.VIPIn}} {
			id, name := 10+i, "v"+r.dev
			m.IP("link add "+name+" link "+r.dev+" type macvlan mode bridge",
				fmt.Sprintf("link set dev %s address 00:00:5e:00:01:%02x", name, id), "link set dev "+name+
					" addrgenmode none",
				fmt.Sprintf("addr add %s/32 dev %s", r.vip, name), "link set dev "+name+" protodown on",
				"link set dev "+name+" up")
			fmt.Fprintf(&config, "interface %s\n vrrp %d version 3\n vrrp %d priority %d\n no vrrp %d preempt\n vrrp "+
				"%d advertisement-interval 250\n vrrp %d ip %s\n",
				r.dev, id, id, m.Priority, id, id, id, r.vip)
		}
		file := filepath.Join(dir, "vrrpd.conf")
		if err := os.WriteFile(file, []byte(config.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(dir, "zserv.api")
		start := func(name, config string) *lab.Daemon {
			return m.Exec(name, exec.Command(programs+name, "-u", "frr", "-g", "frr", "-f", config, "-z", socket,
				"-i", filepath.Join(dir, name+".pid"), "-P", "0", "--vty_socket", dir, "--log", "stdout"))
		}
		zebra := start("zebra", "/dev/null")
		zebra.MayExit()
		lab.Eventually(t, limit, "zebra to listen", func() bool { _, err := os.Stat(socket); return err == nil })
		d := start("vrrpd", file)
		d.MayExit()
		// A new macvlan comes up whatever protodown says. Only what FRR has set since
		// keeps it down, and sasyncd shall not look before.
		for _, name := range []string{"vwan0", "vlan0"} {
			lab.Eventually(t, limit, "FRR to have taken "+name, func() bool {
				link := m.Run("ip -d link show dev " + name)
				return strings.Contains(link, "protodown_reason") && strings.Contains(link, "NO-CARRIER") ||
					strings.Contains(zebra.Output(), "protodown off - interface "+name+" ")
			})
		}
		return d
	}
}

// FRR elects, and sasyncd follows by the addresses: those of a backup are on
// interfaces that are down. IPv4 only, as FRR needs a macvlan more for IPv6.
func TestFRRElects(t *testing.T) {
	p := scenario.NewPair(t)
	p.Tracker = fmt.Sprintf("interface outside\nvip %s %s\ntracker address\n", lab.VIPOut, lab.VIPIn)
	p.Elector = frr(t)
	p.Start()
	gw1, gw2 := p.Members[0], p.Members[1]
	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	m := meter.Start(t, meter.Both(meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000,
		Rate: rate})...)
	flowing(t, m, rate)

	gw1.Off()
	// Without power there are no interfaces either. Those that a killed vrrpd leaves
	// are up until the next one has started, and that would be mastership.
	gw1.IP("link del vwan0", "link del vlan0")
	gw2.WaitRole("MASTER")
	flowing(t, m, rate)
	gw1.PowerOn() // first: with its cable a macvlan comes up, whatever protodown says
	gw1.StartDaemons()
	p.WaitFit(gw2)
	flowing(t, m, rate)

	// An orderly end hands over. vrrpd leaves its interfaces up, with the addresses:
	// whoever stops it takes them down (ExecStopPost of its unit), or both have them.
	gw2.Other.Term(limit)
	gw2.IP("link set dev vwan0 down", "link set dev vlan0 down")
	gw1.WaitRole("MASTER")
	flowing(t, m, rate)
	m.Stop()
	t.Logf("%v", m.Total())
	c.RequireClean()
	requireNothingRefused(t, p)
	for g, want := range map[*scenario.Member]bool{gw1: false, gw2: true} {
		if set := strings.Contains(g.Run("ip rule"), "from "+lab.VIPOut.String()+" blackhole"); set != want {
			t.Errorf("%s: fence set %v, want %v", g.Name, set, want)
		}
	}
}
