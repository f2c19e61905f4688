package harness

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The limits that emulation makes longer are where they are looked for, and
// what is written instead is what is meant.
func TestPatience(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{dir: t.TempDir()}
	file, err := h.overlay(root, "patience", longer(12))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Replace map[string]string }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	found := 0
	for from, to := range list.Replace {
		text, err := os.ReadFile(to)
		if err != nil || !filepath.IsAbs(from) {
			t.Errorf("%s: %v", from, err)
		}
		found += strings.Count(string(text), " = 12 * ")
	}
	if want := len(longer(12)); found != want {
		t.Errorf("%d limits are longer, want %d", found, want)
	}
	if _, err := h.overlay(root, "none", []change{{"go.mod", "no such text", ""}}); err == nil {
		t.Error("a text that is not there was replaced")
	}
}
