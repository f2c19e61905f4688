package mutants

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutants are the defects. The code that is replaced must stand in its file
// exactly once, so that a mutant cannot quietly stop being planted.
var mutants = []struct {
	name, file string
	edits      [][2]string
	tests      []string
}{
	{
		"a standby's counter is not ahead (I1)", "sync/engine/counters.go",
		[][2]string{{"v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, lead)", "v, fits := sadb.Ahead(w.sa.ESN(), w.sa.OSeq, 0*lead)"}},
		[]string{"./tests/simulation"},
	},
	{
		"a delete is dropped (I4)", "sync/engine/receiver.go",
		[][2]string{{"r.forgetSA(rec.SAKey)\n\t\tif _, ok := r.have[rec.SAKey]; ok && !r.countersOnly {", "if false {"}},
		[]string{"./tests/simulation"},
	},
	{
		"a term is ignored (I7)", "sync/engine/members.go",
		[][2]string{
			{" || ms.state.Term < g.rcv.pos.Term {", " {"},
			{"g.preparing || id.Term < g.rcv.pos.Term {", "g.preparing {"},
		},
		[]string{"./sync/engine"},
	},
	{
		"a snapshot sweeps before its end (I6)", "sync/engine/members.go",
		[][2]string{{"g.rcv.begin(msg.ID, msg.Seq, msg.SAs)\n", "g.rcv.begin(msg.ID, msg.Seq, msg.SAs)\n\t\t\te.exec(ctx, g, g.rcv.end(msg.Seq))\n\t\t\tg.rcv.inSnap = true\n"}},
		[]string{"./sync/engine", "./tests/simulation"},
	},
	{
		"the VIPs are taken before sasyncd is prepared (I11)", "carp/change.go",
		[][2]string{{"\t\t\tg.waiting[id] = true\n", "\t\t\t_ = id\n\t\t\tg.act(Action{Kind: ActPrepare, To: to, Term: g.term, For: limit, Reason: g.why})\n"}},
		[]string{"./tests/simulation"},
	},
}

func TestEachMutantIsCaught(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			file := filepath.Join(root, m.file)
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			planted := string(src)
			for _, e := range m.edits {
				if n := strings.Count(planted, e[0]); n != 1 {
					t.Fatalf("%s: what the mutant replaces stands there %d times, want once:\n%s", m.file, n, e[0])
				}
				planted = strings.Replace(planted, e[0], e[1], 1)
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
			cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-overlay", overlay, "-failfast"}, m.tests...)...)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("not caught by %s", strings.Join(m.tests, " "))
			case strings.Contains(string(out), "[build failed]"):
				t.Errorf("does not compile:\n%s", out)
			}
		})
	}
}
