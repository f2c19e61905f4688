package track

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExecTrustsItsCommand: a command that others could replace is not run, and
// the demotion says why.
func TestExecTrustsItsCommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only; continuous integration is root")
	}
	dir, ran := filepath.Join(t.TempDir(), "bin"), filepath.Join(t.TempDir(), "ran")
	command := filepath.Join(dir, "command")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(command, []byte("#!/bin/sh\ntouch "+ran+"\n"),
		0o755)); err != nil {
		t.Fatal(err)
	}
	c := &Config{Kind: Exec, Target: command, Timeout: 10 * time.Second}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"directory of another user":      func() error { return os.Chown(dir, 990, 0) },
		"directory that all write to":    func() error { return os.Chmod(dir, 0o777|os.ModeSticky) },
		"command of another user":        func() error { return os.Chown(command, 990, 0) },
		"command that its group changes": func() error { return os.Chmod(command, 0o775) },
	} {
		if err := errors.Join(os.RemoveAll(ran), os.Chown(dir, 0, 0), os.Chmod(dir, 0o755), os.Chown(command, 0, 0),
			os.Chmod(command, 0o755), spoil()); err != nil {
			t.Fatal(err)
		}
		if err := c.run(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: the command ran", name)
		}
	}
}
