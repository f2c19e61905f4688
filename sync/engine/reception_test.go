package engine

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// losing has the world lose what f says, from now on; nil ends that.
func (w *world) losing(f func(from int, m wire.Message) bool) {
	w.t.Helper()
	set := func() { w.lose = f }
	for _, n := range w.nodes { // while no engine sends
		do := set
		set = func() {
			if err := n.engine.do(context.Background(), do); err != nil {
				w.t.Error(err)
			}
		}
	}
	set()
}

// TestRecordLostBetweenPrepareAndState: what the master sends while a node is
// about to take over is not taken. When the take-over does not come, the node
// asks for it, however the preparation ended.
func TestRecordLostBetweenPrepareAndState(t *testing.T) {
	prepare := ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
	state := ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleBackup, Term: 1, VIPs: simVIPs,
		Reason: "snapshot"}
	for name, after := range map[string][]ElectorEvent{
		"cancelled":                {{Kind: ElectorCancel, Group: simGroup}},
		"state without a word":     {state},
		"elector died and is back": {{Kind: ElectorLost, Group: simGroup, Reason: "killed"}, state},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := pair(t, 2)
				defer w.stop()
				b := w.nodes[1]
				b.elector.events <- prepare
				synctest.Wait()
				fresh := tunnel(r, 1, false)[0]
				w.nodes[0].kernel.foreign(fresh)
				time.Sleep(100 * time.Millisecond)
				if b.kernel.has(fresh.SA.Key) {
					t.Fatal("a node that is about to be MASTER took what the old master says")
				}
				snapshots := w.counts(0).SnapshotsSent
				for _, ev := range after {
					b.elector.events <- ev
				}
				time.Sleep(100 * time.Millisecond)
				if s := b.status(); !b.kernel.has(fresh.SA.Key) || !s.InSync {
					t.Errorf("100 ms after it ended: the SA is there: %v, in sync %v (%s), change %d of %d",
						b.kernel.has(fresh.SA.Key),
						s.InSync, s.Why, s.Seq, w.nodes[0].status().Seq)
				}
				if n := w.counts(0).SnapshotsSent - snapshots; n != 0 {
					t.Errorf("%d snapshots for what the journal holds", n)
				}
			})
		})
	}
}

// TestMissedChangeIsAskedFor: a change that was lost on its way shows by the
// number of the next one, or by the next audit, and comes over the same session.
func TestMissedChangeIsAskedFor(t *testing.T) {
	for name, within := range map[string]time.Duration{"shown by the next change": 50 * time.Millisecond,
		"shown by the audit": replica.DigestEvery + time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := pair(t, 2)
				defer w.stop()
				time.Sleep(10 * time.Second)
				b, session := w.nodes[1], w.session(0, 1)
				before := w.counts(0)
				w.losing(func(from int, m wire.Message) bool { _, change := m.(*wire.Batch); return change })
				lost := tunnel(r, 1, false)[0]
				w.nodes[0].kernel.foreign(lost)
				time.Sleep(20 * time.Millisecond)
				w.losing(nil)
				if b.kernel.has(lost.SA.Key) {
					t.Fatal("nothing was lost")
				}
				if name == "shown by the next change" {
					w.nodes[0].kernel.foreign(tunnel(r, 1, false)[0])
				}
				time.Sleep(within)
				if s := b.status(); !b.kernel.has(lost.SA.Key) || !s.InSync {
					t.Errorf("%v later: the SA is there: %v, in sync %v (%s)", within, b.kernel.has(lost.SA.Key),
						s.InSync, s.Why)
				}
				w.equal("after the change was asked for")
				after := w.counts(0)
				if session.isClosed() || after.SnapshotsSent != before.SnapshotsSent || after.Resumes != before.Resumes+
					1 {
					t.Errorf("session closed: %v, snapshots %d, resumes %d; want the journal over the same session",
						session.isClosed(),
						after.SnapshotsSent-before.SnapshotsSent, after.Resumes-before.Resumes)
				}
			})
		})
	}
}

// TestNotInSyncWhileAChangeIsMissing: between the proof that a change is missing
// and its arrival a standby does not say that it is in sync.
func TestNotInSyncWhileAChangeIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 2)
		defer w.stop()
		var deaf atomic.Bool // the master hears no request
		w.losing(func(from int, m wire.Message) bool {
			switch m.(type) {
			case *wire.Batch:
				return !deaf.Load()
			case *wire.Request:
				return deaf.Load()
			}
			return false
		})
		w.nodes[0].kernel.foreign(tunnel(r, 1, false)[0])
		synctest.Wait()
		deaf.Store(true)
		w.nodes[0].kernel.foreign(tunnel(r, 1, false)[0])
		time.Sleep(50 * time.Millisecond)
		s := w.nodes[1].status()
		if s.InSync || !strings.Contains(s.Why, "missed") {
			t.Errorf("a change is missing: in sync %v (%s)", s.InSync, s.Why)
		}
		w.losing(nil)
		time.Sleep(replica.AskAgain + time.Second)
		if s := w.nodes[1].status(); !s.InSync {
			t.Errorf("after the question could be heard: %s", s.Why)
		}
		w.equal("after the question could be heard")
	})
}

// TestSilentStreamIsNotInSync: a session that stands while nothing comes of the
// stream does not make a standby ready for ever.
func TestSilentStreamIsNotInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 2)
		defer w.stop()
		b := w.nodes[1]
		w.losing(func(from int, m wire.Message) bool {
			switch m.(type) {
			case *wire.Batch, *wire.Counters, *wire.Digest:
				return from == 0
			}
			return false
		})
		time.Sleep(replica.LagLimit - 2*time.Second)
		if s := b.status(); !s.InSync {
			t.Errorf("after a short silence: not in sync (%s)", s.Why)
		}
		w.nodes[0].kernel.foreign(tunnel(r, 1, false)[0])
		time.Sleep(4 * time.Second)
		if s := b.status(); s.InSync || !strings.Contains(s.Why, "for more than 10s") {
			t.Errorf("after a silence of more than %v: in sync %v (%s)", replica.LagLimit, s.InSync, s.Why)
		}
		// The end of the session does not turn an old picture into a new one.
		w.cut(0, 1)
		time.Sleep(200 * time.Millisecond)
		if s := b.status(); s.Why == "complete when contact was lost" {
			t.Error("what it held was old when contact was lost, and it says that it was complete")
		}
		w.losing(nil)
		w.connect(0, 1)
		time.Sleep(time.Second)
		if s := b.status(); !s.InSync {
			t.Errorf("the stream comes again: not in sync (%s)", s.Why)
		}
		w.equal("after the stream came again")
	})
}

// TestStandbyThatLagsIsNotReady: a master believes a standby's word no longer
// than the standby confirms what it was sent.
func TestStandbyThatLagsIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 2)
		defer w.stop()
		a := w.nodes[0]
		ready := func() bool {
			a.elector.mu.Lock()
			defer a.elector.mu.Unlock()
			return a.elector.ready[simGroup].PeerReady
		}
		if !ready() || !a.status().Standbys[0].InSync {
			t.Fatalf("before: %+v", a.status().Standbys)
		}
		w.losing(func(from int, m wire.Message) bool { _, ack := m.(*wire.Ack); return ack })
		a.kernel.foreign(tunnel(r, 1, false)[0])
		time.Sleep(replica.LagLimit + time.Second)
		if s := a.status().Standbys[0]; ready() || s.InSync {
			t.Errorf("unconfirmed for %.0f s: ready %v, in sync %v", s.Lag, ready(), s.InSync)
		}
		w.losing(nil)
		a.kernel.foreign(tunnel(r, 1, false)[0])
		time.Sleep(time.Second)
		if s := a.status().Standbys[0]; !ready() || !s.InSync {
			t.Errorf("confirmed again, %.0f s behind: ready %v, in sync %v", s.Lag, ready(), s.InSync)
		}
	})
}

// TestNotInSyncBehindAnotherStandby: of a master that died while it told its
// standbys something, the one that did not hear it says at once that it lacks it.
func TestNotInSyncBehindAnotherStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 2)
		defer w.stop()
		g := w.nodes[1].engine.order[0]
		now := time.Now()
		other := &member{session: w.session(1, 0), hello: &wire.Hello{Node: wire.NodeID{9}},
			groups: map[string]*membership{}}
		check := func(more uint64, want bool) {
			t.Helper()
			var got Readiness
			if err := w.nodes[1].engine.do(t.Context(), func() {
				have := g.rcv.Pos()
				have.Seq += more
				other.groups[simGroup] = &membership{state: wire.GroupState{Name: simGroup, Role: wire.RoleBackup,
					Term: 1, Have: have}}
				w.nodes[1].engine.members[&simSession{}] = other
				got = w.nodes[1].engine.readiness(g, now)
			}); err != nil {
				t.Fatal(err)
			}
			if got.InSync != want || got.Behind == want {
				t.Errorf("another standby holds %d changes more: %+v", more, got)
			}
		}
		w.cut(0, 1)
		check(0, true)
		check(1, false)
		if err := w.nodes[1].engine.do(t.Context(), func() {
			for s, m := range w.nodes[1].engine.members {
				if m == other {
					delete(w.nodes[1].engine.members, s)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFollowsTheLaterMaster: of two masters a standby takes the stream of the one
// with the higher term, whichever has the lower node id.
func TestFollowsTheLaterMaster(t *testing.T) {
	for later := range 2 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3)
			defer w.stop()
			for i, n := range w.nodes {
				n.kernel.foreign(tunnel(rand.New(rand.NewPCG(uint64(i), 1)), i, false)...)
				n.boot(uint64(100 + i))
			}
			w.nodes[later].role(wire.RoleMaster, 2)
			w.nodes[1-later].role(wire.RoleMaster, 1)
			w.nodes[2].role(wire.RoleBackup, 0)
			time.Sleep(time.Second)
			w.connect(0, 2)
			w.connect(1, 2)
			time.Sleep(2 * time.Second)
			if got, want := w.nodes[2].status().Following, w.session(2, later).Peer(); got != want {
				t.Errorf("node %d is master in the later term: the standby follows %q, want %q", later, got, want)
			}
			if a, b := w.nodes[later].kernel.text(), w.nodes[2].kernel.text(); a != b {
				t.Errorf("node %d is master in the later term, the standby has\n%s\nwant\n%s", later, b, a)
			}
		})
	}
}

// TestLateHandoverIsNotBelieved: the word of a mastership that is over orders no
// take-over.
func TestLateHandoverIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 2)
		defer w.stop()
		s := w.session(0, 1)
		s.Send(&wire.Handover{Group: simGroup, Term: 0})
		time.Sleep(100 * time.Millisecond)
		if got := w.nodes[1].elector.takeovers(); len(got) != 0 {
			t.Errorf("took over for a hand-over of term 0: %v", got)
		}
		s.Send(&wire.Handover{Group: simGroup, Term: 1})
		time.Sleep(100 * time.Millisecond)
		if got := w.nodes[1].elector.takeovers(); len(got) != 1 {
			t.Errorf("did not take over for that of the present term: %v", got)
		}
	})
}
