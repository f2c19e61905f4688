package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/harness"
)

// Dir returns the node's private directory (mode 0700) for configuration, keys
// and sockets. It stays when daemons die.
func (nd *Node) Dir() string {
	nd.t.Helper()
	if nd.dir == "" {
		nd.dir = trustedtest.Dir(nd.t)
	}
	return nd.dir
}

// WriteFile writes a file into [Node.Dir], mode 0600, and returns its path.
func (nd *Node) WriteFile(name, content string) string {
	nd.t.Helper()
	p := filepath.Join(nd.Dir(), name)
	nd.net.secrets.learn(name, content)
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		nd.t.Fatalf("write %s of %s: %v", name, nd.Name, err)
	}
	return p
}

// Daemon is a process in a node, with its output in a file.
type Daemon struct {
	Name string // node/program
	Log  string // path of its output

	t      T
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // how it ended, valid once exited is closed
	mu     sync.Mutex
	asked  bool // we ended it
}

// Daemon starts a program that harness.Build built. Should it end by itself the
// test fails, unless [Daemon.MayExit] was called.
func (nd *Node) Daemon(program string, args ...string) *Daemon {
	nd.t.Helper()
	bin, err := harness.Binary(program)
	if err != nil {
		nd.t.Fatalf("%v", err)
	}
	return nd.Exec(program, exec.Command(bin, args...))
}

// Exec is [Node.Daemon] for any command; its output is redirected.
func (nd *Node) Exec(name string, cmd *exec.Cmd) *Daemon {
	nd.t.Helper()
	d := &Daemon{
		Name: nd.Name + "/" + name, t: nd.t, cmd: cmd,
		Log:    filepath.Join(nd.Dir(), fmt.Sprintf("%s.%d.log", name, len(nd.procs))),
		exited: make(chan struct{}),
	}
	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		nd.t.Fatalf("open log of %s: %v", d.Name, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := nd.Start(cmd); err != nil {
		nd.t.Fatalf("start %s: %v", d.Name, err)
	}
	nd.procs = append(nd.procs, d)
	go d.wait()
	nd.t.Cleanup(func() {
		d.Kill()
		nd.learnKernel()
		d.searched(nd)
		d.raced()
		if nd.t.Failed() {
			d.dump()
		}
	})
	return d
}

func (d *Daemon) wait() {
	d.err = d.cmd.Wait()
	d.mu.Lock()
	asked := d.asked
	d.mu.Unlock()
	if !asked {
		d.t.Errorf("%s ended by itself: %v\n%s", d.Name, d.err, tail(d.Output(), 20))
	}
	close(d.exited)
}

// MayExit says that the daemon may end without being told to.
func (d *Daemon) MayExit() {
	d.mu.Lock()
	d.asked = true
	d.mu.Unlock()
}

// Signal sends a signal, for instance SIGHUP, SIGSTOP or SIGCONT.
func (d *Daemon) Signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Errorf("send %v to %s: %v", s, d.Name, err)
	}
}

// Kill ends the daemon with SIGKILL and waits for its end.
func (d *Daemon) Kill() {
	d.t.Helper()
	d.MayExit()
	d.Signal(syscall.SIGKILL)
	<-d.exited
}

// Term ends the daemon with SIGTERM, and returns its exit code. The test fails
// when it has not ended within the limit.
func (d *Daemon) Term(limit time.Duration) int {
	d.t.Helper()
	d.MayExit()
	d.Signal(syscall.SIGTERM)
	return d.WaitExit(limit)
}

// WaitExit waits for the daemon's end and returns its exit code, -1 if it was
// killed. The test fails when it has not ended within the limit.
func (d *Daemon) WaitExit(limit time.Duration) int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(harness.Scaled(limit)):
		d.t.Errorf("%s does not end: still there after %v", d.Name, limit)
		d.Kill()
	}
	return d.cmd.ProcessState.ExitCode()
}

// Running reports whether the daemon has not ended.
func (d *Daemon) Running() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// PID is the process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Output is what the daemon has printed so far.
func (d *Daemon) Output() string {
	b, err := os.ReadFile(d.Log)
	if err != nil {
		return fmt.Sprintf("(log unreadable: %v)", err)
	}
	return string(b)
}

// WaitLog waits until the output contains text; the test ends when it does not.
func (d *Daemon) WaitLog(text string, limit time.Duration) {
	d.t.Helper()
	Eventually(d.t, limit, fmt.Sprintf("%s to log %q", d.Name, text), func() bool {
		return strings.Contains(d.Output(), text)
	})
}

// raced fails the test for what the race detector of the daemon found. Its exit
// code does not tell: most daemons are killed.
func (d *Daemon) raced() {
	d.t.Helper()
	if _, report, found := strings.Cut(d.Output(), "WARNING: DATA RACE"); found {
		d.t.Errorf("%s has a data race:%s", d.Name, report[:min(len(report), 4<<10)])
	}
}

// dump shows the end of the log with the failed test and keeps all of it.
func (d *Daemon) dump() {
	out := d.Output()
	d.t.Logf("end of the log of %s (%d bytes):\n%s", d.Name, len(out), tail(out, 60))
	if dir := harness.ArtifactDir(); dir != "" {
		name := strings.ReplaceAll(d.t.Name()+"-"+d.Name, "/", "-") + "-" + filepath.Base(d.Log)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o600); err != nil {
			d.t.Logf("keep log of %s: %v", d.Name, err)
		}
	}
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// KillDaemons ends all daemons of the node with SIGKILL, the latest first.
func (nd *Node) KillDaemons() {
	nd.t.Helper()
	for _, d := range slices.Backward(nd.procs) {
		d.Kill()
	}
}
