package gate

import (
	"strings"
	"testing"
	"time"
)

func TestWithGrounds(t *testing.T) {
	page := "# Platforms\n" + GroundsBegin + "| old |\n" + GroundsEnd + "rest\n"
	now := NewTree([]File{{"carp/a.go", "1"}, {"tests/ike/a_test.go", "2"}, {"tests/election/a_test.go", "3"}},
		"drill-ike:\n\tgo test ./tests/ike\n")
	results := &Results{Runs: []Run{
		{Gate: "ground-trixie-drill-ike", Commit: "0123456789", Began: time.Date(2026, 12, 3, 10, 0, 0, 0, time.UTC),
			Lines: []string{"ok a 1s", "ok b 1s"}, Ground: "trixie, strongSwan 6", Areas: now.Of("ground-trixie-drill-ike")},
		{Gate: "ground-sid-suite-election", Commit: "abcdef012", Began: time.Date(2026, 12, 3, 11, 0, 0, 0, time.UTC),
			Exit: 2, Lines: []string{"--- FAIL: TestCARP (1s)"}, Areas: map[string]string{"carp": "other"}},
	}}
	text, err := WithGrounds(page, results, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"* Debian 13: trixie, strongSwan 6.\n",
		"| suite | Debian 13 | Debian sid |\n",
		"OpenIKED | ok, 2 packages; 2026-12-03, 0123456 | not run |\n",
		"| not run | **failed**, exit status 2: TestCARP; 2026-12-03, abcdef0; **older than** carp, tests/election |\n",
		GroundsEnd + "rest\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "old |\n") {
		t.Error("the old table stays")
	}
	if again, err := WithGrounds(text, results, now); err != nil || again != text {
		t.Errorf("a second time changes the page (%v)", err)
	}
	for _, bad := range []string{"# Platforms\n", GroundsBegin} {
		if _, err := WithGrounds(bad, results, now); err == nil {
			t.Errorf("%q has no place for the table, and is taken", bad)
		}
	}
}

// TestGroundsDependOnTheirTests: a result on another release is older than a change
// of the tests that it has run, and of no others.
func TestGroundsDependOnTheirTests(t *testing.T) {
	now := NewTree([]File{{"carp/a.go", "1"}, {"tests/ike/a_test.go", "2"}, {"tests/election/a_test.go", "3"}},
		"drill-ike:\n\tgo test ./tests/ike\n")
	for gate, want := range map[string]string{
		"ground-sid-drill-ike":         "tests/ike",
		"ground-trixie-suite-election": "tests/election",
	} {
		areas := now.Of(gate)
		if len(areas) != 2 || areas["carp"] == "" || areas[want] == "" {
			t.Errorf("%s depends on %v, want carp and %s", gate, areas, want)
		}
	}
}

func TestChooseByPattern(t *testing.T) {
	plan, err := Choose(List, []string{"ground-sid-*"}, new(Results), "", false)
	if err != nil || len(plan.Run) != len(Suites) {
		t.Errorf("ground-sid-* chooses %d gates (%v), want %d", len(plan.Run), err, len(Suites))
	}
	if _, err := Choose(List, []string{"ground-buster-*"}, new(Results), "", false); err == nil {
		t.Error("a pattern of nothing is taken")
	}
}
