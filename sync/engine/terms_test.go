package engine

import (
	"math/rand/v2"
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
			w.nodes[next].take(0)
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
		w.nodes[0].take(0)
		w.connect(0, 1)
		follows("after a restart without memory", 0)
		if n := w.nodes[0].elector.resignations(); n != 0 {
			t.Errorf("the restarted master was told to resign %d times", n)
		}
		// A split in which each counts alone: the newer one stays.
		w.cut(0, 1)
		w.nodes[1].take(0)
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
		w.nodes[0].take(0)
		follows("after the election's decision", 0)
	})
}

// TestFirstMastershipWithoutTerms: a node that has followed no stream is asked by an
// election that numbers nothing. It raises its counters once and answers each question
// once, also where the first was taken back.
func TestFirstMastershipWithoutTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		defer w.stop()
		n := w.nodes[0]
		ops := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)
		n.kernel.foreign(ops...)
		before := n.kernel.oseq(ops[0].SA.Key)
		n.boot(100)
		n.role(wire.RoleBackup, 0)
		time.Sleep(time.Second)
		n.elector.prepare(wire.RoleMaster, 0)
		time.Sleep(time.Second)
		raised := n.kernel.oseq(ops[0].SA.Key)
		if raised <= before {
			t.Errorf("prepared with a counter of %d, which the process before may have used", raised)
		}
		if got := n.elector.answered(); len(got) != 1 {
			t.Errorf("%d answers to the first question, want 1", len(got))
		}
		n.elector.events <- ElectorEvent{Kind: ElectorCancel, Group: simGroup}
		n.take(0)
		if now := n.kernel.oseq(ops[0].SA.Key); now != raised {
			t.Errorf("the counter was raised again, from %d to %d", raised, now)
		}
	})
}

// take makes a node MASTER as an election does: it asks first, and goes on when the
// node has answered, once.
func (n *simNode) take(term uint64) {
	n.w.t.Helper()
	n.elector.answered()
	n.elector.prepare(wire.RoleMaster, term)
	time.Sleep(time.Second)
	if got := n.elector.answered(); len(got) != 1 || got[0] != term {
		n.w.t.Errorf("node %d answers the election %v, want one answer for term %d", n.i, got, term)
	}
	n.role(wire.RoleMaster, term)
}

// ready is what a node's elector was told last.
func (w *world) ready(i int) Readiness {
	e := w.nodes[i].elector
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready[simGroup]
}
