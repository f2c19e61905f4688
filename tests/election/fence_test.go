package election

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// With "require fence" a silent master is replaced only when the program of
// "carpctl fence" has silenced it, and one that agrees without that. The master
// here hangs: it holds its addresses, and its leases end by themselves.
func TestFenceProgram(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "require fence; prepare-timeout 20s"
	called, allow := map[*gateway]string{}, filepath.Join(t.TempDir(), "allow")
	guard := func(g *gateway) *lab.Daemon {
		called[g] = filepath.Join(g.Dir(), "called")
		script := g.WriteFile("fence.sh", "#!/bin/sh\necho \"$1 $2 $3 $CARP_REASON\" >> "+called[g]+"\nuntil [ -e "+
			allow+" ]; do sleep 0.02; done\n")
		if err := os.Chmod(script, 0o700); err != nil {
			t.Fatal(err)
		}
		return g.Exec("fence", exec.Command(program(t, "carpctl"), "-s", g.socket(), "fence", "gate", script))
	}
	calls := func(g *gateway) string {
		b, _ := os.ReadFile(called[g])
		return string(b)
	}
	gw1, gw2 := p.gws[0], p.gws[1]
	p.start(gw1)
	lab.Eventually(t, 5*time.Second, "gw1 to wait for somebody who fences", func() bool {
		s := gw1.state()
		return s.Blocked == "waiting for fence"
	})
	if err := os.WriteFile(allow, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	guard(gw1)
	gw1.await(api.StateMaster, 10*time.Second)
	if got, want := calls(gw1), "GROUP gate FENCE no master heard\n"; got != want {
		t.Errorf("at the start the program was called with %q, want %q", got, want)
	}
	p.start(gw2)
	guard(gw2)
	gw2.await(api.StateBackup, 5*time.Second)
	gw2.awaitLog("master heard", 4)

	// A master that agrees is not shot.
	lab.Eventually(t, 5*time.Second, "gw2 to be guarded", func() bool { return gw2.state().Blocked == "" })
	if out, code := gw1.ctl("resign", "gate"); code != 0 {
		t.Fatalf("resign: %s", out)
	}
	gw2.await(api.StateMaster, 5*time.Second)
	if got := calls(gw2); got != "" {
		t.Errorf("a hand-over called the program: %q", got)
	}
	gw1.await(api.StateBackup, 5*time.Second)
	lab.Eventually(t, 10*time.Second, "gw1 to be able to take over", func() bool { return gw1.state().Blocked == "" })

	// One that hangs is, and until that has worked nobody takes its addresses.
	if err := os.Remove(allow); err != nil {
		t.Fatal(err)
	}
	was := calls(gw1)
	gw2.d.Signal(syscall.SIGSTOP)
	defer gw2.d.Signal(syscall.SIGCONT)
	lab.Eventually(t, 10*time.Second, "the program to be called", func() bool { return calls(gw1) != was })
	if got, want := strings.TrimPrefix(calls(gw1), was), "GROUP gate FENCE master timed out\n"; got != want {
		t.Errorf("the program was called with %q, want %q", got, want)
	}
	lab.Eventually(t, 10*time.Second, "the hung master's addresses to lapse", func() bool { return gw2.holds() == 0 })
	if s := gw1.state(); s.State == api.StateMaster || gw1.holds() != 0 || gw1.fenced() != 4 {
		t.Errorf("before the old master was silenced, gw1 is %+v, holds %d addresses, %d are fenced", s, gw1.holds(),
			gw1.fenced())
	}
	if err := os.WriteFile(allow, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gw1.await(api.StateMaster, 5*time.Second)
	if n := gw1.holds(); n != 4 {
		t.Errorf("gw1 holds %d addresses, want 4", n)
	}
}

// TestFenceIsSetAgain: routing rules are everybody's, and systemd-networkd removes
// those of others when it is restarted. A backup is fenced again at once, and the
// master notices nothing.
func TestFenceIsSetAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	gw1, gw2 := p.gws[0], p.gws[1]
	p.start(gw1)
	gw1.await(api.StateMaster, 10*time.Second)
	p.start(gw2)
	gw2.await(api.StateBackup, 5*time.Second)
	gw2.awaitLog("master heard", 4)
	for _, g := range p.gws {
		for _, family := range []string{"-4", "-6"} {
			// All but those of the kernel, which are the first and the last two.
			g.Run("ip " + family + " rule flush")
			g.Run("ip " + family + " rule add pref 32766 lookup main")
		}
	}
	lab.Eventually(t, 5*time.Second, "gw2 to be fenced again", func() bool { return gw2.fenced() == 4 })
	gw2.awaitLog("fence rules removed externally", 1)
	if s := gw1.state(); s.State != api.StateMaster || gw1.fenced() != 0 || gw1.holds() != 4 {
		t.Errorf("the master is %+v, %d addresses are fenced, it holds %d", s, gw1.fenced(), gw1.holds())
	}
}
