// Package conformance tests package kernel against a real kernel: the one of
// the machine if it has ESP, else user-mode-linux.
package conformance

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness"
)

var update = flag.Bool("update", false, "record the fixtures of package kernel again")

func TestMain(m *testing.M) { harness.Main(m) }

// enterNS puts the calling test into a network namespace of its own. The
// thread, and with it the namespace, ends with the test.
func enterNS(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	run(t, "ip link set lo up")
}

// run executes commands, one per line, in the calling test's namespace.
func run(t testing.TB, lines string) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		out, err := exec.Command("sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// openKernel opens the kernel of the calling test's namespace.
func openKernel(t testing.TB) *xfrm.Kernel {
	t.Helper()
	k, err := xfrm.New(xfrm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// rawDump returns the payloads of a dump as the kernel wrote them.
func rawDump(t testing.TB, get, reply int) [][]byte {
	t.Helper()
	msgs, err := nl.NewNetlinkRequest(get, unix.NLM_F_DUMP).Execute(unix.NETLINK_XFRM, uint16(reply))
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	return msgs
}

func rawSAs(t testing.TB) [][]byte { return rawDump(t, nl.XFRM_MSG_GETSA, nl.XFRM_MSG_NEWSA) }
func rawPolicies(t testing.TB) [][]byte {
	return rawDump(t, nl.XFRM_MSG_GETPOLICY, nl.XFRM_MSG_NEWPOLICY)
}

// mustApply fails the test on the first op that fails.
func mustApply(t testing.TB, k interface {
	Apply(ctx context.Context, ops []sadb.Op) []error
}, ops ...sadb.Op) {
	t.Helper()
	for i, err := range k.Apply(t.Context(), ops) {
		if err != nil {
			t.Fatal(fmt.Errorf("op %d: %w", i, err))
		}
	}
}
