package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/tests/harness"
)

// These tests look at the harness from outside, on the machine's own kernel, so
// TestMain does not use it.

func build(t *testing.T) string {
	t.Helper()
	if harness.Guest() {
		t.Fatal("inside a guest")
	}
	bin := filepath.Join(t.TempDir(), "testprog")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func runProgram(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func TestExitCodeAndStreams(t *testing.T) {
	stdout, stderr, code := runProgram(t, exec.Command(build(t), "exit"))
	if code != 7 || stdout != "started\n" || !strings.Contains(stderr, "to stderr\n") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if strings.Count(stderr, "harness: kernel Linux ") != 1 {
		t.Errorf("no line about the kernel, or several: %q", stderr)
	}
}

func TestMuchOutputArrivesComplete(t *testing.T) {
	stdout, _, code := runProgram(t, exec.Command(build(t), "flood"))
	if want := "started\n" + strings.Repeat("0123456789abcde\n", 50_000); code != 0 || stdout != want {
		t.Errorf("exit code %d, %d bytes of output, want %d", code, len(stdout), len(want))
	}
}

func TestPanicIsAFailure(t *testing.T) {
	_, stderr, code := runProgram(t, exec.Command(build(t), "panic"))
	if code != 2 || !strings.Contains(stderr, "on purpose") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

func TestTimeLimit(t *testing.T) {
	_, stderr, code := runProgram(t, exec.Command(build(t), "overrun"))
	if code != 1 || !strings.Contains(stderr, "not done after 4s") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestArtifactsAreKept(t *testing.T) {
	_, stderr, code := runProgram(t, exec.Command(build(t), "keep"))
	_, dir, ok := strings.Cut(stderr, "captures and logs are in ")
	if code != 0 || !ok {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	dir = strings.TrimSpace(dir)
	b, err := os.ReadFile(filepath.Join(dir, "kept"))
	if err != nil || string(b) != "artifact" {
		t.Errorf("artifact holds %q, %v", b, err)
	}
	os.RemoveAll(dir)
}

func TestNeitherESPNorGuestIsAFailure(t *testing.T) {
	bin := build(t)
	cmd := exec.Command(bin, "exit")
	cmd.Env = append(os.Environ(), "PATH="+t.TempDir())
	_, stderr, code := runProgram(t, cmd)
	switch {
	case strings.Contains(stderr, "(native)"):
		if code != 7 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	case code != 1 || !strings.Contains(stderr, "package user-mode-linux"):
		t.Errorf("exit code %d, and no word about what to install: %s", code, stderr)
	}
}

// TestEndOfStarterEndsGuest kills the starter in ways that it can and cannot
// notice, and looks for processes left behind.
func TestEndOfStarterEndsGuest(t *testing.T) {
	bin := build(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		tmp := t.TempDir()
		cmd := exec.Command(bin, "hang")
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp) // shows in the guest's command line
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n') // live, while it runs
		if err != nil || line != "started\n" {
			t.Fatalf("first line %q, %v", line, err)
		}
		cmd.Process.Signal(sig)
		if cmd.Wait() == nil {
			t.Errorf("%v: the starter ended well", sig)
		}
		deadline := time.Now().Add(5 * time.Second)
		for left := processes(t, tmp); len(left) > 0; left = processes(t, tmp) {
			if time.Now().After(deadline) {
				t.Fatalf("%v left processes behind: %v", sig, left)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// processes lists those that are not zombies and have text in their command line.
func processes(t *testing.T, text string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, "cmdline")) // of a zombie it is empty
		if err == nil && bytes.Contains(b, []byte(text)) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			pids = append(pids, pid)
		}
	}
	return pids
}
