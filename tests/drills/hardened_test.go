package drills

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// requireLittle checks what daemons that root has started, without a service
// manager, have left to themselves.
func requireLittle(t *testing.T, m *scenario.Member) {
	t.Helper()
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	restricted := "files are restricted"
	switch {
	case errno != 0:
		restricted = "files are not restricted"
		t.Logf("this kernel has no landlock (%v); package privileges shows what it does where there is", errno)
	case harness.Race():
		restricted = "files are not restricted" // the race detector needs cgo, whose threads cannot be reached
	}
	for _, d := range []struct {
		*lab.Daemon
		caps string
	}{
		{m.Sasyncd, "0000000000001400"}, // NET_ADMIN, NET_BIND_SERVICE
		{m.Carpd, "0000000000807000"},   // NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE
	} {
		read := func(name string) string {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", d.PID(), name))
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(strings.Fields(string(b)), " ")
		}
		status := read("status")
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
			if !strings.Contains(status, set+": "+d.caps) {
				t.Errorf("%s has not %s %s: %s", d.Name, set, d.caps, status)
			}
		}
		if !strings.Contains(read("limits"), "Max core file size 0 0 ") {
			t.Errorf("%s may leave a core dump", d.Name)
		}
		d.WaitLog(restricted, limit)
	}
}
