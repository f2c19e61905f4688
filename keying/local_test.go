package keying

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestControlProgram: what is asked of a control program, and what its end means.
func TestControlProgram(t *testing.T) {
	t.Setenv("SASYNCD_SECRET", "x")
	echo := script(t, `echo "$*"; env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL= | sort; echo words >&2
[ "$1" = --status ] && exit 0
[ "$1" = --shutdown ] && exit 12
exit 13`)
	l := &Local{Places: map[Daemon]Place{Libreswan: {Control: []string{echo}, OK: []int{12}}}}
	const env = "LC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
	for _, tt := range []struct {
		v    Verb
		want string
		fail bool
	}{{Verb{Do: "status"}, "--status\n" + env, false},
		{Verb{Do: "shutdown"}, "--shutdown --leave-state\n" + env, false},
		{Verb{Do: "initiate", Conn: "a/1"}, "--initiate --asynchronous --name a/1\n" + env, true},
		{Verb{Do: "listen"}, "--listen\n" + env, true}} {
		out, err := l.Control(t.Context(), Libreswan, tt.v)
		if out != tt.want || (err != nil) != tt.fail {
			t.Errorf("%+v: %q, %v, want %q", tt.v, out, err, tt.want)
		}
		if tt.fail && (!strings.Contains(err.Error(), "exit status 13: words") ||
			!strings.Contains(err.Error(), tt.v.Do+" of libreswan")) {
			t.Errorf("%+v: %v", tt.v, err)
		}
	}
	l.Places[Libreswan] = Place{Control: []string{script(t, "yes 0123456789 | head -c 5000000; "+
		"(yes abcdefghi | head -c 1000; echo end) >&2; exit 1")}}
	out, err := l.Control(t.Context(), Libreswan, Verb{Do: "status"})
	if len(out) != 4<<20 || err == nil || len(err.Error()) > 300 || !strings.HasSuffix(err.Error(), "end") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, []byte(ikedConf), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Places[OpenIKED] = Place{Config: []string{"cat", conf}}
	if out, err := l.Control(t.Context(), OpenIKED, Verb{Do: "policies"}); err != nil || out != ikedEnds(ikedConf) {
		t.Errorf("policies: %q, %v", out, err)
	}
	l.Places[OpenIKED] = Place{Config: []string{"false"}}
	if out, err := l.Control(t.Context(), OpenIKED, Verb{Do: "policies"}); err == nil || out != "" {
		t.Errorf("policies that cannot be read: %q, %v", out, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	l.Places[Libreswan] = Place{Control: []string{script(t, "exec sleep 1000")}}
	if _, err := l.Control(ctx, Libreswan, Verb{Do: "status"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that does not end: %v", err)
	}
}

// TestUnknownDaemon: nothing is done for a daemon that this machine does not know.
func TestUnknownDaemon(t *testing.T) {
	l := &Local{Places: map[Daemon]Place{}}
	_, dial := l.Dial(t.Context(), StrongSwan)
	_, control := l.Control(t.Context(), Libreswan, Verb{Do: "status"})
	_, unit := l.Unit(t.Context(), StrongSwan)
	for what, err := range map[string]error{"running": l.Running(t.Context(), OpenIKED), "dial": dial, "unit": unit,
		"tell": l.Tell(t.Context(), ISAKMPD, "M active"), "kill": l.Kill(t.Context(), StrongSwan),
		"start": l.Start(t.Context(), StrongSwan), "control": control} {
		if err == nil || !strings.Contains(err.Error(), "not known here") || errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// daemon starts a process of a name.
func daemon(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sleep, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func pidFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRunningByPIDFile: a number counts if a process of the daemon's name has it.
func TestRunningByPIDFile(t *testing.T) {
	one, two := daemon(t, "plutofake"), daemon(t, "plutofake")
	other := daemon(t, "otherfake")
	number := func(c *exec.Cmd) string { return fmt.Sprintf(" %d\n", c.Process.Pid) }
	for name, tt := range map[string]struct {
		file    string
		running bool
		absent  bool
	}{
		"runs": {pidFile(t, number(one)), true, false}, "another's": {pidFile(t, number(other)), false, true},
		"none": {filepath.Join(t.TempDir(), "none"), false, true}, "nonsense": {pidFile(t, "x"), false, false},
		"init": {pidFile(t, "1"), false, false}, "nothing": {pidFile(t, ""), false, false},
		"nobody": {pidFile(t, "4194304"), false, true},
	} {
		l := &Local{Places: map[Daemon]Place{Libreswan: {PIDFile: tt.file, Comms: []string{"xx", "plutofake"}}}}
		err := l.Running(t.Context(), Libreswan)
		if (err == nil) != tt.running || errors.Is(err, ErrNotRunning) != tt.absent {
			t.Errorf("%s: %v", name, err)
		}
	}
	at := func(c *exec.Cmd) *Local {
		return &Local{Places: map[Daemon]Place{Libreswan: {PIDFile: pidFile(t, number(c)), Comms: []string{"plutofake"}}}}
	}
	instance := func(c *exec.Cmd) string {
		t.Helper()
		s, err := at(c).Control(t.Context(), Libreswan, Verb{Do: "instance"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if a, b := instance(one), instance(two); a != instance(one) || a == b {
		t.Errorf("instances %q and %q", a, b)
	}
	if _, err := at(other).Control(t.Context(), Libreswan, Verb{Do: "instance"}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("the instance of another: %v", err)
	}
	// Who is killed is that one, and nobody else of the same name.
	if err := at(one).Kill(t.Context(), Libreswan); err != nil {
		t.Fatal(err)
	}
	if state, err := one.Process.Wait(); err != nil || state.String() != "signal: killed" {
		t.Errorf("killed: %v, %v", state, err)
	}
	if err := at(one).Kill(t.Context(), Libreswan); err != nil {
		t.Errorf("killed twice: %v", err)
	}
	for _, c := range []*exec.Cmd{two, other} {
		if err := c.Process.Signal(unix.Signal(0)); err != nil {
			t.Errorf("%s has gone: %v", c.Path, err)
		}
	}
}

// TestRunningBySocket: a socket counts if somebody serves it.
func TestRunningBySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := &Local{Places: map[Daemon]Place{StrongSwan: {Socket: path, Comms: []string{"x"}}}}
	absent := func(when string) {
		t.Helper()
		if err := l.Running(t.Context(), StrongSwan); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", when, err)
		}
		if err := l.Kill(t.Context(), StrongSwan); err != nil {
			t.Errorf("%s, killed: %v", when, err)
		}
	}
	absent("no socket")
	s, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	s.SetUnlinkOnClose(false)
	if err := l.Running(t.Context(), StrongSwan); err != nil {
		t.Error(err)
	}
	s.Close()
	absent("nobody serves it")
	if pid, done, err := l.process(t.Context(), StrongSwan, l.Places[StrongSwan]); err == nil {
		done()
		t.Errorf("process %d", pid)
	}
}

// TestRunningByFIFO: a FIFO counts if somebody reads it, and it is one.
func TestRunningByFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	l := &Local{Places: map[Daemon]Place{ISAKMPD: {FIFO: path}}}
	if err := l.Running(t.Context(), ISAKMPD); !errors.Is(err, ErrNotRunning) {
		t.Errorf("none: %v", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := l.Running(t.Context(), ISAKMPD); !errors.Is(err, ErrNotRunning) || time.Since(began) < 100*time.Millisecond {
		t.Errorf("nobody reads it: %v after %v", err, time.Since(began))
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := l.Running(t.Context(), ISAKMPD); err != nil {
		t.Error(err)
	}
	if err := l.Tell(t.Context(), ISAKMPD, "M passive"); err != nil {
		t.Error(err)
	}
	b := make([]byte, 64)
	if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "M passive\n" {
		t.Errorf("read %q, %v", b[:max(n, 0)], err)
	}
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{"a link": link, "a file": pidFile(t, "")} {
		l.Places[ISAKMPD] = Place{FIFO: other}
		if err := l.Tell(t.Context(), ISAKMPD, "M active"); err == nil || errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStartOfAPlace: its own way comes first; without a service manager somebody else
// looks after the daemon.
func TestStartOfAPlace(t *testing.T) {
	no := errors.New("no")
	l := &Local{Places: map[Daemon]Place{StrongSwan: {Start: func(context.Context) error { return no }},
		Libreswan: {Units: []string{"ipsec.service"}}}}
	if err := l.Start(t.Context(), StrongSwan); err != no {
		t.Error(err)
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd is here")
	}
	if err := l.Start(t.Context(), Libreswan); err != nil {
		t.Error(err)
	}
	if props, err := l.Unit(t.Context(), Libreswan); err != nil || props != nil {
		t.Errorf("%v, %v", props, err)
	}
}

// TestPeerPID: the process at the other end of a socket is the one that listens.
func TestPeerPID(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if pid, err := peerPID(conn); err != nil || pid != os.Getpid() {
		t.Errorf("process %d, %v, want %d", pid, err, os.Getpid())
	}
}
