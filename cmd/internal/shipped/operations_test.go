package shipped

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOperationsPage: commands and flags that docs/operations.md names exist,
// and it has a chapter for each alert.
func TestOperationsPage(t *testing.T) {
	b, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, program := range []string{"sasyncctl", "carpctl"} {
		known := commands(t, program)
		n := 0
		for _, m := range regexp.MustCompile(program+` ([a-z]+)`).FindAllStringSubmatch(page, -1) {
			if n++; !slices.Contains(known, m[1]) {
				t.Errorf("%s has no command %s", program, m[1])
			}
		}
		if n < 5 {
			t.Errorf("only %d commands of %s are found", n, program)
		}
	}
	for _, program := range []string{"sasyncd", "carpd"} {
		synopsis, _ := flags(read(t, "man", program+".8"))
		for _, m := range regexp.MustCompile("`"+program+` -([a-zA-Z]+)( -([a-zA-Z]+))?`).FindAllStringSubmatch(page,
			-1) {
			for _, letter := range m[1] + m[3] {
				if !strings.ContainsRune(synopsis, letter) {
					t.Errorf("%s has no flag -%c", program, letter)
				}
			}
		}
	}
	for _, target := range regexp.MustCompile("`make ([a-z-]+)").FindAllStringSubmatch(page, -1) {
		makefile, err := os.ReadFile("../../../Makefile")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(makefile), "\n"+target[1]+":") {
			t.Errorf("make has no target %s", target[1])
		}
	}
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
	doctor, err := os.ReadFile("../doctor/doctor.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`judge\.Code = "([a-z-]+)"`).FindAllStringSubmatch(string(doctor), -1)
	for _, m := range codes {
		if !regexp.MustCompile("(?m)^\\| [^|]*`" + m[1] + "`").MatchString(page) {
			t.Errorf("what doctor says as %s is not explained", m[1])
		}
	}
	if len(codes) < 4 {
		t.Errorf("only %d codes of doctor are found", len(codes))
	}
	all := everyMetric(t)
	for _, m := range regexp.MustCompile("`((?:sasyncd|carpd)_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if all[m[1]] == nil {
			t.Errorf("there is no metric %s", m[1])
		}
	}
	for _, path := range regexp.MustCompile("`(deploy/[^` ]+)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat("../../../" + path[1]); err != nil {
			t.Errorf("%v", err)
		}
	}
}
