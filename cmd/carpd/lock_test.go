package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The program is in memory and locked, and that does not cost much more than
// the program. A process of its own, since a lock cannot be seen to be undone.
func TestLockMemory(t *testing.T) {
	if os.Getenv("LOCK_MEMORY") != "" {
		err := lockMemory()
		b, readErr := os.ReadFile("/proc/self/status")
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		os.Stdout.Write(b)
		return
	}
	if err := unix.Access("/proc/self/maps", unix.R_OK); err != nil || os.Geteuid() != 0 {
		// Without privilege it fails, in words, and carpd goes on.
		if err := lockMemory(); err != nil && !strings.Contains(err.Error(), "lock") {
			t.Errorf("error %q", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockMemory$", "-test.v")
	cmd.Env = append(os.Environ(), "LOCK_MEMORY=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kb := map[string]int{}
	for line := range strings.SplitSeq(string(out), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			n := 0
			for _, c := range f[1] {
				n = n*10 + int(c-'0')
			}
			kb[f[0]] = n
		}
	}
	st, err := os.Stat(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if kb["VmLck:"] == 0 || kb["VmRSS:"] < int(st.Size()>>10)/3 || kb["VmRSS:"] > 100<<10 {
		t.Errorf("locked %d kB, resident %d kB, program of %d kB", kb["VmLck:"], kb["VmRSS:"], st.Size()>>10)
	}
}
