package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/kernel/trusted/trustedtest"
)

// TestMain has the tests use directories in which programs are trusted.
func TestMain(m *testing.M) { os.Exit(trustedtest.Main(m)) }

// TestNotifyTrustsItsProgram: notify and fence refuse a program that others could
// replace, at their start and at each run.
func TestNotifyTrustsItsProgram(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	dir, ran := filepath.Join(t.TempDir(), "bin"), filepath.Join(t.TempDir(), "ran")
	prog := filepath.Join(dir, "prog")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(prog, []byte("#!/bin/sh\necho \"$3\" >>"+ran+"\n"),
		0o755)); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	n, err := newNotifier("", []string{"ipsec", prog}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.run(t.Context(), notice{state: notifyMaster}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 990, 990); err != nil {
		t.Fatal(err)
	}
	if err := n.run(t.Context(), notice{state: notifyBackup}); err == nil || !strings.Contains(err.Error(),
		dir+": the directory belongs to") {
		t.Errorf("it runs a program in a directory of another user: %v", err)
	}
	if _, err := newNotifier("", []string{"ipsec", prog}, log); !errors.Is(err, errUsage) ||
		!strings.Contains(err.Error(), "chown root "+dir) {
		t.Errorf("it starts with a program in a directory of another user: %v", err)
	}
	if b, err := os.ReadFile(ran); err != nil || string(b) != "MASTER\n" {
		t.Errorf("the program was told %q, %v", b, err)
	}
}
