package engine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// realtime gives the calling thread real-time priority, or what comes next to
// it. Only single threads get it: a runtime whose threads all had it could
// starve itself. The caller has locked its goroutine to the thread.
func realtime(priority uint32) error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: priority,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
	if err == nil {
		return nil
	}
	if nice := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20); nice != nil {
		return fmt.Errorf("set real-time priority: %w; set nice value: %w", err, nice)
	}
	return fmt.Errorf("set real-time priority: %w", err)
}
