package election

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
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

// hangWorker stops the thread of carpd that changes the kernel, until release is called.
func hangWorker(t *testing.T, pid int) (release func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", envHold, workerOf(t, pid)))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("let the thread go on: %v", err)
		}
	})
	t.Cleanup(release)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("hold the thread: %q, %v", line, err)
	}
	return release
}

// envHold names the thread that this binary holds instead of running tests.
const envHold = "ELECTION_HOLD"

// holdThread stops a thread (ptrace(2), PTRACE_INTERRUPT) until its standard input ends.
// It is a process of its own: carpd is a child of the one that tests, whose wait for its
// end would take the stop for itself.
func holdThread(tid string) error {
	id, err := strconv.Atoi(tid)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // requests count from the thread that traces only
	if err := unix.PtraceSeize(id); err != nil {
		return fmt.Errorf("trace thread %d: %w", id, err)
	}
	if err := unix.PtraceInterrupt(id); err != nil {
		return fmt.Errorf("stop thread %d: %w", id, err)
	}
	for {
		if _, err = unix.Wait4(id, nil, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("await thread %d: %w", id, err)
	}
	fmt.Println("held")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return unix.PtraceDetach(id)
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
