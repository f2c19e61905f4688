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
	tests                 []string // arguments of "go test"
	few                   bool     // planted in "make test"
}

var mutants = []mutant{
	{
		"I1", "a standby's counter is not ahead", "sync/engine/counters.go",
		[][2]string{{"v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, lead)", "v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, 0*lead)"}},
		[]string{"./tests/simulation"}, false,
	},
	{
		"I2", "a master collects SAs that it has not imported", "sync/engine/collect.go",
		[][2]string{{"if !e.imported || e.ghost ||", "if e.ghost ||"}},
		[]string{"./sync/engine"}, false,
	},
	{
		"I3", "addresses are given up without a fence", "carp/engine/worker.go",
		[][2]string{{"errors.Join(e.deps.Fence.Set(t.all...), e.deps.Addresses.Release(t.vips)", "errors.Join(e.deps.Addresses.Release(t.vips)"}},
		[]string{"./carp/engine"}, false,
	},
	{
		"I3", "a master resigns without its fence", "carp/change.go",
		[][2]string{{"g.operate(ActFence)\n", "g.operate(ActRelease)\n"}},
		[]string{"./carp"}, false,
	},
	{
		"I4", "a delete is dropped", "sync/engine/receiver.go",
		[][2]string{{"r.forgetSA(rec.SAKey)\n\t\tif _, ok := r.have[rec.SAKey]; ok && !r.countersOnly {", "if false {"}},
		[]string{"./tests/simulation"}, false,
	},
	{
		"I5", "a deletion that uncovers traffic is not held back", "sync/engine/holdback.go",
		[][2]string{{"if !now.Before(t) {\n\t\t\tm.sas", "if !t.IsZero() {\n\t\t\tm.sas"}},
		[]string{"./sync/engine"}, false,
	},
	{
		"I6", "a snapshot sweeps before its end", "sync/engine/members.go",
		[][2]string{{"g.rcv.begin(msg.ID, msg.Seq, msg.SAs, msg.Policies)\n", "g.rcv.begin(msg.ID, msg.Seq, msg.SAs, msg.Policies)\n\t\t\te.exec(ctx, g, g.rcv.end(msg.Seq))\n\t\t\tg.rcv.inSnap = true\n"}},
		[]string{"./sync/engine", "./tests/simulation"}, false,
	},
	{
		"I7", "a term is ignored", "sync/engine/members.go",
		[][2]string{
			{" || ms.state.Term < g.rcv.pos.Term {", " {"},
			{"g.preparing || id.Term < g.rcv.pos.Term {", "g.preparing {"},
		},
		[]string{"./sync/engine"}, true,
	},
	{
		"I8", "any answer to the challenge is right", "sync/channel/preface.go",
		[][2]string{{"if hmac.Equal(want[:], answer) {", "if hmac.Equal(want[:], want[:]) {"}},
		[]string{"./sync/channel"}, false,
	},
	{
		"I9", "a key is printed", "sync/sadb/secret.go",
		[][2]string{{"func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }", "func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, \"%x\", s.b) }"}},
		[]string{"./sync/sadb"}, false,
	},
	{
		"I10", "a takeover reads all SAs before the addresses", "sync/engine/role.go",
		[][2]string{{"g.preparing, g.preparedAt = true, time.Now()\n", "g.preparing, g.preparedAt = true, time.Now()\n\t_, _ = e.dumpNow(context.Background())\n"}},
		[]string{"./sync/engine"}, false,
	},
	{
		"I11", "the VIPs are taken before sasyncd is prepared", "carp/change.go",
		[][2]string{{"\t\t\tg.waiting[id] = true\n", "\t\t\t_ = id\n"}},
		[]string{"./tests/simulation"}, false,
	},
	{
		"I11", "a backup without sasyncd takes over", "carp/client.go",
		[][2]string{
			{"if name := g.missing(); name != \"\" {\n\t\treturn \"waiting for \" + name\n\t}\n\tif g.unguarded() {\n\t\treturn \"waiting for \" + FenceClient\n\t}\n\tif g.inSync() {", "if true {"},
		},
		[]string{"./carp"}, false,
	},
	{
		"I12", "policies are not replicated, so that a new master sends in the clear", "sync/engine/publisher.go",
		[][2]string{{"return p.append(now, wire.Record{Kind: wire.PutPolicy, Policy: pol}), true", "return wire.Record{}, false"}},
		[]string{"./sync/engine"}, false,
	},
	{
		"I12", "a gateway that has booted forwards before it has policies", "carp/engine/hold.go",
		[][2]string{{"if len(g.cfg.Require) == 0 || protected && !unfinished {", "if len(g.cfg.Require) == 0 || !unfinished {"}},
		[]string{"./carp/engine"}, false,
	},
	{
		"I12", "a master forwards before the last policy is negotiated", "carp/engine/hold.go",
		[][2]string{{"case s.Loading || !master && !s.InSync:", "case !master && !s.InSync:"}},
		[]string{"./carp/engine"}, false,
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
		have[m.invariant] = true
	}
	for n := 1; n <= 12; n++ {
		if i := fmt.Sprintf("I%d", n); !have[i] {
			t.Errorf("no mutant switches off what keeps %s", i)
		}
	}
}

func TestEachMutantIsCaught(t *testing.T) {
	root := repository(t)
	for _, m := range mutants {
		if !m.few && !*all {
			continue
		}
		t.Run(m.name+" ("+m.invariant+")", func(t *testing.T) {
			file, planted := plant(t, root, m)
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
			cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-overlay", overlay, "-failfast"}, m.tests...)...)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			verdict := "caught"
			switch {
			case err == nil:
				verdict = "not caught"
				t.Errorf("not caught by %s", strings.Join(m.tests, " "))
			case strings.Contains(string(out), "[build failed]"):
				verdict = "does not compile"
				t.Errorf("does not compile:\n%s", out)
			}
			if *all {
				res := &reliability.Mutant{Invariant: m.invariant, Name: m.name, File: m.file, By: failed(string(out)), Verdict: verdict,
					Stamp: reliability.Stamp{Version: *version, Date: time.Now().UTC().Format(time.DateOnly)}}
				if err := reliability.Print(os.Stdout, res); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// failed names the tests that failed, by what "go test" printed.
func failed(out string) string {
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "---" && f[1] == "FAIL:" && !strings.HasPrefix(line, " ") {
			names = append(names, f[2])
		}
	}
	return strings.Join(names[:min(3, len(names))], ", ")
}
