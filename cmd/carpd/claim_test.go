package main

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/cmd/internal/conf"
)

// claimOf tries to take the claim of a configuration, as the daemon or a cleanup does.
func claimOf(t *testing.T, stateDir string, daemon bool) (*claim, error) {
	t.Helper()
	return makeClaim(&conf.Carpd{StateDir: stateDir}, daemon, slog.New(slog.DiscardHandler))
}

// inRuntimeDir replaces the runtime directory.
func inRuntimeDir(t *testing.T) {
	t.Helper()
	before := runtimeDir
	runtimeDir = filepath.Join(t.TempDir(), "run")
	t.Cleanup(func() { runtimeDir = before })
}

func TestClaim(t *testing.T) {
	inRuntimeDir(t)
	state, other := filepath.Join(t.TempDir(), "state"), t.TempDir()
	if c, err := claimOf(t, state, false); err != nil {
		t.Errorf("a cleanup before the first start: %v", err)
	} else {
		c.Close()
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("a cleanup makes the state directory")
	}
	first, err := claimOf(t, state, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{state, other} {
		for _, daemon := range []bool{true, false} {
			if _, err := claimOf(t, dir, daemon); !errors.Is(err, errClaimed) || !strings.Contains(err.Error(),
				"another carpd is running with") &&
				!strings.Contains(err.Error(), "another carpd is running in") {
				t.Errorf("state directory %s, daemon %v, beside a live one: %v", dir, daemon, err)
			}
		}
	}
	// In another network namespace the state directory is what two have in common.
	runtimeDir = filepath.Join(t.TempDir(), "run")
	if _, err := claimOf(t, state, true); !errors.Is(err, errClaimed) || !strings.Contains(err.Error(),
		"with this state directory") {
		t.Errorf("the same state directory elsewhere: %v", err)
	}
	if c, err := claimOf(t, other, true); err != nil {
		t.Errorf("nothing in common: %v", err)
	} else {
		c.Close()
	}
	first.Close()
	c, err := claimOf(t, state, true)
	if err != nil {
		t.Fatalf("after the end of the first: %v", err)
	}
	c.Close()
	// A cleanup keeps a daemon from starting in the middle of it.
	clean, err := claimOf(t, state, false)
	if err != nil {
		t.Fatal(err)
	}
	defer clean.Close()
	if _, err := claimOf(t, state, true); !errors.Is(err, errClaimed) {
		t.Errorf("started beside a cleanup: %v", err)
	}
}

// A state directory on a broken disk is no reason to carry no traffic.
func TestClaimWithoutDirectory(t *testing.T) {
	inRuntimeDir(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := claimOf(t, filepath.Join(file, "state"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := claimOf(t, t.TempDir(), true); !errors.Is(err, errClaimed) {
		t.Errorf("beside a daemon without a state directory: %v", err)
	}
}

// The claim lives on over an execve(2) and ends with a process that is killed,
// whatever that process has started.
func TestClaimOfAProcess(t *testing.T) {
	if state, ok := os.LookupEnv("CLAIM_STATE"); ok {
		claimant(t, state)
	}
	inRuntimeDir(t)
	state := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestClaimOfAProcess$")
	cmd.Env = append(os.Environ(), "CLAIM_STATE="+state, "CLAIM_RUN="+runtimeDir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ready := make([]byte, 64)
	if n, err := out.Read(ready); err != nil || string(ready[:n]) != "claimed\n" {
		t.Fatalf("the process says %q, %v", ready[:n], err)
	}
	if _, err := claimOf(t, state, false); !errors.Is(err, errClaimed) {
		t.Errorf("beside a process that has executed itself: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c, err := claimOf(t, state, true)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	c.Close()
}

// claimant takes the claim, executes itself, starts a process that outlives it for a
// while, and waits to be killed.
func claimant(t *testing.T, state string) {
	runtimeDir = os.Getenv("CLAIM_RUN")
	executed := os.Getenv(claimVariable) != ""
	c, err := claimOf(t, state, true)
	if err != nil {
		t.Fatal(err)
	}
	if !executed {
		env, err := c.pass()
		if err == nil {
			err = syscall.Exec(os.Args[0], os.Args, append(os.Environ(), env))
		}
		t.Fatal(err)
	}
	if slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, claimVariable) }) ||
		len(c.files) != 2 {
		t.Fatalf("%d locks", len(c.files))
	}
	if err := exec.Command("sleep", "5").Start(); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("claimed\n")
	time.Sleep(time.Minute)
}
