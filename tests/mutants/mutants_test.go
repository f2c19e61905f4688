package mutants

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/reliability"
)

// all plants the many, too, which take a minute: "make mutants".
var all = flag.Bool("all", false, "plant all mutants")

// version is of what is tested, for the table in docs/reliability.md.
var version = flag.String("version", "unknown", "of what is tested, for the report")

// mutant is a defect. The code that is replaced must stand in its file exactly
// once, so that a mutant cannot quietly stop being planted.
type mutant struct {
	invariant, name, file string
	edits                 [][2]string
	pkg, by               string // the package and the name of the test that has to fail
	few                   bool   // planted in "make test"
}

var mutants = []mutant{
	{
		"I1", "a standby's counter is not ahead", "sync/replica/counters.go",
		[][2]string{{"v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, lead)",
			"v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, 0*lead)"}},
		"./tests/simulation", "TestOneFaultAtATime", false,
	},
	{
		"I1", "no counter of the master is taken", "sync/replica/counters.go",
		[][2]string{{"for _, e := range entries {", "for _, e := range entries[:0] {"}},
		"./sync/engine", "TestFailoversNeverRepeatANumber", true,
	},
	{
		"I1", "no counter of the master is taken, whole gateways", "sync/replica/counters.go",
		[][2]string{{"for _, e := range entries {", "for _, e := range entries[:0] {"}},
		"./tests/simulation", "TestOneFaultAtATime", false,
	},
	{
		"I1", "a handle frees a place in the table of another stream", "sync/replica/handles.go",
		[][2]string{{"if w.handle.table == t.table {", "if true {"}},
		"./sync/engine", "TestFailoversNeverRepeatANumber", false,
	},
	{
		"I1", "a handle frees a place in the table of another stream, whole gateways", "sync/replica/handles.go",
		[][2]string{{"if w.handle.table == t.table {", "if true {"}},
		"./tests/simulation", "TestOneFaultAtATime", false,
	},
	{
		"I1", "an ex-master does not raise its counters", "sync/replica/raise.go",
		[][2]string{{"w.short = !fits; v <= h.oseq {", "w.short = !fits; true {"}},
		"./sync/engine", "TestSuccessorThatIsNotHeard", false,
	},
	{
		"I1", "an ex-master whose reading failed does not raise its counters", "sync/engine/role.go",
		[][2]string{{"not ready until it succeeds\", \"group\", g.name, \"err\", err)\n",
			"not ready until it succeeds\", \"group\", g.name, \"err\", err)\n\t\tg.raising = nil\n"}},
		"./sync/engine", "TestExMasterRetires", false,
	},
	{
		"I1", "a process without memory does not raise what it finds", "sync/engine/raise.go",
		[][2]string{{"case pos.Term == 0 && !g.raises.unread:", "case false:"}},
		"./tests/simulation", "TestExMasterForgets", false,
	},
	{
		"I1", "an election without terms is answered by raising the counters without end", "sync/engine/raise.go",
		[][2]string{{"g.raises.unread = true\n", "\n"}},
		"./sync/engine", "TestFirstMastershipWithoutTerms", false,
	},
	{
		"I11", "the fence beside another election opens before sasyncd is prepared", "cmd/sasyncd/tracker/machine.go",
		[][2]string{{"m.asked++\n\treturn []action{m.event(", "m.asked++\n\treturn []action{{unfence: true}, m.event("}},
		"./tests/simulation", "TestWithoutTerms", false,
	},
	{
		"I1", "a standby that is to be MASTER in the middle of a snapshot does not raise what it was told",
		"sync/engine/raise.go",
		[][2]string{{"case pos.Term > g.raises.bumped && !pos.Complete:", "case false:"}},
		"./sync/engine", "TestTakeoverDuringASnapshot", false,
	},
	{
		"I1", "what moves during a snapshot is not sent after it", "sync/replica/follower.go",
		[][2]string{{"\tf.sentEpoch = p.epoch\n\tf.ofSAs", "\tf.sentEpoch = p.epoch + 1<<40\n\tf.ofSAs"}},
		"./sync/engine", "TestCountersThatMoveDuringASnapshot", false,
	},
	{
		"I5", "half of a flush is forwarded", "sync/replica/cover.go",
		[][2]string{{"if !e.covers {\n\t\treturn\n\t}\n\tif e.older", "if true {\n\t\treturn\n\t}\n\tif e.older"}},
		"./tests/simulation", "TestFlushes", false,
	},
	{
		"I2", "a master collects SAs that it has not imported", "sync/replica/superseded.go",
		[][2]string{{"if !e.imported || e.retained ||", "if e.retained ||"}},
		"./sync/engine", "TestCollectAfterTakeover", false,
	},
	{
		"I3", "addresses are given up without a fence", "carp/engine/worker.go",
		[][2]string{{"errors.Join(e.deps.Fence.Set(t.all...), e.deps.Addresses.Release(t.vips)",
			"errors.Join(e.deps.Addresses.Release(t.vips)"}},
		"./carp/engine", "TestWorkerOrder", false,
	},
	{
		"I3", "a master resigns without its fence", "carp/change.go",
		[][2]string{{"g.operate(now, ActFence)\n", "g.operate(now, ActRelease)\n"}},
		"./carp", "TestDemotionHandsOverToReadyPeer", false,
	},
	{
		"I4", "a delete is dropped", "sync/replica/receiver.go",
		[][2]string{{"r.forgetSA(rec.SAKey)\n\t\tif _, ok := r.have[rec.SAKey]; ok && !r.CountersOnly {",
			"if false {"}},
		"./tests/simulation", "TestOneFaultAtATime", false,
	},
	{
		"I5", "a deletion that uncovers traffic is not held back", "sync/replica/holdback.go",
		[][2]string{{"if item(); !now.Before(t) {\n\t\t\tif m.SAs", "if item(); !t.IsZero() {\n\t\t\tif m.SAs"}},
		"./sync/engine", "TestDeletionThatUncoversIsHeldBack", false,
	},
	{
		"I6", "a snapshot sweeps before its end", "sync/engine/members.go",
		[][2]string{{"g.rcv.BeginSnapshot(msg.ID, msg.Seq, msg.SAs, msg.Policies)\n",
			"g.rcv.BeginSnapshot(msg.ID, msg.Seq, msg.SAs, msg.Policies)\n\t\t\te.execAll(ctx, g, " +
				"g.rcv.EndSnapshot(msg.Seq))\n\t\t\tg.rcv.BeginSnapshot(msg.ID, msg.Seq, msg.SAs, msg.Policies)\n"}},
		"./sync/engine", "TestSnapshotCutShortDeletesNothing", false,
	},
	{
		"I7", "a term is ignored", "sync/engine/follow.go",
		[][2]string{
			{" || ms.state.Term < g.rcv.Pos().Term {", " {"},
			{" || id.Term < g.rcv.Pos().Term {", " {"},
		},
		"./sync/engine", "TestOlderNeverOverrides", true,
	},
	{
		"I8", "any answer to the challenge is right", "sync/channel/preface.go",
		[][2]string{{"if hmac.Equal(want[:], answer) {", "if hmac.Equal(want[:], want[:]) {"}},
		"./sync/channel", "TestStrangerSeesTheChallengeAndTheEnd", false,
	},
	{
		"I9", "a key is printed", "sync/sadb/secret.go",
		[][2]string{{"func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }",
			"func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, \"%x\", s.b) }"}},
		"./sync/sadb", "TestSecretNeverPrints", false,
	},
	{
		"I10", "a takeover reads all SAs before the addresses", "sync/engine/role.go",
		[][2]string{{"g.rcv.Reception().Close()\n",
			"g.rcv.Reception().Close()\n\t_, _ = e.dumpNow(context.Background())\n"}},
		"./sync/engine", "TestPrepareIsConstantWork", false,
	},
	{
		"I11", "the VIPs are taken before sasyncd is prepared", "carp/change.go",
		[][2]string{{"\t\t\tg.step.waiting[id] = true\n", "\t\t\t_ = id\n"}},
		"./tests/simulation", "TestOneFaultAtATime", false,
	},
	{
		"I11", "a backup without sasyncd takes over", "carp/client.go",
		[][2]string{
			{"if name := g.missing(); name != \"\" {\n\t\treturn \"waiting for \" + name\n\t}\n\tif g.unguarded() " +
				"{\n\t\treturn \"waiting for \" + FenceClient\n\t}\n\tif g.inSync() {", "if true {"},
		},
		"./carp", "TestGroupTakeoverRefused", false,
	},
	{
		"I18", "a standby that is cut off from the MASTER takes over alone", "sync/engine/hints.go",
		[][2]string{{"return !h.over\n", "return false\n"}},
		"./sync/engine", "TestCutOffFromTheMaster", false,
	},
	{
		"I18", "a stale hint keeps a group without a MASTER", "sync/engine/hints.go",
		[][2]string{{" || x.Age > hintFresh", ""}, {"h.over = h.over || now.Sub(h.since) >= hintLimit\n", ""}},
		"./sync/engine", "TestHintsDelay", false,
	},
	{
		"I12", "policies are not replicated, so that a new master sends in the clear", "sync/replica/publisher.go",
		[][2]string{{"return p.append(now, wire.Record{Kind: wire.PutPolicy, Policy: pol}), true",
			"return wire.Record{}, false"}},
		"./sync/engine", "TestDeletionThatUncoversIsHeldBack", false,
	},
	{
		"I12", "a gateway that has booted forwards before it has policies", "carp/engine/hold.go",
		[][2]string{{"if len(g.cfg.Require) == 0 || protected && !unfinished {",
			"if len(g.cfg.Require) == 0 || !unfinished {"}},
		"./carp/engine", "TestHoldAtStart", false,
	},
	{
		"I12", "a master forwards before the last policy is negotiated", "carp/engine/hold.go",
		[][2]string{{"case s.Loading || !master && !s.InSync:", "case !master && !s.InSync:"}},
		"./carp/engine", "TestHoldOfABackup", false,
	},
}

// plant returns a mutant's file as it is with the defect.
func plant(t *testing.T, root string, m mutant) (file, planted string) {
	t.Helper()
	file = filepath.Join(root, m.file)
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	planted = string(src)
	for _, e := range m.edits {
		if n := strings.Count(planted, e[0]); n != 1 {
			t.Fatalf("%s: what the mutant replaces stands there %d times, want once:\n%s", m.file, n, e[0])
		}
		planted = strings.Replace(planted, e[0], e[1], 1)
	}
	return file, planted
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestEachInvariantHasAMutant, which can be planted.
func TestEachInvariantHasAMutant(t *testing.T) {
	root := repository(t)
	have := map[string]bool{}
	for _, m := range mutants {
		plant(t, root, m)
		if m.by == "" || m.pkg == "" {
			t.Errorf("%s: no test is named that has to fail", m.name)
		}
		have[m.invariant] = true
	}
	for n := 1; n <= 12; n++ {
		if i := fmt.Sprintf("I%d", n); !have[i] {
			t.Errorf("no mutant switches off what keeps %s", i)
		}
	}
}

// TestEachMutantIsCaught plants one defect after the other. A named test, which
// passes without it, has to fail.
func TestEachMutantIsCaught(t *testing.T) {
	root := repository(t)
	sound := make(map[[2]string]bool) // tests that pass without any defect
	for _, m := range mutants {
		if !m.few && !*all {
			continue
		}
		t.Run(m.name+" ("+m.invariant+")", func(t *testing.T) {
			file, planted := plant(t, root, m)
			if test := [2]string{m.pkg, m.by}; !sound[test] {
				if v, out := judge(t, root, m, ""); v != notCaught {
					t.Fatalf("without the defect: %s\n%s", v, out)
				}
				sound[test] = true
			}
			dir := t.TempDir()
			changed := filepath.Join(dir, filepath.Base(m.file))
			overlay := filepath.Join(dir, "overlay.json")
			list, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{changed: planted, overlay: string(list)} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v, out := judge(t, root, m, overlay)
			if v != caught {
				t.Errorf("%s by %s of %s\n%s", v, m.by, m.pkg, out)
			}
			if *all {
				res := &reliability.Mutant{Invariant: m.invariant, Name: m.name, File: m.file, By: m.by, Verdict: v,
					Stamp: reliability.Stamp{Version: *version, Date: time.Now().UTC().Format(time.DateOnly)}}
				if err := reliability.Print(os.Stdout, res); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Verdicts on a test that was run. Only what the named test itself finds counts: a
// build that fails, a panic, a time-out or another test's failure prove nothing.
const (
	caught    = "caught"
	notCaught = "not caught"
	notRun    = "not run"
	disturbed = "the test did not come to its end"
)

// judge runs a mutant's test, with an overlay unless it is empty, and returns a
// verdict and the end of what was printed.
func judge(t *testing.T, root string, m mutant, overlay string) (verdict, out string) {
	t.Helper()
	if m.by == "" || m.pkg == "" {
		t.Fatalf("the mutant %q names no test", m.name)
	}
	args := []string{"test", "-json", "-failfast", "-count=1", "-run", "^" + m.by + "$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, m.pkg)...)
	cmd.Dir = root
	b, err := cmd.CombinedOutput()
	return verdictOf(m.by, string(b), err == nil)
}

// verdictOf judges by what "go test -json" printed and whether it succeeded.
func verdictOf(by, printed string, ok bool) (verdict, out string) {
	verdict = notRun
	var text strings.Builder
	for line := range strings.Lines(printed) {
		var ev struct{ Action, Test, Output string }
		if json.Unmarshal([]byte(line), &ev) != nil {
			text.WriteString(line) // of the compiler
			continue
		}
		text.WriteString(ev.Output)
		switch {
		case ev.Test != by:
		case ev.Action == "pass" && ok:
			verdict = notCaught
		case ev.Action == "fail":
			verdict = caught
		}
	}
	out = text.String()
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			verdict = disturbed
		}
	}
	return verdict, out[max(0, len(out)-4000):]
}

// TestVerdicts: what is no proof does not count as one.
func TestVerdicts(t *testing.T) {
	const run = `{"Action":"run","Test":"TestX"}` + "\n"
	for _, tc := range []struct {
		name, printed string
		ok            bool
		want          string
	}{
		{"it fails", run + `{"Action":"fail","Test":"TestX"}`, false, caught},
		{"it passes", run + `{"Action":"pass","Test":"TestX"}`, true, notCaught},
		{"another one fails", `{"Action":"fail","Test":"TestY"}`, false, notRun},
		{"a part of it has its name", `{"Action":"fail","Test":"TestY/TestX"}`, false, notRun},
		{"no test has its name", `{"Action":"output","Output":"testing: warning: no tests to run\n"}`, true, notRun},
		{"it is not compiled", "x.go:1:1: expected 'package'\n" + `{"Action":"fail"}`, false, notRun},
		{"it panics", run + `{"Action":"output","Test":"TestX","Output":"panic: nil map\n"}` + "\n" +
			`{"Action":"fail","Test":"TestX"}`, false, disturbed},
		{"it takes too long",
			run + `{"Action":"output","Test":"TestX","Output":"panic: test timed out after 10m0s\n"}` + "\n" +
				`{"Action":"fail","Test":"TestX"}`, false, disturbed},
	} {
		if got, _ := verdictOf("TestX", tc.printed, tc.ok); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
