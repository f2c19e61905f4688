package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/compare"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

const (
	name0 = "10.9.0.1" // what the others call the first node
	name1 = "10.9.0.2"
	name2 = "10.9.0.3"
)

func TestCompareWithAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 60)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		for from, peer := range map[*simNode]string{a: name1, b: name0} {
			if d, err := from.engine.Compare(t.Context(), peer); err != nil || len(d) != 0 {
				t.Fatalf("equal kernels differ: %v %v", d, err)
			}
		}
		// On the standby: one SA gone, one with another key and reqid, one too
		// many. The standby would heal within its audit, so its audits stop.
		if err := b.engine.do(t.Context(), func() { b.engine.cfg.Audit = time.Hour }); err != nil {
			t.Fatal(err)
		}
		ops := tunnel(r, 200, false)
		a.kernel.foreign(ops[0])
		time.Sleep(time.Second)
		changed := *ops[0].SA
		changed.AEAD = &sadb.Algorithm{Name: ops[0].SA.AEAD.Name, TruncBits: 128,
			Key: sadb.NewSecret([]byte("SECRETSECRETSECRETSE"))}
		changed.Reqid++
		extra := tunnel(r, 201, false)[0].SA
		w.silently(b, func() {
			b.kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: ops[0].SA}, sadb.Op{Kind: sadb.OpAddSA, SA: &changed},
				sadb.Op{Kind: sadb.OpAddSA, SA: extra})
		})
		d, err := a.engine.Compare(t.Context(), b.id.String())
		if err != nil || len(d) != 2 {
			t.Fatalf("differences: %+v, %v", d, err)
		}
		text := fmt.Sprintf("%+v %v", d, err)
		for _, x := range d {
			switch x.Item {
			case extra.Key.String():
				if x.How != "missing" {
					t.Errorf("what only the peer has is %q here", x.How)
				}
			case changed.Key.String():
				fields := map[string]compare.FieldDifference{}
				for _, f := range x.Fields {
					fields[f.Field] = f
				}
				if x.How != "differs" || len(fields) != 2 || fields["reqid"].There != fmt.Sprint(changed.Reqid) ||
					!strings.HasPrefix(fields["aead-key"].Here, "digest ") ||
					fields["aead-key"].Here == fields["aead-key"].There {
					t.Errorf("%+v", x)
				}
			}
		}
		if strings.Contains(text, "SECRET") || strings.Contains(text, "5345435245") {
			t.Errorf("a key shows: %s", text)
		}
	})
}

// silently changes a standby's kernel without its noticing, so that it does not
// heal: its watcher's events are dropped and no dump is due.
func (w *world) silently(n *simNode, f func()) {
	n.kernel.mu.Lock()
	watchers := n.kernel.watchers
	n.kernel.watchers = nil
	n.kernel.mu.Unlock()
	f()
	n.kernel.mu.Lock()
	n.kernel.watchers = watchers
	n.kernel.mu.Unlock()
}

func TestCompareRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 3)
		defer w.stop()
		a := w.nodes[0].engine
		if _, err := a.Compare(t.Context(), "10.9.9.9"); !errors.Is(err, ErrNoPeer) {
			t.Errorf("a stranger: %v", err)
		}
		w.caps = 0
		w.connect(0, 1)
		time.Sleep(time.Second)
		if _, err := a.Compare(t.Context(), name1); !errors.Is(err, ErrOldPeer) {
			t.Errorf("a peer of the version before: %v", err)
		}
		if _, err := a.Direct(t.Context(), simGroup, name1); err != nil {
			t.Errorf("of two nodes the other one is the successor, whatever its version: %v", err)
		}
		w.caps = wire.Caps
		w.connect(0, 1)
		time.Sleep(time.Second)
		// A session that ends while its answer is waited for.
		done := make(chan error)
		go func() {
			_, err := a.Compare(t.Context(), name1)
			done <- err
		}()
		time.Sleep(300 * time.Microsecond)
		w.cut(0, 1)
		if err := <-done; !errors.Is(err, ErrPeerGone) {
			t.Errorf("a session that ended: %v", err)
		}
	})
}

func TestResyncWithOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 50)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		received := func() uint64 {
			s, err := b.engine.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Counts.SnapshotsReceived
		}
		for i, do := range []func() ([]Transfer, error){
			func() ([]Transfer, error) { return b.engine.Resync(t.Context(), "") },
			func() ([]Transfer, error) { return b.engine.Resync(t.Context(), name0) },
			func() ([]Transfer, error) { return a.engine.Resync(t.Context(), name1) }, // pushed
		} {
			before, ops := received(), b.kernel.count()
			list, err := do()
			if err != nil || len(list) != 1 || list[0].Push != (i == 2) {
				t.Fatalf("case %d: %v %v", i, list, err)
			}
			if i == 2 && a.status().Standbys[0].Complete || i != 2 && b.status().Complete {
				t.Errorf("case %d: complete before anything came", i)
			}
			time.Sleep(time.Second)
			if n := received() - before; n != 1 || !b.status().Complete || !a.status().Standbys[0].Complete {
				t.Errorf("case %d: %d snapshots, standby %+v", i, n, b.status())
			}
			if n := b.kernel.count() - ops; n != 0 {
				t.Errorf("case %d: %d operations on a kernel that was right", i, n)
			}
			w.equal("after a resynchronisation")
		}
		if _, err := a.engine.Resync(t.Context(), ""); err == nil {
			t.Error("a master can fetch from nobody")
		}
		if _, err := b.engine.Resync(t.Context(), "10.9.9.9"); !errors.Is(err, ErrNoPeer) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

// TestResyncKeepsReadiness: a standby that fetches everything anew loses nothing
// of what it has, nor of what changes meanwhile, so it may take over in the
// middle of it.
func TestResyncKeepsReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 2000)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		if _, err := b.engine.Resync(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the snapshot has begun
		a.kernel.foreign(tunnel(r, 5000, false)...)
		time.Sleep(6 * time.Millisecond) // behind what of the snapshot is under way
		if s := b.status(); s.Complete || !s.InSync || a.status().Standbys[0].Complete {
			t.Fatalf("in the middle of a snapshot: %+v, master %+v", s, a.status().Standbys[0])
		}
		a.kill()
		time.Sleep(10 * time.Millisecond)
		if s := b.status(); !s.InSync {
			t.Errorf("the master died during a resynchronisation: %s", s.Why)
		}
		if a.kernel.text() != b.kernel.text() {
			t.Error("what changed during a resynchronisation is missing")
		}

		// It still gets what it had asked for, from whoever is master next.
		a.boot(200)
		a.role(wire.RoleMaster, 2)
		w.connect(0, 1)
		time.Sleep(2 * time.Second)
		if s := b.status(); !s.Complete || !s.InSync {
			t.Errorf("after the master's return: %+v", s)
		}
	})
}

// TestResyncIsAskedAgain: a resynchronisation that the link interrupts before it
// has begun is none that was done.
func TestResyncIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 50)
		defer w.stop()
		a, b := w.nodes[0], w.nodes[1]
		if _, err := b.engine.Resync(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		if s, err := b.engine.Status(t.Context()); err != nil || s.Counts.SnapshotsReceived != 2 {
			t.Errorf("%d snapshots, want the first and the one that was asked for: %v", s.Counts.SnapshotsReceived, err)
		}
		if !b.status().Complete || !a.status().Standbys[0].Complete {
			t.Errorf("standby %+v, master %+v", b.status(), a.status())
		}
	})
}
