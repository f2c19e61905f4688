package gate

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestListIsTheMakefiles: a drill that the list lacks would not be run before a
// release, and nobody would miss it.
func TestListIsTheMakefiles(t *testing.T) {
	b, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := Targets(string(b))
	for _, target := range targets {
		is := func(g Gate) bool {
			_, name, _ := onGround(g.Name) // some run on other releases alone
			return name == target
		}
		if IsGate(target) && !slices.ContainsFunc(List, is) {
			t.Errorf("the target %s of the Makefile is no gate: add it to tests/gate/data.go", target)
		}
	}
	seen := map[string]bool{}
	for _, g := range List {
		_, target, grounded := onGround(g.Name)
		if strings.HasPrefix(target, "suite-") {
			if _, err := os.Stat("../" + strings.TrimPrefix(target, "suite-")); err != nil {
				t.Errorf("the gate %s is of no tests: %v", g.Name, err)
			}
		} else if !slices.Contains(targets, target) {
			t.Errorf("the gate %s is no target of the Makefile", g.Name)
		}
		if !grounded && !IsGate(g.Name) {
			t.Errorf("IsGate does not know the gate %s, so nobody would notice when it is gone", g.Name)
		}
		if seen[g.Name] {
			t.Errorf("the gate %s is there twice", g.Name)
		}
		seen[g.Name] = true
		if g.Shows == "" || g.Takes == 0 {
			t.Errorf("the gate %s does not say what it shows and how long it takes", g.Name)
		}
	}
}

// TestPageIsGenerated: nobody writes results by hand.
func TestPageIsGenerated(t *testing.T) {
	b, err := os.ReadFile("../../" + Store)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	results, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	now, err := ReadTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := Render(&page, List, results, now); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../" + Page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is not what tests/gate/data.go and %s make: use make gate-page", Page, Store)
	}
	have, err = os.ReadFile("../../" + GroundsPage)
	if err != nil {
		t.Fatal(err)
	}
	text, err := WithGrounds(string(have), results, now)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != text {
		t.Errorf("%s is not what %s makes: use make gate-page", GroundsPage, Store)
	}
}

func TestTargets(t *testing.T) {
	const makefile = "A ?= b\nC := d\nE = f: g\n.PHONY: all\nall: build\n\nbuild:\n\tx: y\nmany more: all\nset:= no\n"
	if diff := cmp.Diff([]string{"all", "build", "many", "more"}, Targets(makefile)); diff != "" {
		t.Error(diff)
	}
	for target, want := range map[string]bool{"drill": true, "drill-x": true, "drilling": false, "bench": true,
		"bench-native": false, "microbench": false, "test": true, "fresh": true, "gate": false} {
		if IsGate(target) != want {
			t.Errorf("IsGate(%q) is not %v", target, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	const makefile = "GO ?= go\nONLY ?=\nSEED     ?= 0\nNAME = x\n"
	kept, settings := Environment(makefile, []string{"PATH=/bin", "ONLY=one", "SEED=4", "NAME=y", "GO=go1",
		"MAKEFLAGS=n", "SASYNCD_SLOW=12", "SASYNCD_GUEST=qemu", "BENCH_ONLY=x", "OLD=c", "GOFLAGS=-x", "ONLYONE=1"})
	if diff := cmp.Diff([]string{"PATH=/bin", "NAME=y", "GO=go1", "SASYNCD_SLOW=12", "ONLYONE=1"}, kept); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"SASYNCD_SLOW=12"}, settings); diff != "" {
		t.Error(diff)
	}
	if _, settings := Environment("", []string{"SASYNCD_SLOW="}); settings != nil {
		t.Errorf("an empty variable sets %v", settings)
	}
}

func TestParseLog(t *testing.T) {
	for _, c := range []struct {
		name, log string
		lines     []string
		last      string
	}{
		{"ok", "go test ./x\n?   \tsasyncd/z\t[no test files]\nok  \tsasyncd/x\t1.2s\nok  \tsasyncd/y\t(cached)\n",
			[]string{"ok sasyncd/x 1.2s", "ok sasyncd/y (cached)"}, ""},
		{"failed", "=== RUN   TestA\n    a_test.go:1: bad\n--- FAIL: TestA (0.10s)\n    --- FAIL: TestA/part " +
			"(0.00s)\nFAIL\nFAIL\tsasyncd/x\t1.2s\nFAIL\tsasyncd/y [build failed]\nmake: *** [Makefile:1: x] Error 1\n",
			[]string{"--- FAIL: TestA (0.10s)", "--- FAIL: TestA/part (0.00s)", "FAIL sasyncd/x 1.2s",
				"FAIL sasyncd/y [build failed]"}, ""},
		{"out of time", "panic: test timed out after 30m0s\n\tok  \tx\nFAIL\tsasyncd/x\t1800.1s\n",
			[]string{"panic: test timed out after 30m0s", "FAIL sasyncd/x 1800.1s"}, ""},
		{"skipped", "--- SKIP: TestA (0.10s)\n    a_test.go:1: no b\n--- PASS: TestB (0.00s)\n    --- SKIP: TestB/part (0.00s)\n" +
			"ok  \tsasyncd/x\t1.2s\n", []string{"--- SKIP: TestA (0.10s)", "--- SKIP: TestB/part (0.00s)", "ok sasyncd/x 1.2s"}, ""},
		{"what another test printed", "        --- FAIL: TestOther (0.00s)\n        ok  \tother\t1s\n", nil,
			"ok  \tother\t1s"},
		{"no test", "one\n  two  \n\nmake[1]: Leaving\nmake: *** [x] Error 1\n", nil, "two"},
		{"empty", "", nil, ""},
	} {
		lines, last := ParseLog(c.log)
		if diff := cmp.Diff(c.lines, lines); diff != "" || last != c.last {
			t.Errorf("%s: %s; last line %q, want %q", c.name, diff, last, c.last)
		}
	}
}

func TestOutcome(t *testing.T) {
	for want, r := range map[string]Run{
		"ok":                             {Lines: []string{"ok a 1s"}},
		"ok, 2 packages":                 {Lines: []string{"ok a 1s", "ok b 2s"}},
		"ok; skipped: TestA, TestB/part": {Lines: []string{"--- SKIP: TestA (1s)", "--- SKIP: TestB/part (0s)", "ok a 1s"}},
		"ok (SASYNCD_SLOW=12)":           {Settings: []string{"SASYNCD_SLOW=12"}},
		"failed, exit status 2: TestA, panic: b": {Exit: 2, Lines: []string{"--- FAIL: TestA (1s)",
			"--- FAIL: TestA/part (1s)", "panic: b", "FAIL a 1s"}},
		"failed, exit status 2: A, B, C, and 1 more": {Exit: 2, Lines: []string{"--- FAIL: A (1s)", "--- FAIL: B (1s)",
			"--- FAIL: C (1s)", "--- FAIL: D (1s)"}},
		"failed, exit status 2: a [build failed]": {Exit: 2, Lines: []string{"ok b 1s", "FAIL a [build failed]"}},
		"failed, exit status 1: missed":           {Exit: 1, Last: "missed"},
		"failed, ended by a signal":               {Exit: -1},
	} {
		if have := r.Outcome(); have != want {
			t.Errorf("outcome %q, want %q", have, want)
		}
	}
}

func names(list []Gate) (names []string) {
	for _, g := range list {
		names = append(names, g.Name)
	}
	return names
}

func TestChoose(t *testing.T) {
	list := []Gate{{Name: "a", Takes: time.Minute}, {Name: "part", InTest: true}, {Name: "b", Takes: time.Hour},
		{Name: "c"}}
	results := &Results{Runs: []Run{{Gate: "a", Commit: "now"}, {Gate: "b", Commit: "now", Exit: 1},
		{Gate: "c", Commit: "old"}}}
	for _, c := range []struct {
		what         string
		names        []string
		goOn         bool
		run, skipped []string
	}{
		{"all but parts", nil, false, []string{"a", "b", "c"}, nil},
		{"a failure and an old success run again", nil, true, []string{"b", "c"}, []string{"a"}},
		{"by name, in the list's order", []string{"c", "part"}, false, []string{"part", "c"}, nil},
		{"what has passed, by name", []string{"a"}, true, nil, []string{"a"}},
	} {
		p, err := Choose(list, c.names, results, "now", c.goOn)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{c.run, c.skipped}, [][]string{names(p.Run), names(p.Skipped)}); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
	if p, _ := Choose(list, nil, results, "now", false); p.Takes() != 61*time.Minute {
		t.Errorf("the plan takes %v", p.Takes())
	}
	_, err := Choose(list, []string{"a", "x", "y"}, results, "now", false)
	if err == nil || !strings.Contains(err.Error(), "no such gate: x, y; there are a part b c") {
		t.Errorf("unknown gates: %v", err)
	}
}

func TestMayWrite(t *testing.T) {
	g := Gate{Writes: []string{"docs/a.md", "testdata/fuzz/"}}
	for path, want := range map[string]bool{"docs/a.md": true, "docs/a.mdx": false, "x/docs/a.md": false,
		"testdata/fuzz/F/1": true, "carp/testdata/fuzz/F/1": true, "xtestdata/fuzz/F": false} {
		if g.MayWrite(path) != want {
			t.Errorf("MayWrite(%q) is not %v", path, want)
		}
	}
}

func TestResults(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 12, 3, 10, minute, 0, 0, time.UTC) }
	r := new(Results)
	r.Put(Run{Gate: "b", Began: at(1), Commit: "1"})
	r.Put(Run{Gate: "gone", Began: at(1)})
	r.Put(Run{Gate: "a", Began: at(2), Lines: []string{"ok a 1s"}})
	r.Put(Run{Gate: "b", Began: at(3), Commit: "2", Exit: 2})
	r.Put(Run{Gate: "b", Began: at(2), Commit: "3"})
	b, err := r.Encode([]Gate{{Name: "a"}, {Name: "b"}, {Name: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	have, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := &Results{Runs: []Run{{Gate: "a", Began: at(2), Lines: []string{"ok a 1s"}},
		{Gate: "b", Began: at(3), Commit: "2", Exit: 2}}}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the last run counts, also when it failed: %s", diff)
	}
	if none, err := Decode(nil); err != nil || len(none.Runs) != 0 {
		t.Errorf("no file: %v, %v", none, err)
	}
	if _, err := Decode([]byte("{")); err == nil {
		t.Error("a torn file was taken for results")
	}
}

func TestRender(t *testing.T) {
	list := []Gate{
		{Name: "a", Shows: "this|that", Takes: 90 * time.Second, Alone: true, Needs: "qemu", Gap: "not all.",
			Before: "by hand a"},
		{Name: "b", Shows: "more", Takes: 3 * time.Hour, Before: "by hand b"},
		{Name: "part", InTest: true},
		{Name: "c", Before: "by hand c"},
	}
	results := &Results{Runs: []Run{
		{Gate: "a", Commit: "0123456789", Began: time.Date(2026, 12, 3, 10, 1, 9, 0, time.UTC), Seconds: 600, Exit: 2,
			Machine: "Linux x, 2 CPU", Last: "x | y"},
		{Gate: "b", Commit: "abc", Lines: []string{"ok p 1s"}},
	}}
	now := NewTree([]File{{"carp/a.go", "1"}, {"sync/b.go", "2"}, {"cmd/c.go", "3"}}, "a:\n\t./tests/a\n")
	results.Runs[1].Areas = now.Of("b")
	results.Runs[0].Areas = map[string]string{"carp": "old", "sync": now.Areas["sync"]}
	var page strings.Builder
	if err := Render(&page, list, results, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"about 3 hours",
		"| `make a` | this\\|that | 90 s | the machine alone; qemu |\n",
		"| `make part` |  | 0 s | nothing: it is part of `make test` |\n",
		"| `make a` | 0123456 | 2026-12-03 10:01 | 10 min | Linux x, 2 CPU | **failed**, exit status 2: x \\| y; " +
			"**older than** carp, cmd |\n",
		"| ok |\n",
		"| `make part` |  |  |  |  | not run by the gate yet; `make test` runs it |\n",
		"| `make c` |  |  |  |  | not run by the gate yet |\n",
		"## Known gaps\n\n* `make a`: not all.\n",
		"| `make c` | by hand c |\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	if strings.Contains(page.String(), "by hand a") || strings.Contains(page.String(), "by hand b") {
		t.Error("a gate with an entry still has a result by hand")
	}
	for line := range strings.Lines(page.String()) {
		if !strings.HasPrefix(line, "|") && len(line) > 121 {
			t.Errorf("a line of %d characters: %s", len(line)-1, line)
		}
	}
}

func TestTable(t *testing.T) {
	text, bad := Table([]Row{{Gate: "long-name", Run: &Run{Seconds: 5}}, {Gate: "b", Run: &Run{Seconds: 600, Exit: 2}},
		{Gate: "c"}, {Gate: "d", Run: new(Run), Before: true}})
	want := "long-name       5 s  ok\nb            10 min  failed, exit status 2\nc                    no result\n" +
		"d               0 s  ok, in an earlier call\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b", "c"}, bad); diff != "" {
		t.Error(diff)
	}
}
