package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestStateSurvives(t *testing.T) {
	var b strings.Builder
	log := NewLogger(&b, false, 0)
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := OpenState(dir, "carpd", log)
	id := s.NodeID()
	s.SetTerm("carp1", 7)
	s.SetTerm("with blank\n", 9)
	s.SetTerm("carp1", 5) // never lowered
	s = OpenState(dir, "carpd", log)
	if got := s.NodeID(); got != id || id == [16]byte{} {
		t.Errorf("node id is %x after a restart, was %x", got, id)
	}
	if a, c := s.Term("carp1"), s.Term("with blank\n"); a != 7 || c != 9 || s.Term("other") != 0 {
		t.Errorf("terms are %d and %d, want 7 and 9", a, c)
	}
	if other := OpenState(t.TempDir(), "carpd", log).NodeID(); other == id {
		t.Error("two nodes have one id")
	}
	if b.Len() > 0 {
		t.Errorf("log is %q", b.String())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("directory holds %v, error %v", entries, err)
	}
}

func TestStateDamaged(t *testing.T) {
	var b strings.Builder
	dir := t.TempDir()
	for name, content := range map[string]string{"terms": "12 \"carp1\"\nnonsense\n\x00\x00", "node-id": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := OpenState(dir, "carpd", NewLogger(&b, false, 0))
	id := s.NodeID()
	if s.Term("carp1") != 12 || id == [16]byte{} || s.NodeID() != id {
		t.Errorf("term is %d, id %x", s.Term("carp1"), id)
	}
	if n := strings.Count(b.String(), "<4>"); n != 3 {
		t.Errorf("%d warnings, want one for each line and the id:\n%s", n, b.String())
	}
}

func TestStateUnwritable(t *testing.T) {
	var b strings.Builder
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := OpenState(filepath.Join(file, "state"), "carpd", NewLogger(&b, false, 0))
	s.NodeID()
	s.SetTerm("g", 3)
	if s.Term("g") != 3 {
		t.Error("the term is not even kept in memory")
	}
	if n := strings.Count(b.String(), "<4>"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, b.String())
	}
}

// TestTwoDaemonsInOneDirectory: neither loses what it remembers, and both begin with what
// a release before has left.
func TestTwoDaemonsInOneDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "terms"), []byte("5 \"ipsec\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	log := NewLogger(&b, false, 0)
	carpd, sasyncd := OpenState(dir, "carpd", log), OpenState(dir, "sasyncd", log)
	if a, c := carpd.Term("ipsec"), sasyncd.Term("ipsec"); a != 5 || c != 5 {
		t.Errorf("terms are %d and %d at first, want 5", a, c)
	}
	var both sync.WaitGroup
	for _, s := range []*State{carpd, sasyncd} {
		both.Go(func() {
			for i := range uint64(200) {
				s.SetTerm("ipsec", 6+i)
				s.SetTerm(s.daemon, 1+i)
			}
		})
	}
	both.Wait()
	for _, name := range []string{"carpd", "sasyncd"} {
		s := OpenState(dir, name, log)
		if s.Term("ipsec") != 205 || s.Term(name) != 200 {
			t.Errorf("%s remembers %d and %d, want 205 and 200", name, s.Term("ipsec"), s.Term(name))
		}
	}
	if b.Len() > 0 {
		t.Errorf("logged: %s", b.String())
	}
}
