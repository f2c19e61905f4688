package judge

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// entry is what docs/check.md has for a code: severity and cause, where to look, a remedy.
var entry = regexp.MustCompile(`^\n\* \*\*(fails|unknown|costs|odd)\*\*: \S(?s:.+)\n` +
	`\* \*\*Look\*\*: \S(?s:.+)\n\* \*\*Remedy\*\*: \S(?s:.+)\n$`)

// TestCodesAreDocumented: docs/check.md has one entry for each code, which says its
// severity, its cause, where to look and what to do. It has no other.
func TestCodesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	page, _, ok := strings.Cut(string(b), "\n## What only `doctor` says\n")
	if !ok {
		t.Fatal("docs/check.md does not say where the codes of check end")
	}
	documented := make(map[Code]string)
	for i, part := range strings.Split(page, "\n### `") {
		name, body, ok := strings.Cut(part, "`\n")
		if i == 0 {
			continue // what the page begins with
		}
		if body, _, _ = strings.Cut(body, "\n## "); !ok {
			t.Errorf("%q is no heading of a code", part)
		}
		c := Code(name)
		if _, twice := documented[c]; twice {
			t.Errorf("%s has two entries in docs/check.md", c)
		}
		m := entry.FindStringSubmatch(strings.TrimSuffix(body, "\n") + "\n")
		if m == nil {
			t.Errorf("the entry of %s in docs/check.md lacks severity and cause, Look or Remedy:\n%s", c, body)
			m = []string{"", ""}
		}
		documented[c] = m[1]
	}
	for c, k := range kinds {
		switch s, ok := documented[c]; {
		case !ok:
			t.Errorf("%s has no entry in docs/check.md", c)
		case s != k.severity.String():
			t.Errorf("%s is %q in docs/check.md, %q here", c, s, k.severity.String())
		}
		delete(documented, c)
	}
	for c := range documented {
		t.Errorf("%s of docs/check.md does not exist", c)
	}
}
