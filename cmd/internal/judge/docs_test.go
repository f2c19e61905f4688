package judge

import (
	"os"
	"strings"
	"testing"
)

// TestCodesAreDocumented: docs/check.md has a row for each code, with its severity, and
// no other.
func TestCodesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[Code]string)
	for line := range strings.Lines(string(b)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			documented[Code(strings.Trim(cells[1], " `"))] = strings.TrimSpace(cells[2])
		}
	}
	for c, k := range kinds {
		if documented[c] != k.severity.String() {
			t.Errorf("%s is %q in docs/check.md, %q here", c, documented[c], k.severity.String())
		}
		delete(documented, c)
	}
	for c := range documented {
		t.Errorf("%s of docs/check.md does not exist", c)
	}
}
