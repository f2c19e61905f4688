package keying

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func script(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExec(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := &Local{Hooks: map[string]string{"carp1": script(t,
		`{ echo "$SASYNCD_STATE $SASYNCD_GROUP $SASYNCD_TERM $SASYNCD_VIPS"; cat; } > `+out)}}
	d := NewExec(p, "carp1")
	if err := d.Active(t.Context(), Plan{Term: 7, VIPs: vips, Reason: "no master heard"}, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	env, in, _ := strings.Cut(string(b), "\n")
	if env != "active carp1 7 192.0.2.1 2001:db8::1" {
		t.Errorf("environment %q", env)
	}
	var o Order
	if err := json.Unmarshal([]byte(in), &o); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Order{State: "active", Group: "carp1", Term: 7, VIPs: vips, Reason: "no master heard"}, o,
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("standard input (-want +got)\n%s", d)
	}
	p.Hooks["carp1"] = script(t, "echo cannot do that >&2; exit 3")
	if err := d.Passive(t.Context(), PassiveOrder{}); err == nil || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), "cannot do that") {
		t.Errorf("a hook that failed: %v", err)
	}
	p.Hooks["carp1"] = script(t, "sleep 1000 & sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := d.Passive(ctx, PassiveOrder{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hook that hangs: %v", err)
	}
	if err := NewExec(p, "carp2").Passive(t.Context(), PassiveOrder{}); err == nil {
		t.Error("a group without a hook has one run")
	}
}

// TestHookIsToldPlainText: the reason comes from elsewhere and is perhaps put
// into a line of a shell.
func TestHookIsToldPlainText(t *testing.T) {
	f := &fakePrivileged{}
	if err := NewExec(f, "g").Passive(t.Context(),
		PassiveOrder{Reason: "`reboot`\n$(x) " + strings.Repeat("a", 300)}); err != nil {
		t.Fatal(err)
	}
	if did := f.deeds(); strings.ContainsAny(did[0], "`$\n") || len(did[0]) > 400 {
		t.Errorf("told %q", did)
	}
	p := &Local{Hooks: map[string]string{"g": "/bin/true"}}
	for _, o := range []Order{{State: "other", Group: "g"}, {State: "active", Group: "g", Reason: "$(x)"},
		{State: "active", Group: "g", Reason: "a\nb"}} {
		if err := p.Hook(t.Context(), o); err == nil {
			t.Errorf("%+v is carried out", o)
		}
	}
}

// TestHookOfOthersIsNotRun as root.
func TestHookOfOthersIsNotRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has rights to lend")
	}
	path := script(t, "exit 0")
	p := &Local{Hooks: map[string]string{"g": path}}
	run := func() error { return p.Hook(t.Context(), Order{State: "active", Group: "g"}) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil {
		t.Error("a program that all can write to is run as root")
	}
	if err := errors.Join(os.Chmod(path, 0o755), os.Chown(path, 990, 0)); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil {
		t.Error("a program of another user is run as root")
	}
}

// TestLinesAreFixed: nothing but the listed lines goes into a FIFO.
func TestLinesAreFixed(t *testing.T) {
	p := &Local{Places: Places()}
	for _, line := range []string{"*1", "", "M active\nR", "+1\n"} {
		if err := p.Tell(t.Context(), StrongSwan, line); err == nil || !strings.Contains(err.Error(), "no line") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestVerbsAreFixed: nothing but the listed command lines can be asked for.
func TestVerbsAreFixed(t *testing.T) {
	for _, v := range []Verb{{"shutdown; reboot", ""}, {"", ""}, {"initiate", "--shutdown"}, {"initiate", ""},
		{"initiate", "a b"}, {"initiate", "$(x)"}} {
		if args, err := v.args(Libreswan); err == nil {
			t.Errorf("%+v became %q", v, args)
		}
	}
	if _, err := (Verb{Do: "shutdown"}).args(OpenIKED); err == nil {
		t.Error("a verb of one daemon is taken for another")
	}
	if args, err := (Verb{"initiate", "site-1/v4.6"}).args(Libreswan); err != nil || args[3] != "site-1/v4.6" {
		t.Errorf("%q, %v", args, err)
	}
}

func TestKillFindsTheSocketsOwner(t *testing.T) {
	p := &Local{Places: map[Daemon]Place{StrongSwan: {Socket: filepath.Join(t.TempDir(), "none"),
		Comms: []string{"charon"}}}}
	if err := p.Kill(t.Context(), StrongSwan); err != nil {
		t.Errorf("nothing to kill: %v", err)
	}
	// This test's own process serves the socket, and is not charon.
	c := startCharon(t)
	p.Places[StrongSwan] = Place{Socket: c.Socket, Comms: []string{"charon"}}
	if err := p.Kill(t.Context(), StrongSwan); err == nil {
		t.Error("killed what is not charon")
	}
}

// TestKillTakesAllOfADaemon: with one process left, that one would clean up
// after the others.
func TestKillTakesAllOfADaemon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "manyd")
	script := "#!/bin/sh\nset -m\n(while :; do sleep 0.1; done) & echo $! > " + dir +
		"/pid.new\n(while :; do sleep 0.1; done) & (while :; do sleep 0.1; done) &\nmv " + dir + "/pid.new " + dir +
		"/pid\nwait\n"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Local{Places: map[Daemon]Place{OpenIKED: {PIDFile: dir + "/pid", Comms: []string{"manyd"}, Many: true}}}
	var pids []int
	for begun := time.Now(); len(pids) < 4; {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it did not start")
		}
		if b, err := os.ReadFile(dir + "/pid"); err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			pids = family(pid, p.Places[OpenIKED])
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.Kill(t.Context(), OpenIKED); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, pid := range pids {
		if comm, _, err := identify(pid); err == nil && comm == "manyd" {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b),
				") Z ") {
				t.Errorf("process %d is still there: %s", pid, b)
			}
		}
	}
}
