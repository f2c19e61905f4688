package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestTermsOfAnElectionWithout: where the election numbers nothing, each
// mastership gets a term above all that were seen, so that the newest master is
// the one that is followed: over takeovers, restarts that forget everything,
// and splits.
func TestTermsOfAnElectionWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 5)
		defer w.stop()
		last := w.nodes[0].status().Term
		follows := func(when string, master int) {
			t.Helper()
			time.Sleep(5 * time.Second)
			m, s := w.nodes[master].status(), w.nodes[1-master].status()
			if m.Role != "MASTER" || m.Term <= last {
				t.Errorf("%s: node %d is %s in term %d, want MASTER above %d", when, master, m.Role, m.Term, last)
			}
			if !s.InSync || s.Why != "follows the master" || s.Term != m.Term {
				t.Errorf("%s: the standby, in term %d of %d: in sync %v, %s", when, s.Term, m.Term, s.InSync, s.Why)
			}
			w.equal(when)
			last = m.Term
		}
		for i := range 6 {
			old, next := i%2, 1-i%2
			w.nodes[old].role(wire.RoleBackup, 0)
			w.nodes[next].role(wire.RoleMaster, 0)
			follows("after a takeover", next)
			again := w.nodes[next].status().Term
			w.nodes[next].role(wire.RoleMaster, 0) // said again, as after a restart of the elector
			if got := w.nodes[next].status().Term; got != again {
				t.Errorf("the same mastership got term %d, had %d", got, again)
			}
		}
		// The master's sasyncd is restarted and has forgotten its terms.
		w.nodes[0].kill()
		w.nodes[0].boot(300)
		w.nodes[0].role(wire.RoleMaster, 0)
		w.connect(0, 1)
		follows("after a restart without memory", 0)
		if n := w.nodes[0].elector.resignations(); n != 0 {
			t.Errorf("the restarted master was told to resign %d times", n)
		}
		// A split in which each counts alone: the newer one stays.
		w.cut(0, 1)
		w.nodes[1].role(wire.RoleMaster, 0)
		time.Sleep(time.Second)
		w.connect(0, 1)
		time.Sleep(300 * time.Millisecond) // readiness is told within a tick
		if a, b := w.nodes[0].elector.resignations(), w.nodes[1].elector.resignations(); a == 0 || b != 0 {
			t.Errorf("node 0 was told to resign %d times, node 1, the newer, %d times", a, b)
		}
		if !w.ready(0).Master || !w.ready(1).Master {
			t.Error("the electors do not know of the other master")
		}
		w.nodes[0].role(wire.RoleBackup, 0)
		w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorHeard, Group: simGroup}
		follows("after a split", 1)
		if w.ready(1).Master {
			t.Error("the master's elector is told of another one")
		}
		// The election decides for the one that gave way.
		w.nodes[1].role(wire.RoleBackup, 0)
		time.Sleep(300 * time.Millisecond) // readiness is told within a tick
		if w.ready(0).Master {
			t.Error("the elector is told of a master that is none any more")
		}
		w.nodes[0].role(wire.RoleMaster, 0)
		follows("after the election's decision", 0)
	})
}

// ready is what a node's elector was told last.
func (w *world) ready(i int) Readiness {
	e := w.nodes[i].elector
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready[simGroup]
}
