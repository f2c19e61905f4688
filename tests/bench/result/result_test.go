package result

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A part that ended without a result is named, and the rest is not lost.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for file, r := range map[string]Report{
		a: {Version: "v1", Seconds: 3, Lines: []Line{{What: "one", Verdict: Met}}},
		b: {Seconds: 4, Lines: []Line{{What: "two <= 3", Verdict: Missed}}, Failed: []string{"churn"}},
	} {
		if err := r.Write(file); err != nil {
			t.Fatal(err)
		}
	}
	if s := read(t, b); !strings.Contains(s, "<=") {
		t.Errorf("JSON for people has escapes:\n%s", s)
	}
	r, err := Merge(a, b, filepath.Join(dir, "none"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Version != "v1" || r.Seconds != 7 || len(r.Lines) != 2 || len(r.Failed) != 2 || !strings.Contains(r.Failed[1],
		"none") {
		t.Errorf("merged: %+v", r)
	}
	if _, err := Merge(filepath.Join(dir, "none")); err == nil {
		t.Error("a report of nothing")
	}
}

// What drills have not shown is not met, however good it looks.
func TestDrills(t *testing.T) {
	for text, want := range map[string]string{
		`{"runs":[]}`: NotShown,
		`{"runs":[{"failovers":80,"sent_twice":0,"refused":0}]}`:                   NotShown,
		`{"runs":[{"failovers":1000,"sent_twice":0,"refused":0}]}`:                 Met,
		`{"runs":[{"failovers":1000,"sent_twice":0,"refused":0,"failed":true}]}`:   Missed,
		`{"runs":[{"failovers":80,"sent_twice":1,"refused":0}]}`:                   Missed,
		`{"runs":[{"failovers":1000},{"failovers":1000,"refused":2}]}`:             Missed,
		`{"runs":[{"failovers":1000,"refused":2},{"failovers":1000,"seconds":9}]}`: Met,
	} {
		r := Report{}
		if err := r.Drills(write(t, "reliability.json", text)); err != nil {
			t.Fatal(err)
		}
		if len(r.Lines) != 1 || r.Lines[0].Verdict != want {
			t.Errorf("%s: %+v, want %s", text, r.Lines, want)
		}
	}
}

// Only what is between the marks changes.
func TestPublish(t *testing.T) {
	r := Report{Lines: []Line{{What: "gap", Target: "<= 1 s", Figure: "2 s", Ratio: 2, Verdict: Missed,
		Machine: "native", Note: "why"}}}
	page := write(t, "page.md", "before\n"+beginMark+"old\n"+endMark+"after\n")
	if err := r.Publish(page); err != nil {
		t.Fatal(err)
	}
	got := read(t, page)
	for _, want := range []string{"before\n" + beginMark, "| gap | <= 1 s | 2 s |  | 2.00 | **missed** | native |",
		"* gap: why\n", endMark + "after\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has not %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") {
		t.Errorf("the old table is still there:\n%s", got)
	}
	if err := r.Publish(write(t, "bare.md", "no marks\n")); err == nil {
		t.Error("a page without marks was accepted")
	}
}
