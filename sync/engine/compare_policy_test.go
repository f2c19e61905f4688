package engine

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/compare"
	"sasyncd/sync/sadb"
)

// TestCompareSeesLevelsAndForwarding: a policy that lets plaintext pass on one
// gateway only, and one for forwarded packets that is missing there, are found by
// both comparisons.
func TestCompareSeesLevelsAndForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 5)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		if err := b.engine.do(t.Context(), func() { b.engine.cfg.Audit = time.Hour }); err != nil {
			t.Fatal(err)
		}
		ops := tunnel(r, 200, false)
		a.kernel.foreign(ops...)
		time.Sleep(time.Second)
		in, fwd := ops[3].Policy, ops[4].Policy
		lax := *in
		lax.Templates = slices.Clone(in.Templates)
		lax.Templates[0].Optional = true
		w.silently(b, func() {
			b.kernel.foreign(sadb.Op{Kind: sadb.OpDeletePolicy, Policy: in}, sadb.Op{Kind: sadb.OpAddPolicy,
				Policy: &lax},
				sadb.Op{Kind: sadb.OpDeletePolicy, Policy: fwd})
		})
		published, err := b.engine.Diff(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		peers, err := b.engine.Compare(t.Context(), name0)
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]compare.Difference{published, peers} {
			how := map[string]string{}
			for _, d := range list {
				how[d.Item] = d.How
			}
			if len(list) != 2 || how[in.Key.String()] != "differs" || how[fwd.Key.String()] != "missing" {
				t.Errorf("differences: %+v", list)
			}
		}
		for _, d := range peers {
			if d.How == "differs" && (len(d.Fields) != 1 || d.Fields[0].Field != "templates" ||
				!strings.Contains(d.Fields[0].Here, "level use") || !strings.Contains(d.Fields[0].There,
				"level require")) {
				t.Errorf("fields: %+v", d.Fields)
			}
		}
	})
}
