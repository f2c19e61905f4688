package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const (
	umlProgram = "linux.uml"
	umlPackage = "user-mode-linux"
)

// findUML returns the kernel's program; why says what the native kernel lacks.
func findUML(why error) (string, error) {
	uml, err := exec.LookPath(umlProgram)
	if err != nil {
		return "", fmt.Errorf("this kernel cannot run ESP for us (%w), and %s is not installed: install Debian's "+
			"package %s (apt-get install %s, or make deps)",
			why, umlProgram, umlPackage, umlPackage)
	}
	return uml, nil
}

// runUML boots user-mode-linux, copies its output, and returns when all of it has
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
	cmd := exec.Command(uml, append(umlArgs(umlDir, h.cfg.memory), "init="+init, envSpec+"="+
		filepath.Join(h.dir, "spec.json"))...)
	env, err := h.umlEnv()
	if err != nil {
		return "", err
	}
	cmd.Env = append(os.Environ(), env...)
	return watch(cmd, limit, startPinned)
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
