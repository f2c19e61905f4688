// Package wireguard has the drill of WireGuard gateways on a virtual IP: carpd
// and "carpctl notify" as users run them, and wireguard-go where the kernel has
// no WireGuard. It needs root, /dev/net/tun and nftables, and is not in "make
// test": make drill-shapes.
package wireguard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/harness"
)

// envBinary is where TestMain put the programs.
const envBinary = "WIREGUARD_BIN"

// TestMain runs natively as root. Anybody else needs the guest that package
// harness starts, and there the kernel must know nftables.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || harness.Guest() {
		harness.Main(m, harness.Build("./cmd/carpd", "./cmd/carpctl"))
	}
	dir, err := os.MkdirTemp("", "wireguard")
	for _, p := range []string{"carpd", "carpctl"} {
		if err != nil {
			break
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, p), "sasyncd/cmd/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, e := cmd.CombinedOutput(); e != nil {
			err = fmt.Errorf("build %s: %w\n%s", p, e, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBinary, dir)
	code := trustedtest.Main(m) // the daemons follow no configuration from /tmp
	os.RemoveAll(dir)
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv(envBinary); dir != "" {
		return filepath.Join(dir, name)
	}
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
