package harness

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guestNice is a high priority, for those who may: what else runs on a busy
// machine must not make gateways look dead.
const guestNice = -15

// startPinned starts cmd on one processor, the idlest now. A guest has one
// processor anyway and makes each system call by two switches between its host
// processes; between processors those take several times as long.
func startPinned(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("read processor affinity: %w", err)
	}
	var one unix.CPUSet
	one.Set(idlest(&all))
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("set processor affinity: %w", err)
	}
	// The child inherits this thread's affinity.
	defer unix.SchedSetaffinity(0, &all)
	if err := cmd.Start(); err != nil {
		return err
	}
	prioritise(cmd.Process.Pid)
	return nil
}

// prioritise gives a new session its priority, as far as we may: only root may.
// A process's own counts within its autogroup (sched(7)) only, which is its
// session; between sessions it is the autogroup's that counts.
func prioritise(pid int) {
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, guestNice)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(guestNice)), 0)
}

// idlest returns the allowed processor with the most idle time over a moment.
func idlest(allowed *unix.CPUSet) int {
	before := idleTimes()
	time.Sleep(100 * time.Millisecond)
	after := idleTimes()
	best, most := -1, int64(-1)
	for cpu := range 1024 {
		if !allowed.IsSet(cpu) {
			continue
		}
		if idle := after[cpu] - before[cpu]; best < 0 || idle > most {
			best, most = cpu, idle
		}
	}
	return best
}

// idleTimes reads the idle ticks of each processor from /proc/stat.
func idleTimes() map[int]int64 {
	idle := map[int]int64{}
	f, err := os.Open("/proc/stat")
	if err != nil {
		return idle // then all look alike
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		cpu, err := strconv.Atoi(fields[0][len("cpu"):])
		if err != nil {
			continue
		}
		idle[cpu], _ = strconv.ParseInt(fields[4], 10, 64)
	}
	return idle
}
