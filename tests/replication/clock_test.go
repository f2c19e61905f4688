package replication

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
)

// stepClock moves the wall clock, of all nodes, as there is one kernel.
func stepClock(t *testing.T, by time.Duration) {
	t.Helper()
	now := time.Now().Add(by)
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatalf("set the clock: %v", err)
	}
}

// TestClockStep moves the wall clock an hour on, back, further back, and on:
// the kernel computes lifetimes from dates, and yet no SA of the standby ends
// early. The lifetimes are short enough that one that is not corrected ends at
// the kernel's next look, which each change of limits brings.
func TestClockStep(t *testing.T) {
	if !harness.Guest() {
		t.Log("the clock of a machine in use is left alone: stepping the daemon's clock is tested in sync/engine")
		return
	}
	r := newRand(t)
	c := cluster.New(t, 2, 1)
	c.Start()
	m, s := c.Master(), c.Nodes[1]
	list := cluster.SAs(r, 20)
	for _, sa := range list {
		sa.Limits.SoftAdd, sa.Limits.HardAdd = 1000, 1200
	}
	before := time.Now() // with a monotonic reading
	m.Apply(sadb.OpAddSA, list...)
	c.WaitEqual(cluster.SyncLimit, s)
	// The master's kernel has no such care: the first look at lifetimes of both,
	// one second after the addition, must be over.
	equal := time.Now() // an age does not count the way to the standby, which a slow machine makes long
	c.Eventually(3*time.Second, "the kernel's first look",
		func() bool { return time.Since(equal) > harness.Scaled(1200*time.Millisecond) })
	for i, by := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour} {
		stepClock(t, by)
		var wrong string
		defer func() {
			if t.Failed() {
				t.Log(wrong)
			}
		}()
		c.Eventually(5*time.Second, "ages to be right again", func() bool {
			// Cut to seconds by the master's kernel, by what has passed since, by the
			// date in the standby's kernel, and when that is read.
			least := time.Since(equal) - 4*time.Second
			list := s.Dump().SAs
			most := time.Since(before) + 2*time.Second
			for _, sa := range list {
				if age := time.Duration(sa.Age) * time.Second; age > most || age < least {
					wrong = fmt.Sprintf("after a step of %v: %v has an age of %v, want %v to %v", by, sa.Key, age,
						least, most)
					return false
				}
			}
			return true
		})
		// New limits make the standby's kernel look at lifetimes within a second.
		var update []*sadb.SA
		for _, sa := range s.Dump().SAs {
			u := *sa
			u.Limits.HardAdd = 1300 + uint64(i)
			update = append(update, &u)
		}
		s.Apply(sadb.OpUpdateSA, update...)
		time.Sleep(1500 * time.Millisecond)
		if n := len(s.Dump().SAs); n != len(list) {
			t.Fatalf("%d SAs on the standby after a step of %v, want %d", n, by, len(list))
		}
	}
	if n := len(s.Status().Members); n != 1 {
		t.Errorf("%d sessions after all steps, want 1", n)
	}
	m.Apply(sadb.OpAddSA, cluster.SAs(r, 5)...)
	c.WaitEqual(5*time.Second, s)
}
