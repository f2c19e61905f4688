package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// runGuest runs this binary in a guest; why says why not natively.
func (h *host) runGuest(why error) (int, error) {
	var run func(bin string, limit time.Duration) (console string, err error)
	var name string
	var files hostFiles
	slow := Slow()
	if h.cfg.kind == kindQEMU {
		k, err := h.findQEMU()
		if err != nil {
			return 0, err
		}
		name, run, slow = qemuProgram, k.run, k.slowness()
		files = hostFiles{Kind: "virtiofs", Modules: k.modules()}
	} else {
		uml, err := findUML(why)
		if err != nil {
			return 0, err
		}
		name, files = umlProgram, hostFiles{Kind: "hostfs", Modules: umlModules}
		run = func(bin string, limit time.Duration) (string, error) { return h.runUML(uml, bin, limit) }
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
	s, outs, limit, err := h.newSpec(bin, files, slow)
	if err != nil {
		return 0, err
	}
	console, err := run(bin, limit)
	if err != nil {
		return 0, fmt.Errorf("run %s: %w\n%s", name, err, console)
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
func (h *host) newSpec(bin string, files hostFiles, slow int) (*spec, []output, time.Duration, error) {
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
				return nil, nil, 0,
					fmt.Errorf("start the guest: the time limit of %v passed while another run had its turn", d)
			}
			f.set("timeout", limit.Round(time.Second).String())
			limit += 30 * time.Second // the tests' own time limit names the culprit: let it strike first
		}
	}
	s := &spec{
		Binary: bin, Args: append([]string{os.Args[0]}, f.args...), Dir: cwd,
		RW: h.rw, Visible: visible, Files: files,
	}
	// A Go program's first listener asks for MPTCP, which this kernel lacks: it
	// would look for a module, and that stalls a guest by a tenth of a second.
	godebug := "multipathtcp=0"
	for _, e := range os.Environ() {
		switch k, v, _ := strings.Cut(e, "="); k {
		case "GODEBUG":
			godebug = v + "," + godebug
		case "TMPDIR", "GOTMPDIR", "GOCOVERDIR", envSpec, envSlow:
		default:
			s.Env = append(s.Env, e)
		}
	}
	s.Env = append(s.Env, envSlow+"="+strconv.Itoa(slow))
	if h.cfg.kind != "" {
		s.Env = append(s.Env, envWhy+"="+h.cfg.kind)
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
