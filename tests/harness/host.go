package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted/trustedtest"
)

// host is the side that runs on the machine's own kernel: it builds what is
// needed, then either runs natively or starts and watches a guest.
type host struct {
	cfg   *config
	start time.Time
	dir   string // private, removed at the end but for artifacts
	rw    string // the only part of it that a guest may write
	bin   string
	tmp   string // of a native run: where the daemons trust their configuration
}

func newHost(c *config) (*host, error) {
	dir, err := os.MkdirTemp("", "sasyncd-harness-")
	if err != nil {
		return nil, fmt.Errorf("make result directory: %w", err)
	}
	h := &host{cfg: c, start: time.Now(), dir: dir, rw: filepath.Join(dir, "rw"), bin: filepath.Join(dir, "bin")}
	for _, d := range []string{h.bin, h.artifacts(), h.outputs()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			h.close()
			return nil, fmt.Errorf("make result directory: %w", err)
		}
	}
	if err := errors.Join(h.build(), h.buildDefects()); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *host) artifacts() string { return filepath.Join(h.rw, "artifacts") }
func (h *host) outputs() string   { return filepath.Join(h.rw, "out") }

// close removes the result directory; artifacts, if there are any, stay.
func (h *host) close() {
	if left, err := os.ReadDir(h.artifacts()); err == nil && len(left) > 0 {
		if kept, err := os.MkdirTemp("", "sasyncd-artifacts-"); err == nil {
			if err := os.CopyFS(kept, os.DirFS(h.artifacts())); err == nil {
				fmt.Fprintf(os.Stderr, "harness: captures and logs are in %s\n", kept)
			}
		}
	}
	os.RemoveAll(h.dir)
	if h.tmp != "" {
		os.RemoveAll(h.tmp)
	}
}

// guestRaces reports whether what runs in the guest has the race detector: its
// shadow memory does not fit into the address space that user-mode-linux has.
func (h *host) guestRaces() bool { return raceEnabled && h.cfg.kind == kindQEMU }

// setNative prepares this very process to run the tests.
func (h *host) setNative() error {
	f := flagSet{args: os.Args[1:]}
	f.uncache()
	os.Args = append(os.Args[:1:1], f.args...)
	var err error
	if h.tmp, err = trustedtest.Make(); err != nil {
		return err
	}
	return errors.Join(os.Setenv("TMPDIR", h.tmp), os.Setenv(envBin, h.bin), os.Setenv(envKeep, h.artifacts()))
}

// lock waits until no other process of this host uses the harness on a processor that
// this one may use: two guests, or a guest and native drills, would steal each other's
// time and disturb measurements.
func (h *host) lock() (unlock func(), err error) {
	if h.cfg.beside {
		return func() {}, nil
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read which processors may be used: %w", err)
	}
	var files []*os.File
	unlock = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for cpu, left := 0, set.Count(); left > 0; cpu++ {
		if !set.IsSet(cpu) {
			continue
		}
		left--
		// in one order: nobody waits in a circle
		f, err := lockFile(fmt.Sprintf("/tmp/sasyncd-harness.cpu%d.lock", cpu))
		if err != nil {
			unlock()
			return nil, fmt.Errorf("take the lock of the harness: %w", err)
		}
		files = append(files, f)
	}
	return unlock, nil
}

// lockFile waits for the lock of a file of all users, until the file is closed.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, os.ErrPermission) {
		f, err = os.Open(name) // someone else's file; protected_regular refuses O_CREATE
	}
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return f, nil
	}
	fmt.Fprintln(os.Stderr, "harness: waiting for another run on this host")
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// guestBinary is what the guest runs: this binary, or one of the same package
// without the race detector where that does not run.
func (h *host) guestBinary() (string, error) {
	if !raceEnabled || h.guestRaces() {
		return os.Executable()
	}
	bin := filepath.Join(h.dir, "norace")
	args := []string{"build", "-o", bin}
	if isTestBinary() {
		args = []string{"test", "-c", "-o", bin}
		if f := (flagSet{args: os.Args[1:]}); f.value("coverprofile") != "" || f.value("gocoverdir") != "" {
			args = append(args, "-covermode=atomic")
		}
		args = append(args, ".") // "go test" runs us in the package's directory
	} else if bi, ok := debug.ReadBuildInfo(); ok {
		args = append(args, bi.Path)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build without the race detector for the guest: %w\n%s", err, out)
	}
	fmt.Fprintln(os.Stderr, "harness: the guest runs without the race detector")
	return bin, nil
}

func isTestBinary() bool { return strings.HasSuffix(filepath.Base(os.Args[0]), ".test") }

// moduleRoot is the directory of the go.mod above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("find go.mod: none in %s or above", dir)
		}
	}
}
