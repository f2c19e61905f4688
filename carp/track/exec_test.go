package track

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hanging is a program that starts another one in the foreground, as scripts do,
// and never ends; the file gets the process id of each it starts.
func hanging(t *testing.T) (script, pids string) {
	t.Helper()
	dir := t.TempDir()
	script, pids = filepath.Join(dir, "probe"), filepath.Join(dir, "pids")
	text := fmt.Sprintf("#!/bin/sh\nsleep 61 &\necho $! >>%s\nwait\n", pids)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, pids
}

// running lists those of the processes in a file that have not ended.
func running(t *testing.T, pids string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(b)) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		_, state, _ := strings.Cut(string(stat), ") ")
		if err == nil && !strings.HasPrefix(state, "Z") { // killed, and not collected yet
			list = append(list, pid)
		}
	}
	return list
}

// A command that is ended, by its timeout or with carpd, ends with all that it has
// started, or each look would leave a process behind.
func TestExecLeavesNothing(t *testing.T) {
	script, pids := hanging(t)
	c := Config{Kind: Exec, Target: script, Timeout: time.Minute}
	// Processes are real, so time is too: the sleep is the pause between two looks.
	await := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	for n := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.run(ctx) }()
		await("the command does not start another", func() bool {
			b, _ := os.ReadFile(pids)
			return strings.Count(string(b), "\n") > n
		})
		cancel()
		if err := <-ended; err == nil {
			t.Fatal("the command is said to have succeeded")
		}
	}
	await("processes that the command had started go on", func() bool { return len(running(t, pids)) == 0 })
	c.Timeout = 100 * time.Millisecond
	if err := c.run(t.Context()); err == nil || !strings.Contains(err.Error(), "did not end within 100ms") {
		t.Errorf("one that takes too long: %v", err)
	}
	await("processes of one that took too long go on", func() bool { return len(running(t, pids)) == 0 })
}
