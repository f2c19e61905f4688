package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	umlProgram = "linux.uml"
	umlPackage = "user-mode-linux"
)

// runGuest runs this binary in user-mode-linux; why says what the native
// kernel lacks.
func (h *host) runGuest(why error) (int, error) {
	uml, err := exec.LookPath(umlProgram)
	if err != nil {
		return 0, fmt.Errorf("this kernel cannot run ESP for us (%w), and %s is not installed: install Debian's package %s (apt-get install %s, or make deps)",
			why, umlProgram, umlPackage, umlPackage)
	}
	bin, err := h.guestBinary()
	if err != nil {
		return 0, err
	}
	unlock, err := h.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	s, outs, limit, err := h.newSpec(bin)
	if err != nil {
		return 0, err
	}
	console, err := h.runUML(uml, bin, limit)
	if err != nil {
		return 0, fmt.Errorf("run %s: %w\n%s", umlProgram, err, console)
	}
	b, err := os.ReadFile(filepath.Join(h.rw, exitFile))
	if err != nil {
		return 0, fmt.Errorf("the guest ended without a result; its console said:\n%s", console)
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read the guest's result: %w", err)
	}
	outs = append(outs, s.coverOutput(h)...)
	return code, collect(outs)
}

// newSpec writes down for the guest's init what to run, and says how long it may take.
func (h *host) newSpec(bin string) (*spec, []output, time.Duration, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("find working directory: %w", err)
	}
	visible := []string{filepath.Dir(bin), h.bin, cwd}
	if root, err := moduleRoot(); err == nil {
		visible = append(visible, root)
	}
	f := flagSet{args: append([]string(nil), os.Args[1:]...)}
	f.uncache()
	outs, err := f.redirectOutputs(h.outputs(), filepath.Join(guestRW, "out"))
	if err != nil {
		return nil, nil, 0, err
	}
	limit := h.cfg.timeout
	if isTestBinary() {
		limit = time.Hour
		if d, ok := f.limit(); ok {
			// Counted from our own start, as "go test" counts it: it must not
			// lose patience first because we waited for the lock.
			limit = d - time.Since(h.start)
			if limit <= 0 {
				return nil, nil, 0, fmt.Errorf("start the guest: the time limit of %v passed while another run had its turn", d)
			}
			f.set("timeout", limit.Round(time.Second).String())
			limit += 30 * time.Second // the tests' own time limit names the culprit: let it strike first
		}
	}
	s := &spec{
		Binary: bin, Args: append([]string{os.Args[0]}, f.args...), Dir: cwd,
		RW: h.rw, Visible: visible,
	}
	// A Go program's first listener asks for MPTCP, which this kernel lacks: it
	// would look for a module, and that stalls a guest by a tenth of a second.
	godebug := "multipathtcp=0"
	for _, e := range os.Environ() {
		switch k, v, _ := strings.Cut(e, "="); k {
		case "GODEBUG":
			godebug = v + "," + godebug
		case "TMPDIR", "GOTMPDIR", "GOCOVERDIR", envSpec:
		default:
			s.Env = append(s.Env, e)
		}
	}
	s.Env = append(s.Env, "GODEBUG="+godebug, envGuest+"="+guestRW, envBin+"="+h.bin,
		envKeep+"="+filepath.Join(guestRW, "artifacts"))
	if os.Getenv("GOCOVERDIR") != "" {
		s.Env = append(s.Env, "GOCOVERDIR="+filepath.Join(guestRW, "cover"))
		if err := os.MkdirAll(filepath.Join(h.rw, "cover"), 0o755); err != nil {
			return nil, nil, 0, fmt.Errorf("make coverage directory: %w", err)
		}
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(filepath.Join(h.dir, "spec.json"), b, 0o600)
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("write the guest's orders: %w", err)
	}
	return s, outs, limit, nil
}

func (s *spec) coverOutput(h *host) []output {
	dir := os.Getenv("GOCOVERDIR")
	if dir == "" {
		return nil
	}
	return []output{{guest: filepath.Join(h.rw, "cover"), want: dir, isDir: true}}
}

// runUML boots the guest, copies its output, and returns when all of it has
// ended. The guest's end of the lifeline pipe shows it when we die.
func (h *host) runUML(uml, bin string, limit time.Duration) (console string, err error) {
	init := filepath.Join(h.dir, "init")
	if err := os.Symlink(bin, init); err != nil {
		return "", fmt.Errorf("link the guest's init: %w", err)
	}
	umlDir := filepath.Join(h.dir, "uml")
	if err := os.Mkdir(umlDir, 0o700); err != nil {
		return "", fmt.Errorf("make the guest's directory: %w", err)
	}
	cmd := exec.Command(uml, append(umlArgs(umlDir, h.cfg.memory), "init="+init, envSpec+"="+filepath.Join(h.dir, "spec.json"))...)
	env, err := h.umlEnv()
	if err != nil {
		return "", err
	}
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var log ring
	cmd.Stdout, cmd.Stderr = &log, &log
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	defer lifeline.Close()
	var copies sync.WaitGroup
	for _, to := range []*os.File{os.Stdout, os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return "", err
		}
		defer w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		copies.Go(func() {
			defer r.Close()
			io.Copy(to, r)
		})
	}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(sigs)
	if err := startPinned(cmd); err != nil {
		return "", err
	}
	for _, w := range cmd.ExtraFiles {
		w.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var ending error
	select {
	case <-ended: // power-off and panic end it alike; the result file tells them apart
	case s := <-sigs:
		ending = fmt.Errorf("stopped by %v", s)
	case <-timer.C:
		ending = fmt.Errorf("not done after %v, killed", limit.Round(time.Second))
	}
	// Helper processes outlive the main one, so the group goes in any case.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		ending = errors.Join(ending, fmt.Errorf("kill the guest: %w", err))
	}
	if ending != nil {
		<-ended
	}
	copies.Wait()
	return log.String(), ending
}

// umlArgs are a guest's kernel arguments: standard output is its console, lines 0
// and 1 are what the tests print, line 2 ends when the host does.
func umlArgs(umlDir string, memory int64) []string {
	return []string{
		"mem=" + strconv.FormatInt(memory>>20, 10) + "M",
		"uml_dir=" + umlDir, "umid=harness",
		"root=none", "rootfstype=hostfs", "ro",
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3", "ssl1=null,fd:4", "ssl2=fd:0,null",
		"panic=-1", "noreboot",
	}
}

// ring keeps the end of what is written to it.
type ring struct {
	mu sync.Mutex
	b  []byte
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b = append(r.b, p...)
	if n := len(r.b) - 3<<10; n > 0 {
		r.b = append([]byte(nil), r.b[n:]...)
	}
	return len(p), nil
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(bytes.ReplaceAll(r.b, []byte("\r\n"), []byte("\n")))
}
