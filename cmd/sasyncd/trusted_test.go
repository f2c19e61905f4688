package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/kernel/trusted"
)

// other is a user who is neither root nor the one who runs the tests.
const other = 990

func put(t *testing.T, path, text string, uid int, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chown(path, uid, 0),
		os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func theirs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	dir := filepath.Join(t.TempDir(), "theirs")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, other, 0)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPrivilegedProcessOpensRootsFilesOnly: a key file in a directory of the
// daemon's user leads nowhere, whatever its owner puts there, and however fast.
func TestPrivilegedProcessOpensRootsFilesOnly(t *testing.T) {
	dir := theirs(t)
	const secret = "root's own"
	hidden := put(t, filepath.Join(t.TempDir(), "hidden"), secret, 0, 0o600)
	key := put(t, filepath.Join(dir, "key"), "key", other, 0o600)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if i%2 == 0 {
				_ = os.Symlink(hidden, key+".next")
			} else {
				_ = os.WriteFile(key+".next", []byte("key"), 0o600)
			}
			_ = os.Rename(key+".next", key)
		}
	}()
	defer func() { close(done); <-ended }()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		f, err := source{}.Open(key)
		if err == nil {
			b, _ := io.ReadAll(f)
			f.Close()
			t.Fatalf("a descriptor of %q is given away", b)
		}
		if e, ok := errors.AsType[*trusted.Error](err); !ok || e.At != dir || !strings.Contains(e.Remedy,
			"chown root") {
			t.Fatalf("the refusal is %v", err)
		}
	}
}

// TestRootFollowsRootsConfigurationOnly: neither the process that root starts nor
// the privileged one takes orders of the daemon's user, nor is the operator told to
// give the file to that user. A key may be that user's.
func TestRootFollowsRootsConfigurationOnly(t *testing.T) {
	dir := filepath.Dir(theirs(t))
	key := put(t, filepath.Join(dir, "key"), "0x"+strings.Repeat("4c1f", 16)+"\n", other, 0o600)
	text := "interface carp1\npeer 10.0.0.2\nsharedkey file \"" + key + "\"\n"
	r := conf.Reader{Named: trusted.Rule{Files: []int{other}}} // as findPrivilegedLink makes it
	if _, err := r.LoadSasyncd(put(t, filepath.Join(dir, "roots.conf"), text, 0, 0o600)); err != nil {
		t.Errorf("root's configuration with a key of the daemon's: %v", err)
	}
	path := put(t, filepath.Join(dir, "theirs.conf"), text, other, 0o600)
	_, err := r.LoadSasyncd(path)
	_, rerr := source{path}.Rules()
	for who, err := range map[string]error{"sasyncd of root's": err, "the privileged process": rerr} {
		if err == nil || !strings.Contains(err.Error(), "chown root "+path) || strings.Contains(err.Error(),
			"the user that runs the daemon") {
			t.Errorf("%s says %v", who, err)
		}
	}
}

// TestCheckTellsOfUntrustedPrograms: sasyncd -n does not accept a program that will
// not be run.
func TestCheckTellsOfUntrustedPrograms(t *testing.T) {
	dir := theirs(t)
	hook := put(t, filepath.Join(dir, "hook"), "#!/bin/sh\n", 0, 0o755)
	path := put(t, filepath.Join(filepath.Dir(dir), "sasyncd.conf"),
		"interface carp1\npeer 10.0.0.2\nsharedkey 0x"+strings.Repeat("4c1f", 16)+"\ncontrol exec \""+hook+"\"\n", 0,
		0o600)
	var out bytes.Buffer
	if code := run([]string{"-nc", path}, io.Discard, &out); code != daemon.ExitConfig ||
		!strings.Contains(out.String(), dir+": the directory belongs to") ||
		!strings.Contains(out.String(), path+":4:") {
		t.Errorf("exit code %d, it says %s", code, &out)
	}
}
