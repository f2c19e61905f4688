// Package managers has the programs that manage a machine's network and its packet
// filter (systemd-networkd, NetworkManager, ifupdown, netplan, firewalld,
// nftables.service) act on a live MASTER: a machine of Debian 13 on which systemd is
// PID 1. They need root and a root directory of Debian 13, so they have a target of
// their own: make drill-managers. No ESP is needed: they run on this kernel.
package managers

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/scenario"
)

var rootDir = flag.String("root", "../../dist/managers/root", "root directory of Debian 13, see the program root")

func TestMain(m *testing.M) {
	harness.Main(m, append(scenario.Options(), harness.Plain(), harness.Beside(), harness.Prepare(buildPackage))...)
}

// limit of what is waited for: that it happens at all.
const limit = 60 * time.Second

// packageFile is what [buildPackage] leaves beside the programs.
const packageFile = "sasyncd.deb"

// buildPackage builds the package from these sources.
func buildPackage(dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "sasyncd-managers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out, err := exec.Command(filepath.Join(root, "deploy/packages/build"), runtime.GOARCH, tmp, "deb").Output()
	if err != nil {
		return fmt.Errorf("build the package: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if out, err := exec.Command("cp", lines[len(lines)-1], filepath.Join(dir, packageFile)).CombinedOutput(); err != nil {
		return fmt.Errorf("keep the package: %w\n%s", err, out)
	}
	return nil
}

// debian13 returns the root directory of Debian 13.
func debian13(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(*rootDir)
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "usr/lib/systemd/systemd"))
	}
	if err != nil {
		t.Fatalf("a root directory of Debian 13 is needed, which make drill-managers makes: %v", err)
	}
	return dir
}
