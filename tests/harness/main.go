package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment of a process inside the harness.
const (
	envGuest = "HARNESS_GUEST" // set in the guest: the mount point of the writable result directory
	envBin   = "HARNESS_BIN"   // directory with the daemons, see [Binary]
	envKeep  = "HARNESS_ARTIFACTS"
	envKind  = "SASYNCD_GUEST" // what the caller wants: empty for whatever has ESP, or kindQEMU
	envWhy   = "HARNESS_KIND"  // set in a guest that was asked for
)

type config struct {
	memory  int64
	timeout time.Duration
	builds  []string
	prepare []func(dir string) error
	defects []defect
	beside  bool
	plain   bool
	kind    string
}

// defect is a program that is built with a mistake in it.
type defect struct{ name, pkg, file, right, wrong string }

// Option changes how [Main] and [BootOrRun] start a guest.
type Option func(*config)

// Memory sets the guest's memory in bytes; the default is 512 MiB. Memory that
// the guest never touches costs the host nothing.
func Memory(bytes int64) Option { return func(c *config) { c.memory = bytes } }

// Timeout limits the run of a program; the default is 10 minutes. For
// tests the limit is the one of "go test -timeout".
func Timeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// Beside lets the run share the host with others, whose measurements it disturbs
// by what it uses: for what takes too long to have others wait, and itself
// measures nothing finer than seconds.
func Beside() Option { return func(c *config) { c.beside = true } }

// Plain says that no ESP is needed, but root: everything runs on this kernel.
func Plain() Option { return func(c *config) { c.plain, c.kind = true, "" } }

// QEMU asks for a guest with Debian's cloud kernel whatever this kernel can do.
func QEMU() Option { return func(c *config) { c.kind = kindQEMU } }

// Build has the named packages of this module (for instance "./cmd/sasyncd")
// built before anything runs. [Binary] says where they are.
func Build(packages ...string) Option {
	return func(c *config) { c.builds = append(c.builds, packages...) }
}

// Prepare has f put further files beside the programs that [Build] built, before
// anything runs. It is called on the host, never in a guest.
func Prepare(f func(dir string) error) Option {
	return func(c *config) { c.prepare = append(c.prepare, f) }
}

// Defect has a package of this module built once more, as the program name, with
// a text of one file of the module replaced by another: a real daemon that has a
// mistake, for what no daemon without one does. The text must stand in the file
// exactly once. [Binary] says where the program is.
func Defect(name, pkg, file, right, wrong string) Option {
	return func(c *config) { c.defects = append(c.defects, defect{name, pkg, file, right, wrong}) }
}

// Main is the body of a TestMain: it runs m on a kernel with ESP and exits.
func Main(m interface{ Run() int }, opts ...Option) {
	os.Exit(BootOrRun(m.Run, opts...))
}

// BootOrRun calls run on a kernel with ESP and returns its result, for use as
// the exit code. It must be called first thing in main: where a guest is needed
// run is called there, in another process of the same binary, and not here.
func BootOrRun(run func() int, opts ...Option) int {
	if code, done := asGuest(); done {
		return code
	}
	if listsOnly(os.Args[1:]) {
		return run()
	}
	c := config{memory: 512 << 20, timeout: 10 * time.Minute, kind: os.Getenv(envKind)}
	for _, o := range opts {
		o(&c)
	}
	code, err := bootOrRun(run, &c)
	if err != nil {
		fmt.Fprintf(os.Stderr, "harness: %v\n", err)
		return 1
	}
	return code
}

// asGuest does this process's part if the guest's kernel started it.
func asGuest() (code int, done bool) {
	if os.Getpid() == 1 && os.Getenv(envSpec) != "" {
		guestInit() // does not return
	}
	if filepath.Base(os.Args[0]) == modprobeName {
		return modprobeMain(os.Args[1:]), true
	}
	return 0, false
}

func bootOrRun(run func() int, c *config) (int, error) {
	if Guest() {
		how := "user-mode-linux, because the host's kernel has no ESP or we are not root there"
		if os.Getenv(envWhy) == kindQEMU {
			how = "Debian's cloud kernel under qemu"
		}
		if raceEnabled {
			how += ", with the race detector"
		}
		announce(how)
		return run(), nil
	}
	if c.kind != "" && c.kind != kindQEMU {
		return 0, fmt.Errorf("read %s: %q is no kind of guest; it is %q, or empty for whatever has ESP", envKind,
			c.kind, kindQEMU)
	}
	h, err := newHost(c)
	if err != nil {
		return 0, err
	}
	defer h.close()
	if c.kind != "" {
		return h.runGuest(nil)
	}
	if !c.plain {
		if err := probeESP(); err != nil {
			return h.runGuest(err)
		}
	}
	unlock, err := h.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if !c.plain {
		if err := warmCiphers(); err != nil {
			return 0, fmt.Errorf("warm up ciphers: %w", err)
		}
	}
	if err := h.setNative(); err != nil {
		return 0, err
	}
	announce("native")
	if !isTestBinary() {
		defer time.AfterFunc(c.timeout, func() {
			fmt.Fprintf(os.Stderr, "harness: not done after %v\n", c.timeout)
			h.close()
			os.Exit(1) // ends the daemons too
		}).Stop()
	}
	return run(), nil
}

// Race reports whether this binary has the race detector, and so what it builds
// should have it too.
func Race() bool { return raceEnabled }

// Guest reports whether this process runs inside the harness's guest.
func Guest() bool { return os.Getenv(envGuest) != "" }

// Binary returns the path of a program that the [Build] option built, by the
// last element of its package path, or of a file that [Prepare] put there.
func Binary(name string) (string, error) {
	dir := os.Getenv(envBin)
	if dir == "" {
		return "", fmt.Errorf("find program %s: nothing was built, pass harness.Build to Main", name)
	}
	p := filepath.Join(dir, name)
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("find program %s: %w", name, err)
	}
	return p, nil
}

// ArtifactDir is a directory for what helps to explain a failure (captures,
// logs). It outlives the guest; if anything is in it at the end the starter
// says where it is.
func ArtifactDir() string { return os.Getenv(envKeep) }

// listsOnly reports whether the test binary is only asked for its test names.
func listsOnly(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(strings.TrimLeft(a, "-"), "test.list=") {
			return true
		}
	}
	return false
}

func announce(how string) {
	fmt.Fprintf(os.Stderr, "harness: kernel Linux %s (%s)\n", kernelRelease(), how)
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
