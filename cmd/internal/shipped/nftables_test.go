package shipped

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRuleset has nft(8) check the firewall that is shipped, in a network
// namespace of its own.
func TestRuleset(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(deploy, "nftables", "sasyncd.nft"))
	if err != nil {
		t.Fatal(err)
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		nft = "/usr/sbin/nft" // not in everybody's path
	}
	ask := func(args ...string) error {
		cmd := exec.Command(nft, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{Size: 1, HostID: syscall.Getuid()}},
			GidMappings: []syscall.SysProcIDMap{{Size: 1, HostID: syscall.Getgid()}},
		}
		if syscall.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := ask("-c", "add table inet probe"); err != nil {
		t.Skipf("this kernel cannot check a firewall for us: run the tests as root (make drill-qemu loads it too): %v",
			err)
	}
	if err := ask("-c", "-f", rules); err != nil {
		t.Error(err)
	}
}
