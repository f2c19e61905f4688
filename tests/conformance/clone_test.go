package conformance

import (
	"encoding/hex"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/corpus"
)

// TestCloneIsByteIdentical copies the whole corpus from one namespace to
// another by way of sadb types; what the kernel then dumps must be the same
// bytes but for tags and, within a second, dates.
func TestCloneIsByteIdentical(t *testing.T) {
	var snap *sadb.Snapshot
	var sas, policies [][]byte
	if !t.Run("source", func(t *testing.T) {
		enterNS(t)
		addCorpus(t)
		k := openKernel(t)
		addHoles(t, k)
		var err error
		if snap, err = k.Dump(t.Context()); err != nil {
			t.Fatal(err)
		}
		sas, policies = rawSAs(t), rawPolicies(t)
	}) {
		return // there is nothing to clone
	}
	t.Run("clone", func(t *testing.T) {
		enterNS(t)
		k := openKernel(t)
		mustApply(t, k, cloneOps(snap)...)
		compareRaw(t, "sa", rawSAs(t), sas, normalSA)
		compareRaw(t, "policy", rawPolicies(t), policies, normalPolicy)

		again, err := k.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, sa := range again.SAs {
			if !sa.Replicable() {
				continue // the kernel's own, which is as old as this kernel says
			}
			if was := snap.SAs[i]; sa.Used != was.Used || !near(sa.Age, was.Age) || !near(sa.UseAge, was.UseAge) {
				t.Errorf("%s: age %d, used %v %d, want %d, %v %d", sa.Key, sa.Age, sa.Used, sa.UseAge, was.Age,
					was.Used, was.UseAge)
			}
			if sa.Replicable() && !xfrm.IsOurs(sa.Tag) {
				t.Errorf("%s: tag %#x is not ours", sa.Key, sa.Tag)
			}
		}
		for _, p := range again.Policies {
			if !p.Socket && !xfrm.IsOurPolicy(p.Index) {
				t.Errorf("%s: index %#x is not ours", p.Key, p.Index)
			}
		}
	})
}

// near reports whether an age is what it was, give or take the time that the
// test takes, and the second by which a fraction that was cut off makes it less.
func near(now, was uint64) bool { return now+1 >= was && now <= was+5 }

// addHoles gives some SAs windows and uses as traffic would.
func addHoles(t *testing.T, k *xfrm.Kernel) {
	snap, err := k.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sa := range snap.SAs {
		if sa.Seq == 0 {
			continue
		}
		c := *sa
		c.Bitmap = []uint32{0xdeadbeef, 0x0badcafe, 0x12345678, 0x9}[:max(1, sa.BitmapLen)]
		c.Bytes, c.Packets, c.Age, c.Used, c.UseAge = 123456, 789, 50, true, 40
		mustApply(t, k, sadb.Op{Kind: sadb.OpSetCounters, SA: &c})
	}
}

// cloneOps makes what a snapshot holds, oldest first: among SAs and policies that
// fit equally, the kernel prefers by age.
func cloneOps(snap *sadb.Snapshot) (ops []sadb.Op) {
	for _, sa := range slices.Backward(snap.SAs) {
		if sa.Replicable() {
			ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: sa})
		}
	}
	for _, p := range slices.Backward(snap.Policies) {
		if !p.Socket {
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
		}
	}
	return ops
}

func normalSA(raw []byte) {
	clear(raw[204:208]) // seq
	clear(raw[176:192]) // dates, checked as ages
}

func normalPolicy(raw []byte) {
	clear(raw[156:160]) // index
	clear(raw[136:152]) // policies always start anew
}

// addCorpus installs all of the corpus.
func addCorpus(t *testing.T) {
	t.Helper()
	var batch strings.Builder
	for _, c := range corpus.SAs() {
		batch.WriteString("xfrm state add " + c.Args + "\n")
	}
	for _, c := range corpus.Policies() {
		batch.WriteString("xfrm policy add " + c.Args + "\n")
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}

func compareRaw(t *testing.T, what string, got, want [][]byte, normal func([]byte)) {
	t.Helper()
	keys := func(list [][]byte) (out []string) {
		for _, raw := range list {
			normal(raw)
			out = append(out, hex.EncodeToString(raw))
		}
		return out
	}
	g, w := keys(got), keys(want)
	if !slices.Equal(g, w) {
		t.Errorf("%s: %d in the copy, %d in the original", what, len(g), len(w))
		for _, x := range w {
			if !slices.Contains(g, x) {
				t.Errorf("%s missing: %s", what, x)
			}
		}
		for _, x := range g {
			if !slices.Contains(w, x) {
				t.Errorf("%s too much: %s", what, x)
			}
		}
	}
}
