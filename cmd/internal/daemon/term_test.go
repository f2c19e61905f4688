package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestPoisonedTermIsForgotten: a term that leaves no room for masterships is not
// taken from the disk, whatever put it there; the others are.
func TestPoisonedTermIsForgotten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "terms"), []byte("4611686018427387904 \"ipsec\"\n7 \"other\"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	s := OpenState(dir, "carpd", slog.New(slog.DiscardHandler))
	if s.Term("ipsec") != 0 || s.Term("other") != 7 {
		t.Errorf("terms are %d and %d", s.Term("ipsec"), s.Term("other"))
	}
	s.SetTerm("ipsec", 1)
	if again := OpenState(dir, "carpd", slog.New(slog.DiscardHandler)); again.Term("ipsec") != 1 ||
		again.Term("other") != 7 {
		t.Errorf("after the next mastership, terms are %d and %d", again.Term("ipsec"), again.Term("other"))
	}
}
