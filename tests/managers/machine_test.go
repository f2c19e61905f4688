package managers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// machine is a gateway on which systemd is PID 1 of all it sees. Its disk is Debian
// 13's with changes in memory; it has devices, control groups and a /proc of its own.
// /sys is read-only, by which programs know that there is no udev.
type machine struct {
	*scenario.Member
	t      *testing.T
	daemon *lab.Daemon
	init   int // systemd, as the test sees it
	group  string
}

// masked are units that a machine has no hardware for, or nobody to log in. Settings of
// the kernel that are not the network's are the host's.
var masked = []string{"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-kernel.socket",
	"systemd-udevd-control.socket", "systemd-tmpfiles-setup-dev.service",
	"systemd-tmpfiles-setup-dev-early.service", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-config.mount",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
	"proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "kmod-static-nodes.service",
	"systemd-logind.service", "getty.target", "console-getty.service", "systemd-firstboot.service",
	"systemd-random-seed.service", "systemd-journald-audit.socket", "systemd-repart.service",
	"systemd-modules-load.service", "systemd-networkd-wait-online.service", "NetworkManager-wait-online.service",
	"apt-daily.timer", "apt-daily-upgrade.timer", "networking.service", "NetworkManager.service", "firewalld.service",
	"nftables.service", "keepalived.service", "systemd-networkd.service"}

// newMachine makes the disk of a machine, with the given files and the project's package,
// and boots it with the given units. Its interfaces have no addresses: who manages the
// network gives them.
func newMachine(t *testing.T, m *scenario.Member, files map[string]string, units ...string) *machine {
	t.Helper()
	s := &machine{Member: m, t: t}
	for _, dev := range []string{"lan0", "wan0", "sync0"} {
		m.IP("addr flush dev " + dev + " scope global")
	}
	var enabled []string
	masks := append([]string(nil), masked...)
	for _, u := range units {
		for i, x := range masks {
			if x == u {
				masks = append(masks[:i], masks[i+1:]...)
				break
			}
		}
		enabled = append(enabled, u)
	}
	deb, err := harness.Binary(packageFile)
	if err != nil {
		t.Fatal(err)
	}
	s.outside(`set -e
		mkdir -p %[1]s/disk %[1]s/root %[1]s/run %[1]s/cgroup
		mount -t cgroup2 cgroup %[1]s/cgroup
		mount -t tmpfs -o mode=755 disk %[1]s/disk
		mkdir %[1]s/disk/upper %[1]s/disk/work
		mount -t overlay -o lowerdir=%[5]s,upperdir=%[1]s/disk/upper,workdir=%[1]s/disk/work root %[1]s/root
		cd %[1]s/root
		rm -rf etc/systemd/system etc/rc?.d usr/sbin/policy-rc.d usr/lib/sysctl.d/* etc/sysctl.d/* usr/lib/modules
		mkdir -p etc/systemd/system usr/lib/modules mnt/outer mnt/package
		cp %[4]s mnt/package/
		echo %[2]s >etc/hostname
		tr -d - </proc/sys/kernel/random/uuid >etc/machine-id # with none, all units of all packages would be enabled
		ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
		for unit in %[3]s; do ln -s /dev/null etc/systemd/system/$unit; done`,
		m.Dir(), m.Name, strings.Join(masks, " "), deb, debian13(t))
	t.Cleanup(func() {
		s.outside("umount -l %[1]s/run %[1]s/root %[1]s/disk || true; rmdir $(find %[2]s -depth -type d) || true; "+
			"umount -l %[1]s/cgroup || true", m.Dir(), s.group)
	})
	for name, content := range files {
		mode := 0o644
		if strings.HasSuffix(name, ".nmconnection") || strings.HasSuffix(name, ".yaml") {
			mode = 0o600 // they may have secrets, so their readers insist
		}
		s.outside("install -D -m %o %s %s/root%s", mode, s.WriteFile(strings.ReplaceAll(name[1:], "/", "-"), content),
			m.Dir(), name)
	}
	for from, to := range map[string]string{m.Socket(): "run/sasyncd/control.sock",
		m.CarpdSocket(): "run/carpd/control.sock"} {
		if err := os.Symlink(filepath.Join(m.Dir(), to), from); err != nil {
			t.Fatal(err)
		}
	}
	s.boot()
	out := s.do("dpkg -i /mnt/package/" + packageFile + " 2>&1")
	t.Logf("%s: %s", s.Name, out)
	for _, u := range enabled {
		s.do("systemctl enable " + u + " 2>&1")
	}
	if len(enabled) > 0 {
		s.do("systemctl start " + strings.Join(enabled, " "))
	}
	return s
}

// outside runs a shell script in the gateway's network, but on the test's disk.
func (s *machine) outside(format string, args ...any) {
	s.t.Helper()
	if out, err := s.Try("sh " + s.WriteFile("outside.sh", fmt.Sprintf(format, args...))); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// boot starts systemd and waits until it has nothing more to do.
func (s *machine) boot() {
	s.t.Helper()
	script := fmt.Sprintf(`set -e
		mount --make-rprivate /
		hostname %[2]s
		cd %[1]s/root
		mount -t tmpfs -o mode=755 dev dev
		for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
		mkdir dev/pts dev/shm
		mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
		ln -s pts/ptmx dev/ptmx
		ln -s /proc/self/fd dev/fd
		mount -t tmpfs shm dev/shm
		mount --bind %[1]s/run run
		mount -t tmpfs -o mode=1777 tmp tmp
		mount -t proc proc proc
		mount -t sysfs -o ro sys sys
		mount -t cgroup2 cgroup sys/fs/cgroup
		pivot_root . mnt/outer
		cd /
		umount -l /mnt/outer
		exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
			--log-target=console --show-status=0 </dev/null`,
		s.Dir(), s.Name)
	// /run is to be seen from outside too.
	s.outside("mount -t tmpfs -o mode=755 run %[1]s/run", s.Dir())
	// Two that take the same control group for the root would fight about it.
	s.group = fmt.Sprintf("%s/cgroup/managers-%d-%s", s.Dir(), os.Getpid(), filepath.Base(s.Dir()))
	s.daemon = s.Exec("systemd", exec.Command("sh", "-c",
		`mkdir "$1" && echo $$ >"$1/cgroup.procs" && exec unshare -m -p -u -i -C -f --kill-child sh -c "$2"`,
		"sh", s.group, script))
	s.daemon.MayExit()
	lab.Eventually(s.t, limit, "systemd of "+s.Name+" to start", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.daemon.PID()))
		if err != nil || len(strings.Fields(string(b))) == 0 {
			return false
		}
		s.init, err = strconv.Atoi(strings.Fields(string(b))[0])
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.init))
		return err == nil && strings.HasPrefix(string(comm), "systemd")
	})
	state := ""
	lab.Eventually(s.t, limit, "systemd of "+s.Name+" to have booted", func() bool {
		time.Sleep(100 * time.Millisecond)
		out, _ := s.try("systemctl is-system-running")
		state = strings.TrimSpace(out)
		return state == "running" || state == "degraded"
	})
	if state == "degraded" {
		s.t.Logf("%s: %s", s.Name, s.do("systemctl --no-pager --no-legend --plain list-units --failed"))
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			out, _ := s.try("journalctl --no-pager -n 150 -o short-precise")
			s.t.Logf("journal of %s:\n%s", s.Name, out)
		}
	})
}

// try runs a shell command inside, and returns its standard output.
func (s *machine) try(cmd string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(s.init), "-m", "-p", "-u", "-i", "-C", "env", "-i",
		"HOME=/root", "LC_ALL=C.UTF-8",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", cmd)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := s.Start(c)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", s.Name, cmd, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// do is try for what has to work.
func (s *machine) do(cmd string) string {
	s.t.Helper()
	out, err := s.try(cmd)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// write writes a file of mode 0600 inside.
func (s *machine) write(name, content string) {
	s.t.Helper()
	from := s.WriteFile("to-"+filepath.Base(name), content)
	s.outside("install -m 600 %s %s/run/incoming", from, s.Dir())
	s.do("umask 077; cat /run/incoming >" + name + "; rm /run/incoming")
}
