package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// TestMain lets the test binary be sasyncctl itself, for a terminal of its own.
func TestMain(m *testing.M) {
	if args := os.Getenv("SASYNCCTL_ARGS"); args != "" {
		os.Exit(run(strings.Fields(args), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFrameFitsATerminal(t *testing.T) {
	tunnels := func(i uint64) (out []engine.Tunnel) {
		for n := range 9 {
			out = append(out, engine.Tunnel{Group: "carp1", Local: netip.MustParseAddr("203.0.113.1"),
				Remote: netip.MustParseAddr("2001:db8:ffff:ffff::1"), Reqid: uint32(n + 1), PacketsOut: 1000 * i,
				PacketsIn: 500 * i, BytesOut: 2e6 * i, BytesIn: 1e6 * i, Last: at.Add(-time.Second)})
		}
		return out
	}
	before, now := sample{full(), tunnels(1), at}, sample{full(), tunnels(2), at.Add(2 * time.Second)}
	g := &now.Groups[0]
	g.PacketsOut += 20000
	g.Standbys[0].Counters += 800
	now.Counts.RecordsSent = 10
	lines := frame(now, before)
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	text := strings.Join(lines, "\n")
	for _, l := range lines {
		if utf8.RuneCountInString(l) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
		}
	}
	for _, want := range []string{"10.0k", "changes/s 5 sent", "400", "in sync", "1200/5000", "0.03",
		"peer 10.0.0.3 is not connected", "last failover of carp1", "2001:db8:ffff:ffff::1  1      500    250   1.0M         500k", "3s ago"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if text := strings.Join(frame(now, sample{}), "\n"); !strings.Contains(text, "changes/s - sent") {
		t.Errorf("rates out of nothing:\n%s", text)
	}
	// A daemon that was restarted counts from 0.
	if text := strings.Join(frame(before, now), "\n"); strings.Contains(text, "k/s -") {
		t.Errorf("negative rates:\n%s", text)
	}
}

// Where there is no terminal a frame a second is printed, plainly, until the
// daemon goes.
func TestTopWithoutATerminal(t *testing.T) {
	frames := 0
	var mu sync.Mutex
	var socket string
	gone := make(chan struct{})
	verb := says(full())
	inner := verb.Handle
	socket = serve(t, map[string]daemon.Verb{"status": {Handle: func(ctx context.Context, c *daemon.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if frames++; frames > 2 {
			close(gone)
			return fmt.Errorf("the daemon ends")
		}
		return inner(ctx, c)
	}}})
	code, out, errs := ctl(t, socket, "top")
	<-gone
	if n := strings.Count(out, "node 3f2a91c0"); n != 2 || strings.Contains(out, "\x1b") ||
		code != daemon.ExitFailure || !strings.Contains(errs, "the daemon ends") {
		t.Errorf("code %d, %d frames, %q, %q", code, n, errs, out)
	}
}

// pty is a terminal of 80 columns and 24 rows with a program on it.
type pty struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	cmd    *exec.Cmd
	done   chan error
	before unix.Termios // its settings before the program

	mu  sync.Mutex
	out bytes.Buffer
}

func onTerminal(t *testing.T, args string) *pty {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(s.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: m, slave: s, done: make(chan error, 1)}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), "SASYNCCTL_ARGS="+args)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = s, s, s
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.before = p.settings()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := m.Read(b)
			p.mu.Lock()
			p.out.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		s.Close()
		m.Close()
	})
	return p
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// until waits for a condition on what was shown.
func (p *pty) until(what string, cond func(string) bool) {
	p.t.Helper()
	for began := time.Now(); !cond(p.text()); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			p.t.Fatalf("waited in vain for %s; shown was %q", what, p.text())
		}
	}
}

func (p *pty) settings() unix.Termios {
	p.t.Helper()
	tio, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *tio
}

// On a terminal the screen is used, refreshed, and given back as it was, whether
// one leaves with q or Ctrl-C.
func TestTopOnATerminal(t *testing.T) {
	for name, key := range map[string]string{"q": "q", "Ctrl-C": "\x03"} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			var mu sync.Mutex
			status := says(full())
			socket := serve(t, map[string]daemon.Verb{"status": {Handle: func(ctx context.Context,
				c *daemon.Call) error {
				mu.Lock()
				asked++
				mu.Unlock()
				return status.Handle(ctx, c)
			}}})
			p := onTerminal(t, "-s "+socket+" top")
			p.until("two frames", func(s string) bool { return strings.Count(s, "\x1b[H") >= 2 })
			s := p.text()
			if !strings.HasPrefix(s, "\x1b[?1049h\x1b[?25l") || !strings.Contains(s, "q quits") {
				t.Errorf("shown was %q", s)
			}
			for _, f := range strings.Split(s, "\x1b[H")[1:] {
				rows := strings.Split(f, "\r\n")
				if len(rows) > 24 {
					t.Errorf("%d rows", len(rows))
				}
				for _, r := range rows {
					if r = strings.NewReplacer("\x1b[K", "", "\x1b[J", "").Replace(r); utf8.RuneCountInString(r) > 80 {
						t.Errorf("%d columns: %q", utf8.RuneCountInString(r), r)
					}
				}
			}
			if p.settings().Lflag&(unix.ICANON|unix.ECHO) != 0 {
				t.Error("keys are echoed or wait for a line")
			}
			if _, err := p.master.WriteString(key); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-p.done:
				if err != nil {
					t.Errorf("top ended with %v", err)
				}
			case <-time.After(30 * time.Second):
				_ = p.cmd.Process.Kill()
				t.Fatal("top does not end")
			}
			p.until("the old screen", func(s string) bool { return strings.HasSuffix(s, "\x1b[?25h\x1b[?1049l") })
			if after := p.settings(); after.Lflag != p.before.Lflag || after.Cc != p.before.Cc {
				t.Errorf("the terminal is left as %+v, was %+v", after, p.before)
			}
		})
	}
}

// Progress shows by itself where somebody watches.
func TestProgressOnATerminal(t *testing.T) {
	socket := serve(t, map[string]daemon.Verb{"resync": says(
		report.Line[report.Resync]{Step: &report.Step{Group: "carp1", Text: "from 10.0.0.2: 1 of 2"}},
		report.Line[report.Resync]{Result: &report.Resync{}})})
	p := onTerminal(t, "-s "+socket+" resync")
	p.until("progress", func(s string) bool { return strings.Contains(s, "carp1: from 10.0.0.2: 1 of 2") })
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}
