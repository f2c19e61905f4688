package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build builds the daemons, static, so that they run in the guest and in any
// namespace; with the race detector they need the C library, which a guest sees.
func (h *host) build() error {
	for _, f := range h.cfg.prepare {
		if err := f(h.bin); err != nil {
			return err
		}
	}
	if len(h.cfg.builds) == 0 {
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	args, cgo := []string{"build", "-trimpath", "-o", h.bin + "/"}, "CGO_ENABLED=0"
	if h.guestRaces() {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	if n := h.patience(); n > 1 {
		overlay, err := h.overlay(root, "patience", longer(n))
		if err != nil {
			return fmt.Errorf("make limits of daemons longer: %w", err)
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, h.cfg.builds...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(h.cfg.builds, " "), err, out)
	}
	return nil
}

// buildDefects builds what [Defect] asks for.
func (h *host) buildDefects() error {
	if len(h.cfg.defects) == 0 {
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	for _, d := range h.cfg.defects {
		overlay, err := h.overlay(root, d.name, []change{{d.file, d.right, d.wrong}})
		if err != nil {
			return fmt.Errorf("plant a defect: %w", err)
		}
		cmd := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", filepath.Join(h.bin, d.name), d.pkg)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", d.name, err, out)
		}
	}
	return nil
}

// change is a text of a file of this module, which stands there exactly once,
// and what is built instead.
type change struct{ file, from, to string }

// overlay writes what go build's -overlay needs for some changes, and returns
// its name.
func (h *host) overlay(root, name string, changes []change) (string, error) {
	texts, replace := map[string]string{}, map[string]string{}
	for _, c := range changes {
		file := filepath.Join(root, c.file)
		text, ok := texts[file]
		if !ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, c.from); n != 1 {
			return "", fmt.Errorf("%q stands %d times in %s, want once", c.from, n, c.file)
		}
		texts[file] = strings.Replace(text, c.from, c.to, 1)
	}
	for file, text := range texts {
		to := filepath.Join(h.dir, fmt.Sprintf("%s.%d.go", name, len(replace)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = to
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(h.dir, name+".json")
	return file, os.WriteFile(file, list, 0o600)
}

// patience is by how much some limits of daemons are longer, as they are for
// processors that are not emulated. How the death of others is noticed stays.
func (h *host) patience() int {
	if h.cfg.kind != kindQEMU {
		return 1
	}
	return (*qemu)(nil).slowness()
}

// longer makes those limits n times as long that one side sets the other, an
// order its execution, and a master its sasyncd, until it is back. With the race
// detector a handshake alone takes seconds of an emulated processor, and several
// gateways share it.
func longer(n int) []change {
	var list []change
	for _, l := range []struct{ file, limit, is string }{
		{"sync/channel/dial.go", "prefaceTimeout = ", "2 * time.Second"},
		{"sync/channel/dial.go", "tlsTimeout     = ", "5 * time.Second"},
		{"sync/channel/conn.go", "helloTimeout = ", "5 * time.Second"},
		{"sync/peer/machine.go", "greetTimeout = ", "2 * time.Second"},
		{"sync/peer/owner.go", "dialTimeout = ", "3 * time.Second"},
		{"carp/client.go", "lostLimit = ", "8 * time.Second"},
		{"sync/replica/limits.go", "ContactGrace = ", "10 * time.Second"},
		{"cmd/sasyncd/operate.go", "failoverLimit = ", "5 * time.Second"},
	} {
		list = append(list, change{l.file, l.limit + l.is, fmt.Sprintf("%s%d * %s", l.limit, n, l.is)})
	}
	return list
}
