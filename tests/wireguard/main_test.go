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
)

// envBinary is where TestMain put the programs.
const envBinary = "WIREGUARD_BIN"

func TestMain(m *testing.M) {
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
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
