package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
)

// clockTick is USER_HZ, which is 100 on all architectures that matter.
const clockTick = 10 * time.Millisecond

// readCPU reads utime and stime of /proc/PID/stat (proc(5), fields 14 and 15).
func readCPU(pid int) (user, system time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name in parentheses may hold blanks.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("%d fields behind the name", len(fields))
	}
	u, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, 0, err
	}
	s, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(u) * clockTick, time.Duration(s) * clockTick, err
}

func median(d []time.Duration) time.Duration { return quantile(d, 0.5) }

// quantile returns the value below which the given share lies, 0 of nothing.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// cpu returns what a process has used of the processor.
func cpu(t lab.T, pid int) (user, total time.Duration) {
	t.Helper()
	u, s, err := readCPU(pid)
	if err != nil {
		t.Fatalf("read the processor time of %d: %v", pid, err)
	}
	return u, u + s
}

// threadCPU returns what f uses of the processor. Where the kernel accounts for
// that in ticks, as user-mode-linux does, it is the time that passes.
func threadCPU(t lab.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			t.Fatalf("read the processor time: %v", err)
		}
		return time.Duration(ts.Nano())
	}
	wall, began := time.Now(), now()
	f()
	used, passed := now()-began, time.Since(wall)
	if used%clockTick == 0 {
		return passed
	}
	return used
}
