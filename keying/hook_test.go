package keying

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHookInDirectoryOfOthers: who can put another program in the place of the
// hook does not have it run as root, however often the two change places.
func TestHookInDirectoryOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	const other = 990
	dir := filepath.Join(t.TempDir(), "theirs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	write := func(name, text string, uid int) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	write("good", "exit 0", 0)
	write("bad", "id -u >"+ran, other)
	if err := os.Chown(dir, other, other); err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	hook := filepath.Join(dir, "hook")
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			_ = os.Symlink([]string{"good", "bad"}[i%2], hook+".next")
			_ = os.Rename(hook+".next", hook)
		}
	}()
	defer func() { close(done); <-ended }()
	p := &Local{Hooks: map[string]string{"g": hook}}
	var last error
	for n, end := 0, time.Now().Add(2*time.Second); time.Now().Before(end); n++ {
		last = p.Hook(t.Context(), Order{State: "active", Group: "g"})
		if b, err := os.ReadFile(ran); err == nil {
			t.Fatalf("the program of user %d ran as user %s at order %d", other, strings.TrimSpace(string(b)), n+1)
		}
	}
	if want := fmt.Sprintf("%s: the directory belongs to user %d and has mode 0755", dir, other); last == nil ||
		!strings.Contains(last.Error(), want) ||
		!strings.Contains(last.Error(), "chown root") {
		t.Errorf("the refusal is %v, want %q and how to mend it", last, want)
	}
}
