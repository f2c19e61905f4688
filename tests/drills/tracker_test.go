package drills

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// vips are the addresses of the lab, as a line of sasyncd.conf.
func vips() string {
	return fmt.Sprintf("vip %s %s %s %s\n", lab.VIPOut, lab.VIPOut6, lab.VIPIn, lab.VIPIn6)
}

// keepalived starts keepalived on a gateway, with the addresses that carpd would
// have: a router on each side in one sync group, and IPv6 beside.
func keepalived(t *testing.T) func(m *scenario.Member) *lab.Daemon {
	const program = "/usr/sbin/keepalived"
	if _, err := os.Stat(program); err != nil {
		t.Fatal(err)
	}
	return func(m *scenario.Member) *lab.Daemon {
		file := m.WriteFile("keepalived.conf", scenario.KeepalivedConf(m.Name, m.Dir(), m.Priority))
		return m.Exec("keepalived", exec.Command(program, "--dont-fork", "--log-console", "--log-detail", "--vrrp",
			"-f", file, "-p", filepath.Join(m.Dir(), "keepalived.pid"), "-r", filepath.Join(m.Dir(), "vrrp.pid")))
	}
}

// killHard ends both processes of keepalived before either can clean up.
func killHard(t *testing.T, m *scenario.Member) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir(), "vrrp.pid"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	m.Other.MayExit()
	m.Other.Signal(syscall.SIGSTOP)
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.Other.Kill()
}

// fenced reads whether a gateway's virtual addresses are all fenced, or none.
func fenced(t *testing.T, m *scenario.Member) (all, none bool) {
	t.Helper()
	n := 0
	rules := m.Run("ip rule") + m.Run("ip -6 rule")
	for _, a := range []string{lab.VIPOut.String(), lab.VIPOut6.String(), lab.VIPIn.String(), lab.VIPIn6.String()} {
		if strings.Contains(rules, "from "+a+" blackhole") {
			n++
		}
	}
	return n == 4, n == 0
}

func requireFences(t *testing.T, master, standby *scenario.Member) {
	t.Helper()
	if _, none := fenced(t, master); !none {
		t.Errorf("%s, the master, is fenced:\n%s", master.Name, master.Run("ip rule"))
	}
	if all, _ := fenced(t, standby); !all {
		t.Errorf("%s, a standby, is not fenced:\n%s", standby.Name, standby.Run("ip rule")+standby.Run("ip -6 rule"))
	}
}

// emptied has a standby lose everything and be elected before it has fetched it
// again, as after a boot that the election did not wait for. It must not take
// the others along.
func emptied(t *testing.T, p *scenario.Pair, standby, master *scenario.Member) {
	t.Helper()
	if code := standby.Sasyncd.Term(limit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	standby.Other.MayExit()
	standby.Other.Term(limit)
	standby.Forget()
	before := tables(t, master)
	// It is elected before its sasyncd is even there.
	standby.Other = p.Elector(standby)
	master.Other.MayExit()
	master.Other.Term(limit)
	lab.Eventually(t, limit, standby.Name+" to be elected", func() bool {
		return strings.Contains(standby.Run("ip -o addr"), " "+lab.VIPOut.String()+"/")
	})
	standby.StartSasyncd()
	standby.WaitRole("MASTER")
	requireEqual(t, before, tables(t, standby), master.Name+" before", standby.Name+" that was empty")
	master.Other = p.Elector(master)
	p.WaitFit(standby)
	requireEqual(t, before, tables(t, master), master.Name+" before", master.Name+" behind one that was empty")
}

// keepalived elects, and sasyncd follows: by keepalived's own words, or by the
// addresses. It keeps the fence, and what is promised with carpd holds.
func TestKeepalivedElects(t *testing.T) {
	for name, tracker := range map[string]string{
		"fifo":    "interface ipsec\n" + vips() + "tracker keepalived \"DIR/fifo\"\n",
		"address": "interface outside\n" + vips() + "tracker address\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := scenario.NewPair(t)
			p.Tracker, p.Elector = tracker, keepalived(t)
			p.Start()
			gw1, gw2 := p.Members[0], p.Members[1]
			requireFences(t, gw1, gw2)
			m, c := traffic(t, p)
			flowing(t, m, rate)

			gw1.Other.MayExit()
			gw1.Off()
			gw2.WaitRole("MASTER")
			flowing(t, m, rate)
			gw1.Return()
			p.WaitFit(gw2)
			requireFences(t, gw2, gw1)
			flowing(t, m, rate)

			// An orderly end hands over.
			gw2.Other.MayExit()
			gw2.Other.Term(limit)
			gw1.WaitRole("MASTER")
			flowing(t, m, rate)
			requireFences(t, gw1, gw2)
			gw2.Other = p.Elector(gw2)
			p.WaitFit(gw1)

			// A restart of sasyncd on the master interrupts nothing.
			start := time.Now()
			if code := gw1.Sasyncd.Term(limit); code != 0 {
				t.Errorf("exit code %d", code)
			}
			requireFences(t, gw1, gw2)
			flowing(t, m, rate/2)
			gw1.StartSasyncd()
			p.WaitFit(gw1)
			flowing(t, m, rate/2)
			end := time.Now()

			if name == "fifo" {
				// Killed, it leaves its addresses behind. The fence closes.
				killHard(t, gw1)
				gw2.WaitRole("MASTER")
				lab.Eventually(t, limit, "gw1's fence to be set", func() bool { all, _ := fenced(t, gw1); return all })
				flowing(t, m, rate)
				gw1.Other = p.Elector(gw1)
				p.WaitFit(gw2)
				flowing(t, m, rate)
				requireFences(t, gw2, gw1)
			}
			m.Stop()
			t.Logf("%v", m.Total())
			if r := m.Between(start, end); r.Lost != 0 {
				t.Errorf("the restart of sasyncd lost packets: %v", r)
			}
			c.RequireClean()
			requireNothingRefused(t, p)
			if name == "fifo" {
				emptied(t, p, gw1, gw2)
			}
		})
	}
}
