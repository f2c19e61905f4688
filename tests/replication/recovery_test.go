package replication

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
)

// crowdSize is how many SAs recovery is shown with; fewer where each look at them, by the
// test as well, takes many times as long.
func crowdSize() int { return 10_000 / harness.Slow() }

// TestRecovery loses one thing after the other, and has the standby's tables
// be those of the master again.
func TestRecovery(t *testing.T) {
	r := newRand(t)
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	crowd := crowdSize()
	list := cluster.SAs(r, crowd)
	m.Apply(sadb.OpAddSA, list...)
	began := time.Now()
	c.Start()
	t.Logf("%d SAs by snapshot, with the start of all: %v", crowd, time.Since(began))
	c.WaitEqual(10*time.Second, s)

	t.Run("flush of the standby", func(t *testing.T) {
		before := s.Counts()
		s.Run("ip xfrm state flush")
		t.Logf("equal after %v", c.WaitEqual(10*time.Second, s))
		if n := s.Counts(); n.Repairs-before.Repairs != uint64(crowd) ||
			n.SnapshotsReceived != before.SnapshotsReceived {
			t.Errorf("%d repairs, %d snapshots, want %d and 0", n.Repairs-before.Repairs,
				n.SnapshotsReceived-before.SnapshotsReceived, crowd)
		}
		checkAhead(t, s.Name, m.Dump(), s.Dump())
	})
	t.Run("deletion on the standby", func(t *testing.T) {
		before := s.Counts()
		s.Apply(sadb.OpDeleteSA, list[77])
		t.Logf("equal after %v", c.WaitEqual(5*time.Second, s))
		c.Eventually(10*time.Second, "the repair to be counted",
			func() bool { return s.Counts().Repairs == before.Repairs+1 })
	})
	t.Run("events lost on the master", func(t *testing.T) {
		before := m.Counts()
		m.Pause()
		began := time.Now()
		overflow(t, m)
		t.Logf("120,000 changes in %v", time.Since(began))
		list = change(r, m, list, 200)
		m.Resume()
		t.Logf("equal after %v", c.WaitEqual(15*time.Second, s))
		c.Eventually(5*time.Second, "the loss of events to be noticed",
			func() bool { return m.Counts().Resyncs > before.Resyncs })
	})
	t.Run("ten seconds without a link", func(t *testing.T) {
		s.WaitInSync()
		sent, received := m.Counts(), s.Counts()
		tags := cluster.Tags(s.Dump())
		s.Cut(0)
		c.Eventually(6*time.Second, "both to notice", func() bool {
			return len(m.Status().Members) == 0 && len(s.Status().Members) == 0
		})
		cut := time.Now()
		list = change(r, m, list, 300)
		c.Eventually(11*time.Second, "ten seconds to pass", func() bool { return time.Since(cut) > 7*time.Second })
		s.Heal(0)
		t.Logf("equal after %v", c.WaitEqual(5*time.Second, s))
		now, then := m.Counts(), s.Counts()
		if now.SnapshotsSent != sent.SnapshotsSent || now.Resumes != sent.Resumes+1 {
			t.Errorf("%d snapshots and %d resumptions, want none and 1", now.SnapshotsSent-sent.SnapshotsSent,
				now.Resumes-sent.Resumes)
		}
		if then.Repairs != received.Repairs {
			t.Errorf("%d repairs", then.Repairs-received.Repairs)
		}
		kept := 0
		for k, tag := range cluster.Tags(s.Dump()) {
			if tags[k] == tag {
				kept++
			}
		}
		if kept != crowd+1-300 {
			t.Errorf("%d items were left alone, want %d", kept, crowd+1-300)
		}
	})
	t.Run("restart of the standby", func(t *testing.T) { restart(t, c, s) })
	t.Run("restart of the master", func(t *testing.T) { restart(t, c, m) })
}

// overflow makes more events than the paused daemon's buffer of 64 MiB holds,
// by the change that costs the kernel least.
func overflow(t *testing.T, nd *cluster.Node) {
	p := kerneltest.SamplePolicy(sadb.DirOut, "10.250.0.0/16", "10.251.0.0/16", "192.0.2.1", "198.51.100.1")
	for len(p.Templates) < 6 {
		p.Templates = append(p.Templates, p.Templates[0])
	}
	ops := slices.Repeat([]sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: p}}, 1000)
	for range 120 {
		if err := errors.Join(nd.Kernel.Apply(t.Context(), ops)...); err != nil {
			t.Fatalf("update a policy: %v", err)
		}
	}
}

// change replaces the first n SAs, adding before it deletes, as a rekey does.
// It returns the list with those that are new at its end.
func change(r *rand.Rand, nd *cluster.Node, list []*sadb.SA, n int) []*sadb.SA {
	fresh := cluster.SAs(r, n)
	for i, sa := range fresh {
		old := list[i]
		sa.Src, sa.Key.Dst, sa.Reqid, sa.Selector = old.Src, old.Key.Dst, old.Reqid, old.Selector
	}
	nd.Apply(sadb.OpAddSA, fresh...)
	nd.Apply(sadb.OpDeleteSA, list[:n]...)
	return append(list[n:], fresh...)
}

// restart stops and starts one daemon: no kernel loses or gains anything, and
// nothing has to be repaired.
func restart(t *testing.T, c *cluster.Cluster, nd *cluster.Node) {
	var before []map[string]uint32
	var repairs []uint64
	for _, x := range c.Nodes {
		before = append(before, cluster.Tags(x.Dump()))
		repairs = append(repairs, x.Counts().Repairs)
	}
	nd.Stop()
	nd.Start()
	for i, x := range c.Nodes {
		if x == nd {
			repairs[i] = 0
		}
	}
	for _, s := range c.Standbys() {
		s.WaitInSync()
	}
	// Long enough for an audit of all.
	dumps := nd.Counts().Dumps
	c.Eventually(10*time.Second, "the restarted daemon to have read its tables",
		func() bool { return nd.Counts().Dumps > dumps+1 })
	c.WaitEqual(10*time.Second, c.Standbys()...)
	for i, x := range c.Nodes {
		if !maps.Equal(before[i], cluster.Tags(x.Dump())) {
			t.Errorf("the tables of %s are others than before", x.Name)
		}
		if n := x.Counts().Repairs; n != repairs[i] {
			t.Errorf("%s repaired %d items", x.Name, n-repairs[i])
		}
	}
}
