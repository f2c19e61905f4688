package engine

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestYields: of two masters exactly one gives up, the one of the lower term, else the one
// of the lower id.
func TestYields(t *testing.T) {
	a, b := wire.NodeID{1}, wire.NodeID{2}
	for _, tt := range []struct {
		term, other uint64
		want        bool // of a
	}{{5, 6, true}, {6, 5, false}, {5, 5, true}} {
		if got := yields(tt.term, a, tt.other, b); got != tt.want {
			t.Errorf("terms %d and %d: the lower id yields: %v", tt.term, tt.other, got)
		}
		if yields(tt.term, a, tt.other, b) == yields(tt.other, b, tt.term, a) {
			t.Errorf("terms %d and %d: both yield, or none", tt.term, tt.other)
		}
	}
}

// TestMaximaOfOthers: how far above its own a master has to be told of a number before it
// jumps: by anything from who knows what it has sent, by more than three leads from who
// does not.
func TestMaximaOfOthers(t *testing.T) {
	lead := func(sa *sadb.SA) uint64 { l, _ := sadb.DefaultMargin().Lead(sa.ESN(), 0, 0); return l }
	for name, tt := range map[string]struct {
		known bool
		above func(sa *sadb.SA) uint64
		jumps uint64
	}{
		"as much, known":        {true, func(*sadb.SA) uint64 { return 0 }, 0},
		"one more, known":       {true, func(*sadb.SA) uint64 { return 1 }, 1},
		"three leads":           {false, func(sa *sadb.SA) uint64 { return 3 * lead(sa) }, 0},
		"more than three leads": {false, func(sa *sadb.SA) uint64 { return 3*lead(sa) + 1 }, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, r := pair(t, 0)
			defer w.stop()
			ops := tunnel(r, 1, false)
			out, in := ops[0].SA, ops[1].SA
			if !slices.Contains(simVIPs, out.Src) {
				out, in = in, out
			}
			a := w.nodes[0]
			a.kernel.foreign(ops...)
			a.kernel.traffic(1000)
			time.Sleep(3 * time.Second)
			id := wire.StreamID{Group: simGroup, Term: 9, Nonce: 9}
			if tt.known {
				id.Node = w.nodes[1].id
			}
			told := 1000 + tt.above(out)
			w.session(1, 0).Send(&wire.Maxima{ID: id, Last: true, Entries: []wire.Maximum{{Key: out.Key, OSeq: told},
				{Key: in.Key, OSeq: 1 << 40}, {Key: sadb.SAKey{SPI: 1, Proto: sadb.ProtoESP, Dst: in.Src}, OSeq: 1 << 40}}})
			time.Sleep(time.Second)
			if got := w.counts(0).SplitJumps; got != tt.jumps {
				t.Errorf("%s: %d jumps, want %d", name, got, tt.jumps)
			}
			if got := a.kernel.oseq(out.Key); tt.jumps > 0 && got < told+lead(out) || tt.jumps == 0 && got != 1000 {
				t.Errorf("%s: the counter is %d, told was %d", name, got, told)
			}
			if got := a.kernel.oseq(in.Key); got != 0 {
				t.Errorf("%s: an inbound SA jumps to %d", name, got)
			}
		})
	}
}

// TestTermsOfWhatIsHeld count, where the election numbers nothing.
func TestTermsOfWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		for i, n := range w.nodes {
			n.boot(uint64(100 + i))
			n.role(wire.RoleBackup, 0)
		}
		w.connect(0, 1)
		time.Sleep(time.Second)
		have := wire.StreamPos{StreamID: wire.StreamID{Group: simGroup, Term: 50, Node: wire.NodeID{9}, Nonce: 1}, Seq: 1,
			Complete: true}
		w.session(1, 0).Send(&wire.State{GroupState: wire.GroupState{Name: simGroup, Role: wire.RoleBackup, Term: 3,
			Have: have}})
		time.Sleep(time.Second)
		w.nodes[0].role(wire.RoleMaster, 0)
		if got := w.nodes[0].status().Term; got != 51 {
			t.Errorf("MASTER of term %d, want 51", got)
		}
	})
}

// TestHeldBackDeletions: what is back is not deleted on the standby, not even for a moment,
// and a new mastership begins without them.
func TestHeldBackDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		ops := tunnel(r, 77, false)
		a := w.nodes[0]
		a.kernel.foreign(ops...)
		time.Sleep(3 * time.Second)
		remove := func() {
			for _, op := range ops {
				kind := sadb.OpDeleteSA
				if op.Policy != nil {
					kind = sadb.OpDeletePolicy
				}
				a.kernel.foreign(sadb.Op{Kind: kind, SA: op.SA, Policy: op.Policy})
			}
			time.Sleep(100 * time.Millisecond)
			if got := a.status().Held; got != len(ops) {
				t.Fatalf("%d deletions are held back, want %d", got, len(ops))
			}
		}
		remove()
		a.kernel.foreign(ops...)
		for range 60 {
			time.Sleep(100 * time.Millisecond)
			w.equal("while what was deleted is back")
		}
		// Back just before it is forwarded: too late for a reading to tell, mostly.
		for range 4 {
			time.Sleep(260 * time.Millisecond)
			remove()
			time.Sleep(holdTime - 110*time.Millisecond)
			a.kernel.foreign(ops...)
			for range 60 {
				time.Sleep(5 * time.Millisecond)
				w.equal("while what was deleted is back at the last moment")
			}
		}
		remove()
		a.role(wire.RoleMaster, 2)
		time.Sleep(10 * time.Millisecond)
		if got := a.status().Held; got != 0 {
			t.Errorf("%d deletions of the term before are held back", got)
		}
	})
}

// announce tells an event that the kernel makes by itself.
func (k *simKernel) announce(ev sadb.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ev.Hard && ev.SA != nil {
		delete(k.sas, ev.SA.Key)
		k.order = slices.DeleteFunc(k.order, func(x sadb.SAKey) bool { return x == ev.SA.Key })
	}
	if ev.Hard && ev.Policy != nil {
		delete(k.policies, ev.Policy.Key)
	}
	for _, w := range k.watchers {
		w <- ev
	}
}

// TestSoftLimitsEndNothing, and hard ones end an SA or a policy.
func TestSoftLimitsEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 1)
		defer w.stop()
		ops := tunnel(r, 5, false)
		a := w.nodes[0]
		a.kernel.foreign(ops...)
		time.Sleep(3 * time.Second)
		seq := a.status().Seq
		a.kernel.announce(sadb.Event{Kind: sadb.EventExpireSA, SA: ops[0].SA})
		a.kernel.announce(sadb.Event{Kind: sadb.EventExpirePolicy, Policy: ops[2].Policy})
		time.Sleep(50 * time.Millisecond)
		if s := a.status(); s.Held != 0 || s.Seq != seq {
			t.Errorf("soft limits: %d deletions are held back, %d changes", s.Held, s.Seq-seq)
		}
		time.Sleep(5 * time.Second)
		w.equal("after soft limits")
		a.kernel.announce(sadb.Event{Kind: sadb.EventExpireSA, SA: ops[0].SA, Hard: true})
		a.kernel.announce(sadb.Event{Kind: sadb.EventExpirePolicy, Policy: ops[2].Policy, Hard: true})
		time.Sleep(50 * time.Millisecond)
		if got := a.status().Held; got != 2 {
			t.Errorf("hard limits: %d deletions are held back, want 2", got)
		}
		time.Sleep(5 * time.Second)
		w.equal("after hard limits")
	})
}

// TestFlushIsKeptWhole: with `flushmode never` the standby keeps all of what a flush took
// from the master, also where a reading was under way; and what goes later goes.
func TestFlushIsKeptWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.forward = false
		defer w.stop()
		r := rand.New(rand.NewPCG(4, 4))
		var kept []sadb.Op
		for i := range 20 {
			kept = append(kept, tunnel(r, i, false)[:2]...)
		}
		w.nodes[0].kernel.foreign(kept...)
		w.join(100)
		time.Sleep(3 * time.Second)
		a, k := w.nodes[0], w.nodes[0].odd()
		k.slow.Store(int64(20 * time.Millisecond))
		for a.kernel.readings() == 0 || !a.reading() { // until one is under way
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(40 * time.Millisecond)
		a.kernel.flushSAs()
		time.Sleep(8 * time.Second)
		if got := w.nodes[1].kernel.present(kept); got != len(kept) {
			t.Errorf("the standby keeps %d of %d SAs", got, len(kept))
		}
		later := tunnel(r, 60, false)
		a.kernel.foreign(later...)
		time.Sleep(3 * time.Second)
		w.silently(a, func() { a.kernel.deletes(later[:2]) })
		time.Sleep(8 * time.Second)
		if got := w.nodes[1].kernel.present(later[:2]); got != 0 {
			t.Errorf("the standby keeps %d SAs that went after the flush", got)
		}
	})
}

// reading reports whether the tables are being read.
func (n *simNode) reading() (yes bool) {
	_ = n.engine.do(n.w.t.Context(), func() { yes = n.engine.dump.running })
	return yes
}

// TestChangesDuringAReading: what a standby does while its tables are being read is known
// better than the reading shows it, so it is done once.
func TestChangesDuringAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 20)
		defer w.stop()
		time.Sleep(3 * time.Second)
		b, k := w.nodes[1], w.nodes[1].odd()
		k.slow.Store(int64(20 * time.Millisecond))
		for !b.reading() {
			time.Sleep(5 * time.Millisecond)
		}
		before, errs := b.kernel.count(), w.counts(1).KernelErrors
		fresh := tunnel(r, 70, false)
		w.nodes[0].kernel.foreign(fresh...)
		time.Sleep(10 * time.Second)
		if n := b.kernel.count() - before; n != len(fresh) || w.counts(1).KernelErrors != errs || w.counts(1).Repairs != 0 {
			t.Errorf("%d operations for %d items, %d refused, %d repairs", n, len(fresh), w.counts(1).KernelErrors-errs,
				w.counts(1).Repairs)
		}
		w.equal("after changes during a reading")
	})
}

// TestTailOfSeveral: what two standbys have beyond a new master is taken once.
func TestTailOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.stop()
		r := twoStandbys(w)
		w.cut(0, 1)
		fresh := tunnel(r, 9, false)
		w.nodes[0].kernel.foreign(fresh...)
		time.Sleep(300 * time.Millisecond)
		w.nodes[0].kill()
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(3 * time.Second)
		if c := w.counts(1); c.TailRecords != uint64(len(fresh)) || c.KernelErrors != 0 {
			t.Errorf("%d records taken, want %d; %d refused", c.TailRecords, len(fresh), c.KernelErrors)
		}
		for _, op := range fresh {
			if op.SA != nil && !w.nodes[1].kernel.has(op.SA.Key) {
				t.Errorf("%s is lost", op.SA.Key)
			}
		}
		w.nodes[0].boot(10)
	})
}

// TestSlowStandbyIsNoSuccessor: one that does not say that it has what was sent.
func TestSlowStandbyIsNoSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		time.Sleep(3 * time.Second)
		a := w.nodes[0].engine
		if err := a.ReadyStandby(t.Context(), simGroup, ""); err != nil {
			t.Errorf("a standby that follows: %v", err)
		}
		var deaf atomic.Bool
		w.losing(func(from int, m wire.Message) bool { return deaf.Load() && from == 1 && m.Type() == wire.TypeAck })
		deaf.Store(true)
		w.nodes[0].kernel.foreign(tunnel(r, 80, false)...)
		time.Sleep(time.Duration(readyLag*1000-500) * time.Millisecond)
		if err := a.ReadyStandby(t.Context(), simGroup, name1); err != nil {
			t.Errorf("one that is a little behind: %v", err)
		}
		time.Sleep(time.Second)
		var bad *Refusal
		if err := a.ReadyStandby(t.Context(), simGroup, name1); !errors.As(err, &bad) || bad.Peer != name1 {
			t.Errorf("one that is behind: %v", err)
		}
		if err := a.ReadyStandby(t.Context(), simGroup, ""); !errors.As(err, &bad) {
			t.Errorf("any: %v", err)
		}
		if err := a.ReadyStandby(t.Context(), "elsewhere", ""); err == nil || errors.As(err, &bad) {
			t.Errorf("a group that is not there: %v", err)
		}
		if err := w.nodes[1].engine.ReadyStandby(t.Context(), simGroup, ""); err == nil || errors.As(err, &bad) {
			t.Errorf("on the standby: %v", err)
		}
	})
}

// TestCancelledPreparation: a standby that was not needed reads its tables, and asks for
// what it has not taken meanwhile.
func TestCancelledPreparation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		time.Sleep(3 * time.Second)
		b := w.nodes[1]
		b.between(func() { b.engine.cfg.Audit = time.Hour })
		b.elector.prepare(wire.RoleMaster, 2)
		fresh := tunnel(r, 90, false)
		w.nodes[0].kernel.foreign(fresh...)
		time.Sleep(time.Second)
		if b.kernel.present(fresh[:2]) != 0 {
			t.Error("it takes more from the master that it is to replace")
		}
		before := b.kernel.readings()
		b.elector.events <- ElectorEvent{Kind: ElectorCancel, Group: simGroup}
		time.Sleep(time.Second)
		if b.kernel.readings() == before {
			t.Error("its tables are not read")
		}
		w.equal("after a preparation that was cancelled")
		if !b.status().InSync {
			t.Errorf("not in sync: %s", b.status().Why)
		}
	})
}
