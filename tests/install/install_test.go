package install

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// Budgets of the longest gap, longer than those of the demo and of the drills: this
// shares the host with whatever else runs, and one processor with two systemds.
const (
	budgetTakeover = 3 * scenario.BudgetPowerCut
	budgetHandOver = scenario.BudgetHandOver + 50*time.Millisecond
)

// installed returns a pair of machines with a package, as docs/operations.md says
// how, in which a failover would work.
func installed(t *testing.T, deb string) (p *scenario.Pair, m1, m2 *machine) {
	t.Helper()
	p = scenario.NewPair(t)
	var ms []*machine
	var took time.Duration // but for the boots
	for i, m := range p.Members {
		s := newMachine(t, m)
		ms = append(ms, s)
		began := time.Now()
		out := s.do("dpkg -i /mnt/packages/" + deb)
		t.Logf("%s: dpkg took %.1f s\n%s", s.Name, time.Since(began).Seconds(), out)
		// Installation starts and enables nothing.
		for _, u := range []string{"sasyncd.service", "carpd.service", "carpd-fence.service",
			"sasyncd-guard.service", "sasyncd-privileged.socket"} {
			out, _ := s.try("systemctl is-enabled " + u + "; systemctl is-active " + u)
			// the release before may not have it
			if out != "disabled\ninactive\n" && !(deb == packageOld && out == "inactive\n") {
				t.Errorf("%s: after the installation %s is %q", s.Name, u, out)
			}
		}
		carpd := strings.NewReplacer(fmt.Sprintf("socket %q", m.Dir()+"/carpd.sock"), "",
			fmt.Sprintf("statedir %q", m.Dir()), "").Replace(m.CarpdConf())
		s.write("/etc/carpd.conf", carpd)
		s.write("/etc/sasyncd.conf", fmt.Sprintf("interface %s\npeer %s\nlisten on %s\nsharedkey file "+
			"\"/etc/sasyncd.key\"\ncontrol none\n",
			scenario.Instance, p.Members[1-i].SyncAddr, m.SyncAddr))
		s.write("/etc/sasyncd.key", m.Key+"\n")
		if deb == packageOld {
			// As its manual said, and what its next boot would do.
			s.do("chown sasyncd: /etc/sasyncd.key; systemctl restart systemd-sysctl")
		} else {
			s.do("carpd -n -v && sasyncd -n -v") // as root, like all of this
		}
		took += time.Since(began)
	}
	began := time.Now()
	for _, s := range ms {
		s.do("systemctl enable --now carpd sasyncd")
	}
	m1, m2 = ms[0], ms[1]
	p.WaitFit(m1.Member)
	m2.WaitInSync()
	m1.waitCheck()
	m2.waitCheck()
	t.Logf("from the packages to a pair that would fail over: %.1f s", (took + time.Since(began)).Seconds())
	return p, m1, m2
}

// requireUnits fails the test unless all of the package is in effect.
func requireUnits(t *testing.T, s *machine) {
	t.Helper()
	for cmd, want := range map[string]string{
		"stat -c '%U %G %a' /etc/carpd.conf":              "carpd carpd 600",
		"stat -c '%U %G %a' /etc/sasyncd.conf":            "root root 600",
		"stat -c '%U %a' /var/lib/carpd /var/lib/sasyncd": "carpd 700\nsasyncd 700",
		"stat -c '%U %a' /run/sasyncd-privileged.sock":    "sasyncd 600",
		"id -nG sasyncd": "sasyncd carpd",
		"sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding":                      "1\n1",
		"systemctl is-active carpd sasyncd carpd-fence sasyncd-privileged.socket":         "active\nactive\nactive\nactive",
		"systemctl show -P Result systemd-modules-load systemd-sysctl":                    "success\n\nsuccess",
		"systemctl show -P User carpd sasyncd":                                            "carpd\n\nsasyncd",
		"systemctl list-units --no-legend --plain 'sasyncd-privileged@*.service' | wc -l": "1",
	} {
		if out := s.do(cmd); out != want {
			t.Errorf("%s: %s says %q, want %q", s.Name, cmd, out, want)
		}
	}
}

// TestPackage: the package, installed by dpkg on two machines with systemd, makes
// a pair that passes what the demo shows: power cut, return, hand-over.
func TestPackage(t *testing.T) {
	p, m1, m2 := installed(t, packageNew)
	requireUnits(t, m1)
	requireUnits(t, m2)
	m, c := traffic(t, p)
	flowing(t, m, rate)

	from := time.Now()
	m1.cut()
	m2.WaitRole("MASTER")
	flowing(t, m, rate)
	if r := phase(t, m, "power cut of gw1", from); r.Gap > budgetTakeover {
		t.Errorf("the takeover took %v, want at most %v", r.Gap, budgetTakeover)
	}

	// A reboot loses SAs and policies. All that is enabled comes up by itself.
	m1.Forget()
	from = time.Now()
	m1.boot()
	m1.Gateway.PowerOn() // systemd starts the daemons
	m1.WaitInSync()
	m1.waitCheck()
	m2.waitCheck()
	if r := phase(t, m, "gw1 boots", from); r.Lost != 0 {
		t.Errorf("the return of gw1 cost %d packets", r.Lost)
	}

	from = time.Now()
	t.Logf("sasyncctl failover: %s", m2.do("sasyncctl failover"))
	m1.WaitRole("MASTER")
	m1.waitCheck()
	if r := phase(t, m, "hand-over to gw1", from); r.Gap > budgetHandOver {
		t.Errorf("the hand-over took %v, want at most %v", r.Gap, budgetHandOver)
	}

	// carpd dies on the master: its unit sets the fence, before it is started again.
	from = time.Now()
	m1.do("kill -KILL $(systemctl show -P MainPID carpd)")
	m2.WaitRole("MASTER")
	lab.Eventually(t, limit, "carpd to be back", func() bool {
		out, _ := m1.try("systemctl show -P NRestarts carpd; systemctl is-active carpd")
		return out == "1\nactive\n"
	})
	for _, fam := range []string{"-4", "-6"} {
		if rules := m1.do("ip " + fam + " rule"); !strings.Contains(rules, lab.VIPOut.String()) &&
			!strings.Contains(rules, lab.VIPOut6.String()) {
			t.Errorf("gw1 has no fence:\n%s", rules)
		}
	}
	m2.waitCheck()
	if r := phase(t, m, "carpd of gw1 killed", from); r.Gap > budgetTakeover {
		t.Errorf("the takeover took %v, want at most %v", r.Gap, budgetTakeover)
	}

	// A stop of sasyncd ends both of its processes; that of carpd leaves the fence.
	m1.do("systemctl stop sasyncd carpd")
	lab.Eventually(t, limit, "the privileged process to end", func() bool {
		out, _ := m1.try("systemctl list-units --no-legend --plain 'sasyncd-privileged@*.service'")
		return strings.TrimSpace(out) == ""
	})
	if rules := m1.do("ip rule"); !strings.Contains(rules, lab.VIPOut.String()) {
		t.Errorf("a gateway without carpd has no fence:\n%s", rules)
	}
	flowing(t, m, rate)

	// When nothing else can set the fence, ExecStopPost does.
	m1.do("mkdir -p /run/systemd/system/carpd.service.d && printf '[Service]\\nRestart=no\\n' " +
		">/run/systemd/system/carpd.service.d/once.conf && systemctl daemon-reload")
	m1.do("systemctl start carpd && kill -STOP $(systemctl show -P MainPID carpd) && ip rule flush protocol 112")
	if rules := m1.do("ip rule"); strings.Contains(rules, lab.VIPOut.String()) {
		t.Errorf("the fence is still there:\n%s", rules)
	}
	m1.do("kill -KILL $(systemctl show -P MainPID carpd)")
	lab.Eventually(t, limit, "the fence to be set when carpd was killed", func() bool {
		rules, _ := m1.try("ip rule")
		return strings.Contains(rules, lab.VIPOut.String())
	})
	lab.Eventually(t, limit, "the unit to have ended", func() bool {
		out, _ := m1.try("systemctl is-failed carpd; systemctl show -P ExecStopPost carpd")
		return strings.HasPrefix(out, "failed\n") && strings.Contains(out, "carpd cleanup ;") && strings.Contains(out,
			"code=exited ; status=0 ")
	})
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)

	// Removal leaves keys, users' files and the fence.
	m2.do("dpkg -r sasyncd; ls /etc/sasyncd.key /etc/sasyncd.conf /etc/carpd.conf")
	if rules := m2.do("ip rule"); !strings.Contains(rules, lab.VIPOut.String()) {
		t.Errorf("a gateway whose package was removed has no fence:\n%s", rules)
	}
	// carpd-fence is a state, which stays.
	if left := m2.do("systemctl list-units --no-legend --plain 'sasyncd*' carpd.service; pgrep -l 'sasyncd|carpd' " +
		"|| true"); left != "" {
		t.Errorf("removal leaves\n%s", left)
	}
}

// TestUpgrade: the release before is replaced on a live pair, the standby first.
func TestUpgrade(t *testing.T) {
	origin, err := os.ReadFile(prepared(t, oldOrigin))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the release before is %s", origin)
	p, m1, m2 := installed(t, packageOld)
	m, c := traffic(t, p)
	flowing(t, m, rate)
	upgrade := func(s *machine) {
		t.Helper()
		// Asked about a file in /etc, users keep theirs, which is the default.
		out := s.do("dpkg --force-confold -i /mnt/packages/" + packageNew)
		t.Logf("%s:\n%s", s.Name, out)
		if v := s.do("dpkg-query -W -f '${Version}' sasyncd"); v == "0.0.1" {
			t.Errorf("%s still has %s", s.Name, v)
		}
	}
	from := time.Now()
	upgrade(m2)
	m1.waitCheckBesideOld()
	m2.waitCheckBesideOld()
	if r := phase(t, m, "upgrade of the standby", from); r.Lost != 0 {
		t.Errorf("the upgrade of the standby cost %d packets", r.Lost)
	}

	// Two releases hand over to each other, either way.
	for _, h := range []struct {
		what     string
		from, to *machine
	}{{"hand-over to the new release", m1, m2}, {"hand-over to the old release", m2, m1}} {
		from = time.Now()
		order := "sasyncctl failover"
		if !h.from.waitCheckBesideOld() {
			order += " -f" // it cannot tell whether the old release could take over
		}
		t.Logf("%s: %s", h.what, h.from.do(order))
		h.to.WaitRole("MASTER")
		h.to.waitCheckBesideOld()
		h.from.waitCheckBesideOld()
		if r := phase(t, m, h.what, from); r.Gap > budgetHandOver {
			t.Errorf("the %s took %v, want at most %v", h.what, r.Gap, budgetHandOver)
		}
	}

	from = time.Now()
	upgrade(m1)
	m1.waitCheck()
	m2.waitCheck()
	r := phase(t, m, "upgrade of the master", from)
	if r.Gap > budgetHandOver {
		t.Errorf("the upgrade of the master took %v, want a hand-over of at most %v", r.Gap, budgetHandOver)
	}
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
}
