package election

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// TestHungWorker: what changes the kernel hangs in the middle of a mastership, while the
// thread that advertises goes on. The other takes over, the addresses of the first go by
// themselves, and when it can work again it is silent.
func TestHungWorker(t *testing.T) {
	_, a, b := run(t)
	release := hangWorker(t, a.d.PID())
	hung := time.Now()
	lab.Eventually(t, leaseEnd, "the hung node's addresses are gone", func() bool { return a.holds() == 0 })
	// A renewal is ordered each second, and its answer is waited for for 3 s.
	b.await(api.StateMaster, time.Second+3*time.Second+takeover-time.Since(hung))
	t.Logf("the other was MASTER after %v", time.Since(hung).Round(time.Millisecond))
	release()
	lab.Eventually(t, patience, "the node is fenced and a backup", func() bool {
		return a.fenced() == 4 && a.holds() == 0 && a.state().State == api.StateBackup
	})
	if b.state().State != api.StateMaster || b.holds() != 4 {
		t.Error("mastership moved on return")
	}
}

// hangWorker stops the thread of carpd that changes the kernel (ptrace(2),
// PTRACE_INTERRUPT), until release is called.
func hangWorker(t *testing.T, pid int) (release func()) {
	t.Helper()
	tid := workerOf(t, pid)
	free, done := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // requests count from the thread that traces only
		if err := unix.PtraceSeize(tid); err != nil {
			done <- fmt.Errorf("trace thread %d: %w", tid, err)
			return
		}
		err := unix.PtraceInterrupt(tid)
		if err == nil {
			_, err = unix.Wait4(tid, nil, unix.WALL, nil)
		}
		done <- err
		<-free
		done <- unix.PtraceDetach(tid)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	released := false
	release = func() {
		if released {
			return
		}
		released = true
		close(free)
		if err := <-done; err != nil {
			t.Errorf("let thread %d go on: %v", tid, err)
		}
	}
	t.Cleanup(release)
	return release
}

// workerOf finds that thread: of those with a real-time priority, the worker has the
// lowest (/proc/PID/task/TID/stat, field 40 of proc_pid_stat(5)).
func workerOf(t *testing.T, pid int) (tid int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	lowest, seen := 0, map[int]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])) // from field 3 on
		var priority, id int
		if _, err := fmt.Sscan(fields[40-3], &priority); err != nil || priority == 0 {
			continue
		}
		if _, err := fmt.Sscan(filepath.Base(filepath.Dir(f)), &id); err != nil {
			t.Fatal(err)
		}
		seen[id] = priority
		if lowest == 0 || priority < lowest {
			lowest, tid = priority, id
		}
	}
	if len(seen) < 2 {
		t.Fatalf("threads with a real-time priority: %v, want the engine's and the worker's", seen)
	}
	return tid
}
