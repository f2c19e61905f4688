package shipped

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestOperationsPage: docs/operations.md has a chapter for each alert, and the metrics
// that it names exist.
func TestOperationsPage(t *testing.T) {
	page := readPage(t, "docs/operations.md")
	for name := range alerts(t) {
		if !strings.Contains(page, "\n### "+name+"\n") {
			t.Errorf("alert %s is not explained", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(page, -1) {
		if _, ok := alerts(t)[m[1]]; !ok {
			t.Errorf("there is no alert %s", m[1])
		}
	}
	all := everyMetric(t)
	for _, m := range regexp.MustCompile("`((?:sasyncd|carpd)_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if all[m[1]] == nil {
			t.Errorf("there is no metric %s", m[1])
		}
	}
}

// TestDoctorIsDocumented: docs/check.md has an entry for each code that only doctor
// prints, and no other.
func TestDoctorIsDocumented(t *testing.T) {
	_, part, ok := strings.Cut(readPage(t, "docs/check.md"), "\n## What only `doctor` says\n")
	if !ok {
		t.Fatal("docs/check.md has no such chapter")
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^### `([a-z-]+)`\n\n\\* \\*\\*(?:problem|note)\\*\\*: .+\n(?:  .+\n)?"+
		"\\* \\*\\*Look\\*\\*: .+\n(?:  .+\n)?\\* \\*\\*Remedy\\*\\*: .+\n").FindAllStringSubmatch(part, -1) {
		documented[m[1]] = true
	}
	n := 0
	for file, code := range map[string]string{
		"../doctor/doctor.go":       `judge\.Code = "([a-z-]+)"`,
		"../../sasyncctl/doctor.go": `sasyncdLost += "([a-z-]+)"`,
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(code).FindAllStringSubmatch(string(b), -1) {
			if n++; !documented[m[1]] {
				t.Errorf("what doctor says as %s is not explained", m[1])
			}
			delete(documented, m[1])
		}
	}
	if n < 5 {
		t.Errorf("only %d codes of doctor are found", n)
	}
	for code := range documented {
		t.Errorf("doctor does not say %s", code)
	}
}
