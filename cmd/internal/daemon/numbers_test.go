package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNumbersSurvive(t *testing.T) {
	dir := t.TempDir()
	n := OpenNumbers(dir)
	if err := n.Raise(map[string]uint64{"a": 10, "b": 20}); err != nil {
		t.Fatal(err)
	}
	if err := n.Raise(map[string]uint64{"a": 5, "b": 30}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Numbers{n, OpenNumbers(dir)} {
		for id, want := range map[string]uint64{"a": 10, "b": 30, "c": 0} {
			if got, err := n.Bound(id); err != nil || got != want {
				t.Errorf("bound of %s is %d, %v, want %d", id, got, err, want)
			}
		}
	}
	st, err := os.Stat(filepath.Join(dir, NumbersFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", st, err)
	}
}

// TestNumbersThatAreLost: what was remembered and cannot be read is not taken for
// nothing, however little is wrong.
func TestNumbersThatAreLost(t *testing.T) {
	for _, text := range []string{"", "10", "10 a\n2", "x a\n", "10 a\n\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, NumbersFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n := OpenNumbers(dir)
		if _, err := n.Bound("a"); err == nil {
			t.Errorf("%q is understood", text)
		}
		if err := n.Raise(map[string]uint64{"a": 1}); err == nil {
			t.Errorf("%q is overwritten", text)
		}
	}
	n := OpenNumbers(filepath.Join(t.TempDir(), "absent"))
	if err := n.Raise(map[string]uint64{"a": 1}); err == nil {
		t.Error("a bound is remembered in a directory that does not exist")
	}
	if v, err := n.Bound("a"); v != 0 || err != nil {
		t.Errorf("what is not on disk counts: %d, %v", v, err)
	}
}
