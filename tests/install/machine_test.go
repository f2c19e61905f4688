package install

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// machine is a gateway on which systemd is PID 1 of all it sees: a file system of
// its own (the host's beneath, changes in memory), processes, host name, control
// groups, network. It can be cut off and booted again, and keeps its disk.
type machine struct {
	*scenario.Member
	t      *testing.T
	daemon *lab.Daemon
	init   int // systemd, as the test sees it
	boots  int
}

// masked are units that a machine has no hardware for, or nobody to log in.
var masked = []string{"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-tmpfiles-setup-dev.service",
	"dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount",
	"sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service",
	"kmod-static-nodes.service",
	"systemd-logind.service", "dbus.service", "dbus.socket", "getty.target", "systemd-firstboot.service",
	"systemd-random-seed.service",
	"systemd-journald-audit.socket", "systemd-repart.service", "systemd-pcrphase.service",
	"systemd-pcrphase-sysinit.service"}

// newMachine makes the disk of a machine as it is before anything of this project
// is on it, and boots.
func newMachine(t *testing.T, m *scenario.Member) *machine {
	t.Helper()
	s := &machine{Member: m, t: t}
	dir := m.Dir()
	// Forwarding is for the package to switch on.
	m.Sysctl("net/ipv4/ip_forward=0", "net/ipv6/conf/all/forwarding=0")
	m.IP("route replace 10.2.0.0/24 via 192.0.2.100", "route replace fd00:2::/64 via 2001:db8::100 dev wan0")
	s.outside(`set -e
		mkdir -p %[1]s/disk %[1]s/root %[1]s/run %[1]s/cgroup
		mount -t cgroup2 cgroup %[1]s/cgroup
		mount -t tmpfs -o mode=755 disk %[1]s/disk
		mkdir %[1]s/disk/upper %[1]s/disk/work
		mount -t overlay -o lowerdir=/,upperdir=%[1]s/disk/upper,workdir=%[1]s/disk/work root %[1]s/root
		cd %[1]s/root
		rm -rf etc/systemd/system etc/rc?.d usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d etc/sysctl.d lib/modules
		mkdir -p etc/systemd/system etc/sysctl.d lib/modules mnt/outer mnt/packages
		echo %[2]s >etc/hostname
		tr -d - </proc/sys/kernel/random/uuid >etc/machine-id # with none, all units of all packages would be enabled
		ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
		for unit in %[3]s; do ln -s /dev/null etc/systemd/system/$unit; done`, dir, m.Name, strings.Join(masked, " "))
	t.Cleanup(func() { s.outside("umount -l %[1]s/run %[1]s/root %[1]s/disk %[1]s/cgroup || true", dir) })
	for from, to := range map[string]string{m.Socket(): "run/sasyncd/control.sock",
		dir + "/carpd.sock": "run/carpd/control.sock"} {
		if err := os.Symlink(filepath.Join(dir, to), from); err != nil {
			t.Fatal(err)
		}
	}
	s.boot()
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
		mount --rbind /dev dev
		mount --bind %[1]s/run run
		mount -t tmpfs -o mode=1777 tmp tmp
		mount --bind /usr/lib/uml/modules lib/modules
		mount --bind %[3]s mnt/packages
		mount -t proc proc proc
		mount -t sysfs sys sys
		mount -t cgroup2 cgroup sys/fs/cgroup
		pivot_root . mnt/outer
		cd /
		umount -l /mnt/outer
		exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=console --show-status=0 </dev/null`,
		s.Dir(), s.Name, filepath.Dir(prepared(s.t, packageNew)))
	// The new /run is to be seen from outside too.
	s.outside("umount -l %[1]s/run 2>/dev/null; mount -t tmpfs -o mode=755 run %[1]s/run", s.Dir())
	// Two that take the same control group for the root would fight about it.
	s.boots++
	s.daemon = s.Exec("systemd", exec.Command("sh", "-c",
		`mkdir "$1" && echo $$ >"$1/cgroup.procs" && exec unshare -m -p -u -i -C -f --kill-child sh -c "$2"`,
		"sh", fmt.Sprintf("%s/cgroup/%s-%s.%d", s.Dir(), s.t.Name(), s.Name, s.boots), script))
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
	for start := time.Now(); state != "running" && state != "degraded"; time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > 2*limit {
			jobs, err := s.try("systemctl --no-pager list-jobs")
			s.t.Fatalf("systemd of %s has not booted, it is %q; its jobs:\n%s%v", s.Name, state, jobs, err)
		}
		out, _ := s.try("systemctl is-system-running")
		state = strings.TrimSpace(out)
	}
	if state == "degraded" {
		s.t.Logf("%s: %s", s.Name, s.do("systemctl --no-pager --no-legend --plain list-units --failed"))
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			out, _ := s.try("systemctl --no-pager list-units --all 'sasyncd*' 'carpd*'; journalctl --no-pager -n 60 " +
				"-o short-precise -u sasyncd -u carpd -u carpd-fence -u 'sasyncd-privileged*'")
			s.t.Logf("systemd of %s:\n%s", s.Name, out)
		}
	})
}

// try runs a shell command inside, and returns its standard output.
func (s *machine) try(cmd string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*limit)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(s.init), "-m", "-p", "-u", "-i", "-C", "env", "-i",
		"HOME=/root",
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

// cut is a power cut: what runs stops at once, the cables go dead, and then
// the processes end without a last word.
func (s *machine) cut() {
	s.t.Helper()
	for _, pid := range s.processes() {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	for _, p := range []*lab.Port{s.WAN, s.LAN, s.Sync} {
		p.Pull()
	}
	if err := unix.Kill(s.init, syscall.SIGKILL); err != nil { // and the kernel all others
		s.t.Fatalf("cut power of %s: %v", s.Name, err)
	}
	s.daemon.WaitExit(limit)
}

// processes are all but systemd's, as the test sees them.
func (s *machine) processes() []int {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.init))
	if err != nil {
		s.t.Fatal(err)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var pids []int
	for _, f := range all {
		if other, _ := os.Readlink(f); other == ns {
			if pid, err := strconv.Atoi(strings.Split(f, "/")[2]); err == nil && pid != s.init {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// write writes a file inside.
func (s *machine) write(name, content string) {
	s.t.Helper()
	from := s.WriteFile("to-"+filepath.Base(name), content)
	s.outside("install -m 600 %s %s/run/incoming", from, s.Dir())
	s.do("umask 077; cat /run/incoming >" + name + "; rm /run/incoming")
}

// waitCheck waits until sasyncctl check, as a user calls it, says 0.
func (s *machine) waitCheck() {
	s.t.Helper()
	s.waitAnswer(func(out string, err error) bool { return err == nil })
}

// waitCheckBesideOld is waitCheck beside a release that does not report: then nothing
// but that is left to say. Told is whether it was.
func (s *machine) waitCheckBesideOld() (told bool) {
	s.t.Helper()
	s.waitAnswer(func(out string, err error) bool {
		var v struct{ Reasons []struct{ Code string } }
		if err == nil {
			told = true
			return true
		}
		if json.Unmarshal([]byte(out), &v) != nil || len(v.Reasons) == 0 {
			return false
		}
		return !slices.ContainsFunc(v.Reasons, func(r struct{ Code string }) bool { return r.Code != "old-peer" })
	})
	return told
}

// waitAnswer waits until sasyncctl check gives an answer that is accepted.
func (s *machine) waitAnswer(accepted func(out string, err error) bool) {
	s.t.Helper()
	last := ""
	for start := time.Now(); time.Since(start) < limit; time.Sleep(200 * time.Millisecond) {
		out, err := s.try("sasyncctl -j check")
		if accepted(out, err) {
			return
		}
		last = fmt.Sprintf("%v\n%s", err, out)
	}
	s.t.Fatalf("check on %s is not content: %s", s.Name, last)
}
