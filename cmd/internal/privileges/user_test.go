package privileges

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func owner(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

// TestGiveDirTakesNothingFromOthers: a directory that is shared, or that
// somebody else could have put links into, stays as it is.
func TestGiveDirTakesNothingFromOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	u := &User{Name: "daemon", UID: 990, GID: 990}
	base, err := os.MkdirTemp("/run", "give") // where gifts are made
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := func(name string, uid int, mode os.FileMode, files ...string) string {
		t.Helper()
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(path, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(path, uid, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name  string
		path  string
		given bool
	}{
		{"new", filepath.Join(base, "a", "new"), true},
		{"left by root", dir("left", 0, 0o755, "node-id", "control.sock"), true},
		{"empty", dir("empty", 0, 0o755), true},
		{"shared", dir("shared", 0, 0o755, "node-id", "other"), false},
		{"writable by all", dir("sticky", 0, 0o777|os.ModeSticky), false},
		{"writable by a group", dir("group", 0, 0o775), false},
		{"of another user", dir("foreign", 991, 0o755, "node-id"), false},
	} {
		before := 0
		if _, err := os.Lstat(tt.path); err == nil {
			before = owner(t, tt.path)
		}
		if err := GiveDir(tt.path, 0o700, u, "control.sock", "node-id"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := before
		if tt.given {
			want = u.UID
		}
		if got := owner(t, tt.path); got != want {
			t.Errorf("%s: belongs to %d, want %d", tt.name, got, want)
		}
		if f := filepath.Join(tt.path, "node-id"); tt.given {
			if _, err := os.Lstat(f); err == nil && owner(t, f) != u.UID {
				t.Errorf("%s: its file belongs to %d", tt.name, owner(t, f))
			}
		} else if _, err := os.Lstat(f); err == nil && owner(t, f) != 0 {
			t.Errorf("%s: its file belongs to %d", tt.name, owner(t, f))
		}
	}
	// A link instead of a directory is not followed.
	link := filepath.Join(base, "link")
	if err := os.Symlink(dir("target", 0, 0o755), link); err != nil {
		t.Fatal(err)
	}
	if err := GiveDir(link, 0o700, u); err != nil || owner(t, filepath.Join(base, "target")) != 0 {
		t.Errorf("a link: %v, its target belongs to %d", err, owner(t, filepath.Join(base, "target")))
	}
}

func TestFindUser(t *testing.T) {
	if _, err := FindUser("root"); err == nil {
		t.Error("root is taken for a user without rights")
	}
	if u, err := FindUser("no-such-user-here", "nobody"); err != nil || u == nil || u.Name != "nobody" || u.UID == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := FindUser("no-such-user-here"); err != nil || u != nil {
		t.Errorf("%+v, %v", u, err)
	}
}
