package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/tests/gate"
)

// makefile has a target for each way in which a gate can end. Each refuses to run
// where git sees a change, and says in a file beside the checkout that it has run.
const makefile = `ONLY ?= everything
# The folder is that of the checkout: what make was told does not count.
ALONE = test -z "$$(git status --porcelain)" && echo $@ >> ../ran

good:
	@$(ALONE)
	@echo ran $(ONLY) with $$GOFLAGS; printf 'ok  \tp/a\t1.0s\nok  \tp/b\t2.0s\n'

bad:
	@$(ALONE)
	@printf -- '--- FAIL: TestIt (0.10s)\nFAIL\nFAIL\tp/a\t1.0s\n'; test -e ../mended

writes:
	@$(ALONE)
	@echo measured > docs/table.md; mkdir -p p/testdata/fuzz; echo found > p/testdata/fuzz/1

litters:
	@echo $@ >> ../ran; echo litter > litter

commits:
	@git -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m more

blocks:
	@$(ALONE)
	@echo begun > ../begun; read line < ../never
`

var fake = []gate.Gate{
	{Name: "good", Shows: "good", Takes: time.Second, Before: "good by hand"},
	{Name: "bad", Shows: "bad", Takes: time.Second, Before: "bad by hand"},
	{Name: "writes", Shows: "writes", Takes: time.Second, Writes: []string{"docs/table.md", "testdata/fuzz/"}},
	{Name: "blocks", Shows: "blocks", Takes: time.Second, InTest: true},
	{Name: "litters", Shows: "litters", Takes: time.Second, InTest: true},
	{Name: "commits", Shows: "commits", Takes: time.Second, InTest: true},
}

// bench is a checkout with the Makefile, and a gate for it.
type bench struct {
	t   *testing.T
	r   *runner
	out strings.Builder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	for _, program := range []string{"git", "make"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the gate needs %s: %v", program, err)
		}
	}
	for _, v := range os.Environ() { // of a hook of git that runs the tests
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GIT_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("SASYNCD_SLOW", "")
	b := &bench{t: t}
	b.r = &runner{dir: filepath.Join(t.TempDir(), "checkout"), list: fake, out: &b.out, now: time.Now}
	b.write("Makefile", makefile)
	b.write(".gitignore", "/dist/\n")
	b.write("docs/table.md", "old\n")
	b.write(gate.GroundsPage, gate.GroundsBegin+gate.GroundsEnd)
	b.write("carp/carp.go", "package carp\n")
	b.git("init", "-q")
	b.git("add", ".")
	b.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q", "-m", "first")
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	path := b.r.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) git(args ...string) string {
	b.t.Helper()
	out, err := checkout{b.r.dir}.git(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// read returns a file of the checkout, empty if there is none.
func (b *bench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.r.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(text)
}

// ran returns the gates that have run since the last call.
func (b *bench) ran() string {
	b.t.Helper()
	text := strings.Join(strings.Fields(b.read("../ran")), " ")
	if err := os.RemoveAll(b.r.path("../ran")); err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *bench) run(goOn bool, names ...string) error {
	b.t.Helper()
	b.out.Reset()
	return b.r.run(b.t.Context(), names, goOn)
}

func (b *bench) entry(name string) *gate.Run {
	b.t.Helper()
	results, err := load(b.r.path(gate.Store))
	if err != nil {
		b.t.Fatal(err)
	}
	return results.Last(name)
}

// wants fails unless an error has a text.
func (b *bench) wants(err error, text string) {
	b.t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		b.t.Errorf("error %v, want %q\n%s", err, text, b.out.String())
	}
}

func TestGate(t *testing.T) {
	b := newBench(t)
	t.Setenv("ONLY", "little") // would shorten the gate
	commit := b.git("rev-parse", "HEAD")
	began := time.Now().Add(-time.Second)
	err := b.run(false)
	if b.wants(err, "not passed: bad"); !errors.Is(err, errFailed) {
		t.Errorf("error %v", err)
	}
	if ran := b.ran(); ran != "good bad writes" {
		t.Errorf("these have run: %s\n%s", ran, b.out.String())
	}
	good := b.entry("good")
	if good == nil || good.Began.Before(began.Truncate(time.Second)) || good.Began.After(time.Now()) ||
		good.Machine == "" {
		t.Fatalf("entry %+v", good)
	}
	want := &gate.Run{Gate: "good", Commit: commit, Began: good.Began, Seconds: good.Seconds, Machine: good.Machine,
		Lines: []string{"ok p/a 1.0s", "ok p/b 2.0s"}, Areas: good.Areas}
	if _, there := good.Areas["carp"]; !there || len(good.Areas) != 1 {
		t.Errorf("the run depends on %v", good.Areas)
	}
	if diff := cmp.Diff(want, good); diff != "" {
		t.Error(diff)
	}
	if bad := b.entry("bad"); bad == nil || bad.Exit != 2 || strings.Join(bad.Lines, "; ") !=
		"--- FAIL: TestIt (0.10s); FAIL p/a 1.0s" {
		t.Errorf("entry %+v", bad)
	}
	if w := b.entry("writes"); w == nil || !w.OK() ||
		strings.Join(w.Wrote, " ") != "docs/table.md p/testdata/fuzz/1" {
		t.Errorf("entry %+v", w)
	}
	if log := b.read("dist/gate/good.log"); !strings.Contains(log, "ran everything with ") ||
		!strings.Contains(log, "-count=1") {
		t.Errorf("log of good: %s", log)
	}
	if b.read("docs/table.md") != "measured\n" || b.read("p/testdata/fuzz/1") != "found\n" {
		t.Error("what the gate wrote is not there in the end")
	}
	if page := b.read(gate.Page); !strings.Contains(page, "**failed**, exit status 2: TestIt") ||
		!strings.Contains(page, "ok, 2 packages") || strings.Contains(page, "by hand |") {
		t.Errorf("page:\n%s", page)
	}
	if table := b.out.String(); !strings.Contains(table, "failed, exit status 2: TestIt\n") {
		t.Errorf("table:\n%s", table)
	}
	if _, err := os.Stat(b.r.path(pending)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("results are kept apart although the checkout has them: %v", err)
	}
}

func TestGateGoesOn(t *testing.T) {
	b := newBench(t)
	b.wants(b.run(false), "not passed: bad")
	b.ran()
	b.wants(b.run(false), "the checkout is not clean, so no result would be of a commit; commit or stash, or go on "+
		"with CONTINUE=1")
	b.write("../mended", "")
	if err := b.run(true); err != nil {
		t.Errorf("error %v\n%s", err, b.out.String())
	}
	if ran := b.ran(); ran != "bad" {
		t.Errorf("these have run: %s\n%s", ran, b.out.String())
	}
	if bad := b.entry("bad"); bad == nil || !bad.OK() || b.entry("good") == nil {
		t.Errorf("entries: bad %+v, good %+v", bad, b.entry("good"))
	}
	if b.read("docs/table.md") != "measured\n" || b.read("p/testdata/fuzz/1") != "found\n" {
		t.Error("what the first call wrote is lost")
	}
	b.write("other", "")
	b.wants(b.run(true), "the checkout is not clean, so no result would be of a commit; commit or stash:\n  ?? other")
	if ran := b.ran(); ran != "" {
		t.Errorf("these have run in a checkout that is not clean: %s", ran)
	}
}

func TestGateRefuses(t *testing.T) {
	b := newBench(t)
	b.wants(b.run(false, "good", "ugly"), "no such gate: ugly")
	b.write("docs/table.md", "edited\n")
	b.write("Makefile", makefile+"\n")
	b.wants(b.run(false), "commit or stash:\n   M Makefile\n   M docs/table.md")
	if ran := b.ran(); ran != "" || b.read("docs/table.md") != "edited\n" || b.read(gate.Store) != "" {
		t.Errorf("a call that is refused has run %q, or has changed the checkout", ran)
	}
	unlock, err := b.r.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	b.wants(b.run(false), "another gate runs in this checkout")
}

// TestGateNeedsACommit: when the checkout changes, nobody knows what was run.
func TestGateNeedsACommit(t *testing.T) {
	for name, want := range map[string]string{
		"litters": "the checkout changed while litters ran: this run has no entry:\n  ?? litter",
		"commits": "another commit was checked out while commits ran",
	} {
		b := newBench(t)
		b.r.list = append([]gate.Gate{{Name: "good"}}, fake[3:]...)
		b.r.list = append(b.r.list, fake[2])
		err := b.run(false, "good", name, "writes")
		b.wants(err, want)
		b.wants(err, "not passed: "+name+", writes")
		if b.entry(name) != nil || b.entry("writes") != nil || b.entry("good") == nil {
			t.Errorf("entries: %s", b.read(gate.Store))
		}
		if ran := b.ran(); strings.Contains(ran, "writes") {
			t.Errorf("these have run: %s", ran)
		}
	}
}

func TestGateIsInterrupted(t *testing.T) {
	b := newBench(t)
	for _, fifo := range []string{"../begun", "../never"} {
		if err := syscall.Mkfifo(b.r.path(fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		os.ReadFile(b.r.path("../begun")) // returns when the gate has written to it
		interrupt()
	}()
	err := b.r.run(ctx, []string{"good", "blocks", "writes"}, false)
	b.wants(err, "interrupted: this run of blocks has no entry; CONTINUE=1 goes on")
	if ran := b.ran(); ran != "good writes blocks" {
		t.Errorf("these have run: %s", ran)
	}
	if b.entry("good") == nil || b.entry("writes") == nil || b.entry("blocks") != nil {
		t.Errorf("entries: %s", b.read(gate.Store))
	}
}

// TestGateWasKilled: a call that is killed leaves its results for the next one.
func TestGateWasKilled(t *testing.T) {
	b := newBench(t)
	results := &gate.Results{Runs: []gate.Run{{Gate: "writes", Commit: b.git("rev-parse", "HEAD")}}}
	if err := b.r.keep(results); err != nil {
		t.Fatal(err)
	}
	b.write(pending+"/files/docs/table.md", "measured before\n")
	if err := b.run(true, "good", "writes"); err != nil {
		t.Errorf("error %v\n%s", err, b.out.String())
	}
	if ran := b.ran(); ran != "good" {
		t.Errorf("these have run: %s", ran)
	}
	if b.entry("writes") == nil || b.read("docs/table.md") != "measured before\n" {
		t.Errorf("the killed call's results are lost: %s", b.read(gate.Store))
	}
}

func TestParseStatus(t *testing.T) {
	list, err := parseStatus(" M a b\x00?? c\nd\x00")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0] != (change{" M", "a b"}) || list[1] != (change{"??", "c\nd"}) {
		t.Errorf("changes %q", list)
	}
	if list, err := parseStatus(""); err != nil || len(list) > 0 {
		t.Errorf("nothing changed: %v, %v", list, err)
	}
	if _, err := parseStatus("nonsense"); err == nil {
		t.Error("nonsense was taken for a change")
	}
}

// TestOldResultIsShown: who reads the page sees that a result is not of today's code.
func TestOldResultIsShown(t *testing.T) {
	b := newBench(t)
	if err := b.run(false, "good"); err != nil {
		t.Fatal(err)
	}
	page := func() string {
		t.Helper()
		if err := b.r.page(); err != nil {
			t.Fatal(err)
		}
		return b.read(gate.Page)
	}
	b.write("docs/table.md", "edited\n")
	if text := page(); strings.Contains(text, "**older than**") {
		t.Errorf("a page was changed, and no code:\n%s", text)
	}
	b.write("carp/carp.go", "package carp // changed\n")
	if text := page(); !strings.Contains(text, "| ok, 2 packages; **older than** carp |\n") {
		t.Errorf("page:\n%s", text)
	}
	// An entry that lacks what the run depends on gets it of git.
	results := &gate.Results{Runs: []gate.Run{{Gate: "good", Commit: b.git("rev-parse", "HEAD")},
		{Gate: "writes", Commit: strings.Repeat("0", 40)}}}
	text, err := results.Encode(fake)
	if err != nil {
		t.Fatal(err)
	}
	b.write(gate.Store, string(text))
	if text := page(); !strings.Contains(text, "| ok; **older than** carp |\n") ||
		!strings.Contains(text, "| ok; its code is not known |\n") {
		t.Errorf("page:\n%s", text)
	}
	if good := b.entry("good"); good.Areas == nil {
		t.Error("what the run depends on is not kept")
	}
}

func TestPage(t *testing.T) {
	b := newBench(t)
	if err := b.r.page(); err != nil {
		t.Fatal(err)
	}
	if page := b.read(gate.Page); !strings.Contains(page, "| `make good` | good by hand |") {
		t.Errorf("page:\n%s", page)
	}
	b.write(gate.Store, "{")
	b.wants(b.r.page(), gate.Store)
}
