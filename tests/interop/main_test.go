// Package interop tests carpd against other people's election daemons, the real
// programs, in network namespaces. It needs root and those programs, but no ESP.
package interop

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// envBin is where TestMain put carpd and carpctl.
const envBin = "INTEROP_BIN"

// TestMain runs natively as root. Anybody else needs the guest that package
// harness starts.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || harness.Guest() {
		harness.Main(m, harness.Build("./cmd/carpd", "./cmd/carpctl"))
	}
	dir, err := os.MkdirTemp("", "interop")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBin, dir)
	// They wait for timers, hardly for processors.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := trustedtest.Main(m) // the daemons follow no configuration from /tmp
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) error {
	for _, p := range []string{"carpd", "carpctl"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, p), "sasyncd/cmd/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", p, err, out)
		}
	}
	return nil
}

func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv(envBin); dir != "" {
		return filepath.Join(dir, name)
	}
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// foreign is the path of somebody else's program. One that is missing fails the
// test: what was not tried does not interoperate.
func foreign(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/lib/frr") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p
		}
	}
	t.Fatalf("%s is not installed", name)
	return ""
}

// host is a machine on the one network of a test.
type host struct {
	*lab.Node
	t    *testing.T
	port *lab.Port
	d    *lab.Daemon
}

// two makes a switch with two hosts, eth0 of which are 10.66.0.1 and .2 and
// fd66::1 and ::2.
func two(t *testing.T) (a, b *host) {
	t.Helper()
	net := lab.New(t)
	sw := net.Switch("lan")
	var hosts [2]*host
	for i := range hosts {
		nd := net.Node(fmt.Sprintf("h%d", i+1))
		hosts[i] = &host{Node: nd, t: t, port: nd.Plug(sw, "eth0", fmt.Sprintf("10.66.0.%d/24", i+1),
			fmt.Sprintf("fd66::%d/64", i+1))}
	}
	return hosts[0], hosts[1]
}

func (h *host) socket() string { return filepath.Join(h.Dir(), "carpd.sock") }

// patience is for what takes a moment.
const patience = 10 * time.Second

// carpd runs carpd with the given blocks.
func (h *host) carpd(blocks string) {
	h.t.Helper()
	file := h.WriteFile("carpd.conf", fmt.Sprintf("%s\nsocket %q\nstatedir %q\n", blocks, h.socket(),
		filepath.Join(h.Dir(), "state")))
	h.d = h.Exec("carpd", exec.Command(program(h.t, "carpd"), "-d", "-v", "-v", "-c", file))
}

// state asks carpd, and waits until it answers.
func (h *host) state() (s *api.GroupState) {
	h.t.Helper()
	var err error
	defer func() {
		if s == nil {
			h.t.Logf("%s: carpd does not tell its state: %v", h.Name, err)
		}
	}()
	lab.Eventually(h.t, patience, h.Name+" answers", func() bool {
		s, err = ask.Group(h.socket(), patience)
		return err == nil
	})
	return s
}

// await waits until carpd is in a state, and returns how long that took.
func (h *host) await(want string, limit time.Duration) time.Duration {
	h.t.Helper()
	return lab.Eventually(h.t, limit, h.Name+" is "+want, func() bool {
		s, err := ask.Group(h.socket(), patience)
		return err == nil && s.State == want
	})
}

// stays fails unless carpd is in a state for that long.
func (h *host) stays(want string, long time.Duration) {
	h.t.Helper()
	end := time.Now().Add(long)
	lab.Eventually(h.t, long+time.Second, h.Name+" stays "+want, func() bool {
		if s := h.state(); s.State != want {
			h.t.Fatalf("%s is not %s any more: %+v", h.Name, want, s)
		}
		return time.Now().After(end)
	})
}

// ctl runs carpctl.
func (h *host) ctl(args ...string) {
	h.t.Helper()
	out, err := exec.Command(program(h.t, "carpctl"), append([]string{"-s", h.socket()}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("carpctl %v: %v\n%s", args, err, out)
	}
}

// holds reports whether the host has an address.
func (h *host) holds(a netip.Addr) bool { return h.Has(a) }
