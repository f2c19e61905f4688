package lab

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Daemons of drills have the priority that their units give them.
func TestNiceIsThatOfTheUnits(t *testing.T) {
	units, err := filepath.Glob("../../../deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	found := map[string]int{}
	for _, u := range units {
		text, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Nice="); ok {
				if found[strings.TrimSuffix(filepath.Base(u), ".service")], err = strconv.Atoi(v); err != nil {
					t.Errorf("%s: %v", u, err)
				}
			}
		}
	}
	if len(found) != len(nice) {
		t.Errorf("units say %v, drills %v", found, nice)
	}
	for name, n := range nice {
		if found[name] != n {
			t.Errorf("%s: its unit says %d, drills %d", name, found[name], n)
		}
	}
}
