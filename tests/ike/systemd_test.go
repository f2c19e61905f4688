package ike

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// machine is a gateway on which systemd is PID 1, in namespaces of its own, with
// the units that are shipped.
type machine struct {
	*scenario.Member
	t  *testing.T
	id int // of systemd, outside
}

// bootSystemd boots a gateway's systemd. Its /etc is a copy, and its /run is
// visible as run in the node's directory.
func bootSystemd(t *testing.T, m *scenario.Member, files map[string]string) *machine {
	t.Helper()
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	run := func(format string, args ...any) {
		t.Helper()
		if out, err := m.Try("sh " + m.WriteFile("boot.sh", fmt.Sprintf(format, args...))); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	dir := m.Dir()
	etc, bin := dir+"/etc", dir+"/bin"
	run("mkdir -p %[1]s %[2]s %[3]s/run && mount -t tmpfs -o mode=755 etc %[1]s && mount -t tmpfs -o mode=755 run "+
		"%[3]s/run && cp -a /etc/. %[1]s", etc, bin, dir)
	t.Cleanup(func() { _, _ = m.Try(fmt.Sprintf("umount -l %s %s/run", etc, dir)) })
	for _, p := range []string{"sasyncd", "carpd", "sasyncctl"} {
		b, err := harness.Binary(p)
		if err != nil {
			t.Fatal(err)
		}
		run("cp %s %s/", b, bin)
	}
	// The units, but for where programs are; and nothing of what the host enables.
	run("rm -rf %[1]s/systemd/system && mkdir -p %[1]s/systemd/system && cp -r %[2]s/systemd/. %[1]s/systemd/system/",
		etc, deploy)
	run("mkdir -p %[1]s/systemd/system-generators && cp -r %[2]s/adopt %[1]s/sasyncd-units && cp %[2]s/generators/* "+
		"%[1]s/systemd/system-generators/", etc, deploy)
	run("sed -i 's,/usr/lib/sasyncd/units,/etc/sasyncd-units,' %s/systemd/system-generators/*", etc)
	run("sed -i 's,/usr/sbin/\\(sasyncd\\|carpd\\) *,/mnt/\\1 ,' %s/systemd/system/*.service", etc)
	// Beside what /tmp of the machine hides, where the sources may lie.
	run("cp %[2]s/sysusers.d/sasyncd.conf %[1]s/sasyncd-users.conf", etc, deploy)
	for _, u := range []string{"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-modules-load.service",
		"systemd-sysctl.service",
		"systemd-tmpfiles-setup-dev.service", "dev-hugepages.mount", "dev-mqueue.mount"} {
		run("ln -s /dev/null %s/systemd/system/%s", etc, u)
	}
	for name, content := range files {
		file := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{m.Socket(): "run/sasyncd/control.sock",
		dir + "/carpd.sock": "run/carpd/control.sock"} {
		_ = os.Remove(from)
		if err := os.Symlink(filepath.Join(dir, to), from); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -e
		mount --make-rprivate /
		mount -t proc proc /proc
		mount --bind %[1]s/bin /mnt
		mount --bind %[1]s/etc /etc
		mount --bind %[1]s/run /run
		mount -t tmpfs -o mode=1777 tmp /tmp
		mount -t tmpfs -o mode=755 lib /var/lib
		mount -t cgroup2 cgroup /sys/fs/cgroup
		# A charon that crashes asks it for the lines of its stack, which takes half a minute here.
		[ ! -e /usr/bin/addr2line ] || mount --bind /bin/false /usr/bin/addr2line
		systemd-sysusers /etc/sasyncd-users.conf
		chgrp carpd /etc/carpd.conf; chmod 640 /etc/carpd.conf
		exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=drill.target \
			--log-target=console --show-status=0 </dev/null`, dir)
	d := m.Exec("systemd", exec.Command("unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", script))
	d.MayExit()
	s := &machine{Member: m, t: t}
	lab.Eventually(t, limit, "systemd of "+m.Name+" to start", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", d.PID()))
		if err != nil || len(strings.Fields(string(b))) == 0 {
			return false
		}
		s.id, err = strconv.Atoi(strings.Fields(string(b))[0])
		return err == nil && strings.HasPrefix(process(t, s.id)["Name"], "systemd")
	})
	lab.Eventually(t, 2*limit, "systemd of "+m.Name+" to have booted", func() bool {
		out, _ := s.try("systemctl is-active drill.target")
		return strings.TrimSpace(out) == "active"
	})
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.try("systemctl --no-pager list-units --all '*swan*' 'sasyncd*' 'carpd*'; journalctl " +
				"--no-pager -n 60 -o short-precise -u sasyncd -u carpd -u carpd-fence -u strongswan -u " +
				"'sasyncd-privileged*'")
			t.Logf("systemd of %s:\n%s", m.Name, out)
		}
	})
	return s
}

// try runs a command inside.
func (s *machine) try(cmd string) (string, error) {
	if err := os.WriteFile(s.Dir()+"/run/command", []byte(cmd), 0o600); err != nil {
		return "", err
	}
	return s.Try(fmt.Sprintf("nsenter -t %d -m -p sh /run/command", s.id))
}

func (s *machine) do(cmd string) string {
	s.t.Helper()
	out, err := s.try(cmd)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(out)
}

// mainPID is that of a unit, as the test sees it.
func (s *machine) mainPID(unit string) int {
	s.t.Helper()
	inside := s.do("systemctl show -P MainPID " + unit)
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		s.t.Fatal(err)
	}
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.id))
	for _, f := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if other, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); other != ns {
			continue
		}
		b, _ := os.ReadFile(f)
		for line := range strings.Lines(string(b)) {
			if ids, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.HasSuffix(strings.TrimSpace(ids),
				"\t"+inside) {
				return pid
			}
		}
	}
	s.t.Fatalf("no process %s of %s", inside, unit)
	return 0
}

// requireAdopted enables sasyncd, and fails the test if the units of IKE daemons
// were others than packaged before, or are not as they must be after that. Debian's
// strongswan-starter, which is ipsec.service too, starts either way.
func requireAdopted(t *testing.T, m *machine) {
	t.Helper()
	m.do(`cd /etc/systemd/system && printf '[Service]\nExecStart=/bin/sleep 1000000\nRestart=on-abnormal\n' >strongswan-starter.service &&
		ln -s strongswan-starter.service ipsec.service && systemctl daemon-reload`)
	want := func(when, signal, restart string) {
		t.Helper()
		for _, unit := range []string{"strongswan", "ipsec"} {
			if got := strings.Fields(m.do("systemctl show -P KillSignal " + unit + "; systemctl show -P Restart " +
				unit)); !slices.Equal(got, []string{signal, restart}) {
				t.Errorf("%s: %s has KillSignal and Restart %q", when, unit, got)
			}
		}
		m.do("systemctl start ipsec && systemctl is-active strongswan-starter && systemctl stop ipsec")
	}
	want("sasyncd is installed", "15", "on-abnormal")
	m.do("systemctl enable sasyncd")
	want("sasyncd is enabled", "9", "always")
}

// TestSystemd: the units as they are shipped, beside strongSwan's with the
// drop-in, on a gateway whose PID 1 is systemd.
func TestSystemd(t *testing.T) {
	p, gw1, gw2 := bare(t)
	r := newCharon(t, p.RGW, "cf", example(t, "strongswan", "remote", "swanctl.conf"))
	r.start()
	c2 := newCharon(t, gw2.Node, "c2", example(t, "strongswan", "gateway", "swanctl.conf"))
	c2.supervise()
	carpd := strings.NewReplacer(fmt.Sprintf("socket %q", gw1.Dir()+"/carpd.sock"), "",
		fmt.Sprintf("statedir %q", gw1.Dir()), "").Replace(gw1.CarpdConf())
	m1 := bootSystemd(t, gw1, map[string]string{
		"systemd/system/drill.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n",
		"carpd.conf":                  carpd,
		"sasyncd.key":                 gw1.Key + "\n",
		"sasyncd.conf": fmt.Sprintf("interface %s\npeer %s\nlisten on %s\nsharedkey file "+
			"\"/etc/sasyncd.key\"\ncontrol strongswan\n",
			scenario.Instance, gw2.SyncAddr, gw1.SyncAddr),
		"strongswan.conf": settings(`charon-systemd {
	load = random nonce openssl aes gcm sha1 sha2 hmac kdf gmp x509 pubkey pem pkcs1 pkcs8 revocation constraints kernel-netlink socket-default vici updown
	install_routes = no
	retransmit_timeout = 1
	spi_min = 0xc1000000
	spi_max = 0xc1ffffff
	plugins {
		vici { socket = unix:///run/charon.vici }
	}
}
`),
		"swanctl/swanctl.conf": example(t, "strongswan", "gateway", "swanctl.conf"),
	})
	requireAdopted(t, m1)
	m1.do("systemctl start carpd strongswan sasyncd")
	startDivided(t, p, gw2, false)
	gw1.Lead()
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1) // with the drop-in and all settings `check` has no reason

	// Who may do what.
	const network = "0000000000001400"
	main := process(t, m1.mainPID("sasyncd.service"))
	if uid := strings.Fields(main["Uid"]); uid[0] == "0" || uid[0] != uid[3] || main["CapPrm"] != network ||
		main["CapBnd"] != network || main["NoNewPrivs"] != "1" {
		t.Errorf("sasyncd is user %s with capabilities %s of %s", main["Uid"], main["CapPrm"], main["CapBnd"])
	}
	if main["Seccomp"] != "2" {
		t.Logf("this kernel has no system call filter: Seccomp is %s", main["Seccomp"])
	}
	helper := m1.do("systemctl list-units --no-legend --plain 'sasyncd-privileged@*.service'")
	if n := len(strings.Split(helper, "\n")); n != 1 || helper == "" {
		t.Errorf("privileged processes: %q", helper)
	}
	if k := ikeStatus(t, gw1); k.Stop != "keeps tunnels" {
		t.Errorf("what a stop of charon does: %q", k.Stop)
	}

	if c := process(t, m1.mainPID("carpd.service")); strings.HasPrefix(c["Uid"], "0 ") ||
		c["CapBnd"] != "0000000000807000" {
		t.Errorf("carpd is user %s with capabilities %s", c["Uid"], c["CapBnd"])
	}

	// A reload reads files that only root can.
	m1.do("systemctl reload sasyncd")
	lab.Eventually(t, limit, "sasyncd to have reloaded", func() bool {
		out, _ := m1.try("journalctl --no-pager -u sasyncd -g '^reloaded'")
		return strings.Contains(out, "reloaded")
	})

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// Stop, start, restart, crash of the IKE daemon on the master.
	for i, cmd := range []string{"systemctl stop strongswan; sleep 0.5; systemctl start strongswan",
		"systemctl restart strongswan", "systemctl kill -s SEGV strongswan"} {
		from := time.Now()
		m1.do(cmd)
		lab.Eventually(t, limit, "charon's return to be noticed", func() bool { return ikeStatus(t, gw1).Restarts > i })
		waitIKE(t, gw1, "active")
		flowing(t, m, rate)
		to := time.Now()
		flowing(t, m, rate/10)
		requireLost(t, m, cmd, from, to)
	}

	// Hand-over: the privileged process kills charon, systemd starts it again.
	from := time.Now()
	gw1.Resign()
	gw2.WaitRole("MASTER")
	waitIKE(t, gw2, "active")
	waitIKE(t, gw1, "passive")
	flowing(t, m, rate)
	// systemd starts charon again meanwhile, on the guest's only processor.
	requireBudget(t, m, "hand-over", budgetHandOver, from, time.Now())
	lab.Eventually(t, limit, "charon to be back on the backup", func() bool {
		out, _ := m1.try("systemctl is-active strongswan")
		return strings.TrimSpace(out) == "active"
	})
	m.Stop()
	w.RequireClean()
	for line := range strings.Lines(r.log()) {
		if strings.Contains(line, "received DELETE for IKE_SA") {
			t.Errorf("the remote was told to delete: %s", line)
		}
	}

	// Without the drop-in, `check` says so.
	m1.do("systemctl disable sasyncd && systemctl restart sasyncd")
	lab.Eventually(t, limit, "the lack of the drop-in to be noticed", func() bool {
		k := ikeStatus(t, gw1)
		return k.Stop == "tears tunnels down" && len(k.Lint) > 0
	})

	// A stop ends both processes.
	m1.do("systemctl stop sasyncd")
	lab.Eventually(t, limit, "the privileged process to end", func() bool {
		out, _ := m1.try("systemctl list-units --no-legend --plain 'sasyncd-privileged@*.service'")
		return strings.TrimSpace(out) == ""
	})
	if out := m1.do("systemctl show -P Result sasyncd"); out != "success" {
		t.Errorf("stop of sasyncd: %s", out)
	}
}
