package ike

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

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// User of the network-facing process, in the nodes' own /etc/passwd. It is in
// carpd's group, as sysusers.d has it.
const (
	sasyncdUID = 990
	users      = "root:x:0:0::/root:/bin/sh\nsasyncd:x:990:990::/:/usr/sbin/nologin\n"
	groups     = "root:x:0:\nsasyncd:x:990:\ncarpd:x:989:sasyncd\n"
)

// inHome is the start of a shell script that sees the node's files at /run/node,
// and has those users.
func inHome(m *scenario.Member) string {
	return inRun(m.Node) + fmt.Sprintf("set -e; mkdir -p /run/node; mount --bind %s /run/node; mount --bind %s "+
		"/etc/passwd; mount --bind %s /etc/group; set +e; ",
		m.Dir(), m.WriteFile("passwd", users), m.WriteFile("group", groups))
}

// startDivided starts the daemons on a machine that has a user for sasyncd: as
// root does, or as the units do.
func startDivided(t *testing.T, p *scenario.Pair, m *scenario.Member, units bool) {
	t.Helper()
	for _, f := range []string{"passwd", "group"} { // known to everybody
		m.WriteFile(f, "")
		if err := os.Chmod(filepath.Join(m.Dir(), f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(m.Dir(), 0o711); err != nil {
		t.Fatal(err)
	}
	start := func(program, script, args string) *lab.Daemon {
		bin, err := harness.Binary(program)
		if err != nil {
			t.Fatal(err)
		}
		return m.Exec(program, exec.Command("unshare", "-m", "sh", "-c", inHome(m)+
			"mkdir -p /run/bin; cp -u "+bin+" /run/bin/"+program+"; "+script+" /run/bin/"+program+" "+args))
	}
	if m.Carpd == nil || !m.Carpd.Running() {
		m.WriteFile("carpd.conf", m.CarpdConf())
		m.Carpd = start("carpd", "exec", "-dc "+m.Dir()+"/carpd.conf")
	}
	lab.Eventually(t, limit, "carpd of "+m.Name+" to answer", func() bool { _, err := m.Elected(); return err == nil })
	conf := "interface " + scenario.Instance + "\n"
	for _, o := range p.Members {
		if o != m {
			conf += fmt.Sprintf("peer %s\n", o.SyncAddr)
		}
	}
	m.WriteFile("sasyncd.key", m.Key+"\n")
	m.WriteFile("sasyncd.conf", conf+fmt.Sprintf("listen on %s\nsharedkey file \"/run/node/sasyncd.key\"\ncontrol "+
		"strongswan\n"+
		"carpd socket \"/run/node/carpd.sock\"\nstatedir \"/run/state\"\n", m.SyncAddr))
	_ = os.Remove(m.Socket())
	if err := os.Symlink(m.Dir()+"/run/sasyncd/control.sock", m.Socket()); err != nil {
		t.Fatal(err)
	}
	script := "exec"
	if units { // sasyncd-privileged.socket, then sasyncd.service
		script = `s=/run/sasyncd-privileged.sock; rm -f $s
			setpriv --pdeathsig KILL systemd-socket-activate --accept --seqpacket -l $s /run/bin/sasyncd -dc /run/node/sasyncd.conf privileged &
			until [ -S $s ]; do sleep 0.05; done; chown sasyncd $s; chmod 600 $s
			mkdir -p /run/sasyncd /run/state; chown -R sasyncd:sasyncd /run/sasyncd /run/state
			exec setpriv --reuid sasyncd --regid sasyncd --init-groups --no-new-privs --inh-caps -all,+net_admin,+net_bind_service \
				--ambient-caps -all,+net_admin,+net_bind_service --bounding-set -all,+net_admin,+net_bind_service`
	}
	m.Sasyncd = start("sasyncd", script, "-dc /run/node/sasyncd.conf")
	lab.Eventually(t, limit, "sasyncd of "+m.Name+" to answer", func() bool { _, err := m.Status(); return err == nil })
}

// process is /proc/PID/status.
func process(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		out[k] = strings.Join(strings.Fields(v), " ")
	}
	return out
}

// privilegedOf finds the process that a sasyncd has started.
func privilegedOf(t *testing.T, pid int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(b), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// gone reports whether a process has ended.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(state, "Z")
}

// requireDivided checks what each process may do.
func requireDivided(t *testing.T, m *scenario.Member) {
	t.Helper()
	const network = "0000000000001400" // CAP_NET_ADMIN, CAP_NET_BIND_SERVICE
	pid := m.Sasyncd.PID()
	s := process(t, pid)
	id := fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", sasyncdUID)
	for key, want := range map[string]string{"Uid": id, "Gid": id, "NoNewPrivs": "1",
		"CapInh": network, "CapPrm": network, "CapEff": network, "CapBnd": network, "CapAmb": network} {
		if s[key] != want {
			t.Errorf("network-facing process of %s: %s is %q, want %q", m.Name, key, s[key], want)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 ") {
		t.Errorf("network-facing process of %s may leave a core dump: %v", m.Name, err)
	}
	// KILL, NET_ADMIN
	if h := process(t, privilegedOf(t, pid)); h["Uid"] != "0 0 0 0" || h["CapBnd"] != "0000000000001020" {
		t.Errorf("privileged process of %s is user %q with capabilities %s", m.Name, h["Uid"], h["CapBnd"])
	}
	// NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE.
	const election = "0000000000807000"
	if c := process(t, m.Carpd.PID()); c["CapEff"] != election || c["CapBnd"] != election {
		t.Errorf("carpd of %s has capabilities %s of %s", m.Name, c["CapEff"], c["CapBnd"])
	}
}

// TestStrongSwanDivided: as root starts it where there is a user for it,
// sasyncd's process that talks to the network is not root, and controls charon
// all the same.
func TestStrongSwanDivided(t *testing.T) {
	p, gw1, gw2 := bare(t)
	c1 := newCharon(t, gw1.Node, "c1", example(t, "strongswan", "gateway", "swanctl.conf"))
	c2 := newCharon(t, gw2.Node, "c2", example(t, "strongswan", "gateway", "swanctl.conf"))
	r := newCharon(t, p.RGW, "cf", example(t, "strongswan", "remote", "swanctl.conf"))
	r.start()
	c1.supervise()
	c2.supervise()
	startDivided(t, p, gw1, false)
	startDivided(t, p, gw2, false)
	gw1.Lead()
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1)
	requireDivided(t, gw1)
	requireDivided(t, gw2)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// Root's files are read again.
	gw2.Sasyncd.Signal(syscall.SIGHUP)
	gw2.Sasyncd.WaitLog("reloaded", limit)

	// Hand-over: charon of the old master is killed by the privileged process.
	from := time.Now()
	gw1.Resign()
	gw2.WaitRole("MASTER")
	waitIKE(t, gw2, "active")
	waitIKE(t, gw1, "passive")
	flowing(t, m, rate)
	requireBudget(t, m, "hand-over", budgetHandOver, from, time.Now())
	requireSilentAfter(t, w, gw1, gw2, from)
	p.WaitFit(gw2)

	// Power cut.
	from = time.Now()
	gw2.Off()
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	flowing(t, m, rate)
	to := time.Now()
	requireBudget(t, m, "power cut", scenario.BudgetPowerCut, from, to)
	m.Stop()
	w.RequireClean()

	// An orderly end takes both processes along.
	pid := privilegedOf(t, gw1.Sasyncd.PID())
	if code := gw1.Sasyncd.Term(limit); code != 0 {
		t.Errorf("stop: exit code %d", code)
	}
	lab.Eventually(t, limit, "the privileged process to end", func() bool { return gone(pid) })

	// So does the death of the privileged one, as a failure.
	startDivided(t, p, gw1, false)
	gw1.Sasyncd.MayExit()
	pid = privilegedOf(t, gw1.Sasyncd.PID())
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := gw1.Sasyncd.WaitExit(limit); code != 1 {
		t.Errorf("after the death of the privileged process: exit code %d, want 1", code)
	}

	// As the units start it: the network-facing process was never root, and the
	// other one comes when it is needed, again if it dies.
	gw1.Resign()
	startDivided(t, p, gw1, true)
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	s := process(t, gw1.Sasyncd.PID())
	if id := strings.Fields(s["Uid"]); id[0] != strconv.Itoa(sasyncdUID) || s["CapPrm"] != "0000000000001400" {
		t.Errorf("under the units the network-facing process is user %s with capabilities %s", s["Uid"], s["CapPrm"])
	}
	kill(t, c1)
	lab.Eventually(t, limit, "charon's return to be noticed", func() bool { return ikeStatus(t, gw1).Restarts >= 1 })
	waitIKE(t, gw1, "active")
}
