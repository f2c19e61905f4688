package replication

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
)

// TestFlushModes: `startup` removes from a standby what the master has not,
// `sync` does not; both forward a flush, when the master still lives two
// seconds later; `never` keeps what a flush takes, and forwards all else.
func TestFlushModes(t *testing.T) {
	for _, mode := range []struct {
		name            string
		sweeps, forward bool
	}{{"startup", true, true}, {"sync", false, true}, {"never", false, false}} {
		t.Run(mode.name, func(t *testing.T) {
			r := newRand(t)
			c := cluster.New(t, 2, 1)
			m, s := c.Master(), c.Nodes[1]
			for _, nd := range c.Nodes {
				nd.Extra = "flushmode " + mode.name
			}
			s.Apply(sadb.OpAddSA, cluster.SAs(r, 3)...) // the master does not know them
			strays := 3
			if mode.sweeps {
				strays = 0
			}
			list := cluster.SAs(r, 50)
			m.Apply(sadb.OpAddSA, list...)
			c.Start()
			count := func() int { return len(s.Dump().SAs) }
			c.Eventually(5*time.Second, "the standby to hold what is to be",
				func() bool { return count() == 50+strays })

			m.Run("ip xfrm state flush")
			flushed := time.Now()
			if mode.forward {
				c.Eventually(5*time.Second, "the flush to be forwarded", func() bool { return count() == strays })
				if took := time.Since(flushed); took < 1500*time.Millisecond {
					t.Errorf("forwarded after %v, too soon to know whether the master lives", took)
				}
			} else {
				// Longer than deletions are held, and an audit.
				time.Sleep(4500 * time.Millisecond)
				if n := count(); n != 50+strays {
					t.Errorf("%d SAs after the flush, want %d", n, 50+strays)
				}
			}
			kept := count()
			// All else goes on.
			fresh := cluster.SAs(r, 20)
			m.Apply(sadb.OpAddSA, fresh...)
			c.Eventually(10*time.Second, "new SAs to arrive", func() bool { return count() == kept+20 })
			m.Apply(sadb.OpDeleteSA, fresh[:5]...)
			c.Eventually(5*time.Second, "deletions to arrive", func() bool { return count() == kept+15 })
		})
	}
}
