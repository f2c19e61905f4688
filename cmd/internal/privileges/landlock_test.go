package privileges

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What each version of landlock knows is taken away, and nothing that it does
// not know is named, which it would refuse.
func TestRightsByVersion(t *testing.T) {
	for _, tt := range []struct {
		version          int
		handled, dir, rw uint64
	}{
		{1, 0x1fff, 0xc, 0xc | 0x2 | 0x100 | 0x200 | 0x400 | 0x80 | 0x20 | 0x10},
		{2, 0x3fff, 0xc, 0xc | 0x2 | 0x100 | 0x200 | 0x400 | 0x80 | 0x20 | 0x10},
		{3, 0x7fff, 0xc, 0x4000 | 0xc | 0x2 | 0x100 | 0x200 | 0x400 | 0x80 | 0x20 | 0x10},
		{4, 0x7fff, 0xc, 0x4000 | 0xc | 0x2 | 0x100 | 0x200 | 0x400 | 0x80 | 0x20 | 0x10},
		{7, 0xffff, 0xc, 0x4000 | 0xc | 0x2 | 0x100 | 0x200 | 0x400 | 0x80 | 0x20 | 0x10},
	} {
		if got := handled(tt.version); got != tt.handled {
			t.Errorf("version %d takes %#x away, want %#x", tt.version, got, tt.handled)
		}
		if got := allowed(Read, true, tt.version); got != tt.dir {
			t.Errorf("version %d lets read %#x, want %#x", tt.version, got, tt.dir)
		}
		if got := allowed(Change, true, tt.version); got != tt.rw {
			t.Errorf("version %d lets change %#x, want %#x", tt.version, got, tt.rw)
		}
		for _, a := range []Access{Read, Change} {
			if extra := allowed(a, false, tt.version) &^ fileRights; extra != 0 {
				t.Errorf("version %d: a rule of a file has %#x, which is for directories", tt.version, extra)
			}
			if allowed(a, true,
				tt.version)&(unix.LANDLOCK_ACCESS_FS_EXECUTE|unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK|unix.LANDLOCK_ACCESS_FS_MAKE_CHAR) != 0 {
				t.Error("a rule lets execute, or make devices")
			}
		}
	}
}

// A path that is not there yet is allowed through what will hold it; twice the
// same is once with more; what only some systems have is left out.
func TestMergedPaths(t *testing.T) {
	there := func(path string) bool {
		return map[string]bool{"/": true, "/run": true, "/etc": true, "/var/lib/sasyncd": true}[path]
	}
	got := merged([]Path{{"/etc", Read}, {"/run/sasyncd", Change}, {"/etc/", Change}, {"/var/lib/sasyncd", Change},
		{"/run/systemd/resolve", Read}, {"/run/x/y", Read}}, there)
	want := []Path{{"/etc", Change}, {"/run", Change}, {"/var/lib/sasyncd", Change}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want - got +\n%s", d)
	}
}

// Editors replace files, so the directory is what counts; a link leads to two.
func TestReadsFollowLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"etc", "real"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/real/conf", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/real/conf", dir+"/etc/conf"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Path{{dir + "/etc", Read}, {dir + "/real", Read}}, Reads(dir+"/etc/conf")); d != "" {
		t.Errorf("a link: want - got +\n%s", d)
	}
	if d := cmp.Diff([]Path{{dir + "/real", Read}}, Reads(dir+"/real/conf")); d != "" {
		t.Errorf("a file: want - got +\n%s", d)
	}
}

// TestRestricted runs a program that restricts itself. Where the kernel has no
// landlock it must go on as before, and say so.
func TestRestricted(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "restricted")
	build := exec.Command("go", "build", "-o", bin, "./testdata/restricted")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	for _, d := range []string{"etc", "state", "secret"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"etc/conf", "secret/file"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(bin, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		t.Logf("this kernel has no landlock (%v): only shown here that a program goes on without", errno)
		if !strings.HasPrefix(string(out), "unrestricted: ") {
			t.Errorf("it says\n%s", out)
		}
		return
	}
	want := map[string]string{
		"read etc": "done", "replace in etc": "refused", "write etc": "refused", "write state": "done",
		"rename in state": "done",
		"remove in state": "done", "read secret": "refused", "list secret": "refused", "read what was open": "done",
		"execute": "refused",
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(out)) {
		_, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		name, result, _ := strings.Cut(rest, ": ")
		seen[name]++
		if want[name] != result {
			t.Errorf("%s, want it %s", strings.TrimSpace(line), want[name])
		}
	}
	if len(seen) != len(want) || seen["read secret"] != 4 {
		t.Errorf("not everything was tried:\n%s", out)
	}
}
