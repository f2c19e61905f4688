package privileges

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGiftsStayBelowRunAndVarLib: whatever the configuration says, root does not
// give away a directory elsewhere, nor one that a link leads out of there, nor one
// below a directory that somebody else can change.
func TestGiftsStayBelowRunAndVarLib(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	u := &User{Name: "daemon", UID: 990, GID: 990}
	run, err := os.MkdirTemp("/run", "give")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	elsewhere := t.TempDir()
	roots := filepath.Join(elsewhere, "roots")
	theirs := filepath.Join(run, "theirs")
	if err := errors.Join(os.Mkdir(roots, 0o755), os.Mkdir(theirs, 0o755), os.Chown(theirs, 991, 0),
		os.Symlink(elsewhere, filepath.Join(run, "out")), os.Symlink(run, filepath.Join(elsewhere, "in"))); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path, want string
	}{
		"elsewhere": {filepath.Join(elsewhere, "new"),
			"below /run and /var/lib only; make it yourself: install -d -o daemon -m 0700 " + elsewhere + "/new"},
		"root's elsewhere":                  {roots, "below /run and /var/lib only"},
		"out by a link":                     {filepath.Join(run, "out", "new"), "below /run and /var/lib only"},
		"out by two dots":                   {run + "/../../etc/sasyncd-gift", "below /run and /var/lib only"},
		"units of systemd":                  {"/run/systemd/system/getty@.service.d", "below /run and /var/lib only"},
		"in a directory of somebody else's": {filepath.Join(theirs, "new"), theirs + ": the directory belongs to"},
	} {
		if err := GiveDir(tt.path, 0o700, u, "node-id"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if st, err := os.Lstat(tt.path); tt.path != roots && err == nil {
			t.Errorf("%s: it was made, with mode %v", name, st.Mode())
		}
	}
	if owner(t, roots) != 0 {
		t.Error("a directory elsewhere was given away")
	}
	// A link that leads to /run, as /var/run does, and a directory elsewhere that is
	// the user's already.
	in := filepath.Join(elsewhere, "in", "a", "new")
	if err := GiveDir(in, 0o700, u); err != nil || owner(t, in) != u.UID || owner(t, filepath.Dir(in)) != 0 {
		t.Errorf("by a link into /run: %v", err)
	}
	if err := os.Chown(roots, u.UID, u.GID); err != nil {
		t.Fatal(err)
	}
	if err := GiveDir(roots, 0o700, u); err != nil {
		t.Errorf("the user's own: %v", err)
	}
}
