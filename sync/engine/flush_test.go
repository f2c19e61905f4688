package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// generation returns the two SAs of a further generation of tunnel n.
func generation(r *rand.Rand, n int) []sadb.Op { return tunnel(r, n, false)[:2] }

// present returns how many of the SAs a kernel has.
func (k *simKernel) present(ops []sadb.Op) (n int) {
	for _, op := range ops {
		if k.has(op.SA.Key) {
			n++
		}
	}
	return n
}

// deletes deletes the SAs one by one.
func (k *simKernel) deletes(ops []sadb.Op) {
	for _, op := range ops {
		k.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: op.SA})
	}
}

// generations are a pair that has two generations of one tunnel.
func generations(t *testing.T, seed uint64) (w *world, old, young []sadb.Op) {
	w, _ = pair(t, 0)
	r := rand.New(rand.NewPCG(seed, 9))
	old = tunnel(r, 1, false)
	young = generation(r, 1)
	w.nodes[0].kernel.foreign(old...)
	time.Sleep(2 * time.Second)
	w.nodes[0].kernel.foreign(young...)
	time.Sleep(2 * time.Second)
	return w, old[:2], young
}

// TestFlushIsHeldBackWhole: where two generations of a tunnel are flushed, none of
// them ends a rekey. If the node leaves MASTER, its standby keeps both.
func TestFlushIsHeldBackWhole(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w, old, young := generations(t, seed)
			defer w.stop()
			standby := w.nodes[1].kernel
			want := func(when string) {
				t.Helper()
				if o, y := standby.present(old), standby.present(young); o != 2 || y != 2 {
					t.Errorf("seed %d, %s: the standby has %d SAs of the old generation and %d of the young one, "+
						"want 2 and 2", seed, when, o, y)
				}
			}
			want("before the flush")
			w.nodes[0].kernel.flush()
			time.Sleep(500 * time.Millisecond)
			want("within the hold time")
			w.nodes[0].role(wire.RoleBackup, 2)
			w.nodes[1].role(wire.RoleMaster, 2)
			time.Sleep(3 * time.Second)
			want("as the new master")
		})
	}
}

// TestFlushIsForwardedWhole: a master that stays forwards all of it at once.
func TestFlushIsForwardedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, old, young := generations(t, 1)
		defer w.stop()
		w.nodes[0].kernel.flush()
		for end := time.Now().Add(2 * holdTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if n := w.nodes[1].kernel.present(old) + w.nodes[1].kernel.present(young); n != 4 && n != 0 {
				t.Fatalf("the standby has %d of 4 SAs", n)
			}
		}
		if n := w.nodes[1].kernel.present(old) + w.nodes[1].kernel.present(young); n != 0 {
			t.Errorf("the standby has %d SAs of a flush after the hold time, want 0", n)
		}
	})
}

// TestDeletesNewestFirstAreHeldBack: only a later SA makes a deletion the end of a
// rekey. Whoever deletes the newest first deletes the tunnel.
func TestDeletesNewestFirstAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, old, young := generations(t, 3)
		defer w.stop()
		standby := w.nodes[1].kernel
		w.nodes[0].kernel.deletes(young)
		w.nodes[0].kernel.deletes(old)
		time.Sleep(500 * time.Millisecond)
		if o, y := standby.present(old), standby.present(young); o != 2 || y != 2 {
			t.Errorf("within the hold time the standby has %d SAs of the old generation and %d of the young one, "+
				"want 2 and 2", o, y)
		}
		time.Sleep(holdTime)
		if o, y := standby.present(old), standby.present(young); o != 0 || y != 0 {
			t.Errorf("after it the standby has %d and %d, want 0 and 0", o, y)
		}
	})
}

// TestDeletesOfARekeyPassAtOnce: the older generation goes, the younger one stays.
func TestDeletesOfARekeyPassAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, old, young := generations(t, 3)
		defer w.stop()
		standby := w.nodes[1].kernel
		w.nodes[0].kernel.deletes(old)
		time.Sleep(100 * time.Millisecond)
		if o, y := standby.present(old), standby.present(young); o != 0 || y != 2 {
			t.Errorf("right after the end of a rekey the standby has %d SAs of the old generation and %d of the "+
				"young one, want 0 and 2", o, y)
		}
		if n := w.counts(0).HeldDeletes; n != 0 {
			t.Errorf("%d deletions of a rekey were held back", n)
		}
	})
}

// TestWhatIsBackCoversAgain: an SA that was deleted and added again counts.
func TestWhatIsBackCoversAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, old, young := generations(t, 3)
		defer w.stop()
		standby := w.nodes[1].kernel
		w.nodes[0].kernel.deletes(young)
		time.Sleep(500 * time.Millisecond)
		w.nodes[0].kernel.foreign(young...)
		time.Sleep(500 * time.Millisecond)
		w.nodes[0].kernel.deletes(old)
		time.Sleep(100 * time.Millisecond)
		if o, y := standby.present(old), standby.present(young); o != 0 || y != 2 {
			t.Errorf("the standby has %d SAs of the old generation and %d of the young one, want 0 and 2", o, y)
		}
	})
}

// TestRepairsByCountersAreCounted: an SA that a standby's kernel has lost comes back
// with its next counter, if that is before the next reading. It is a repair all the same.
func TestRepairsByCountersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, all := largePair(t, 100, 0)
		defer w.stop()
		n := w.nodes[1]
		before := w.counts(1).Repairs
		for dumps := w.counts(1).Dumps; w.counts(1).Dumps == dumps; { // the next is 2 s away
			time.Sleep(10 * time.Millisecond)
		}
		w.silently(n, n.kernel.flushSAs)
		w.nodes[0].kernel.traffic(100)
		time.Sleep(5 * time.Second)
		w.equal("after the repair")
		want := uint64(0)
		for _, op := range all {
			if op.SA != nil {
				want++
			}
		}
		if got := w.counts(1).Repairs - before; got != want {
			t.Errorf("%d repairs, want %d", got, want)
		}
	})
}

// TestFlushedBeforeTheFirstPacket: a MASTER whose SAs are flushed tells that it had some,
// whether they had been used or not.
func TestFlushedBeforeTheFirstPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 0)
		defer w.stop()
		a := w.nodes[0]
		if s := a.status(); s.SAs != 0 || s.HadSAs {
			t.Fatalf("without a tunnel: %d SAs, had some: %v", s.SAs, s.HadSAs)
		}
		a.kernel.foreign(tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)...)
		time.Sleep(2 * time.Second)
		a.kernel.flush()
		time.Sleep(10 * time.Second)
		if s := a.status(); s.SAs != 0 || !s.HadSAs || s.Policies == 0 {
			t.Errorf("after the flush: %d SAs, had some: %v; %d policies, which are back", s.SAs, s.HadSAs, s.Policies)
		}
	})
}

// TestFlushedBeforeTheFirstReading: a standby's SAs are flushed as it becomes MASTER, so
// that it publishes none. It tells that it had some.
func TestFlushedBeforeTheFirstReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 5)
		defer w.stop()
		w.nodes[0].kill()
		b := w.nodes[1]
		b.kernel.flush()
		b.role(wire.RoleMaster, 2)
		time.Sleep(5 * time.Second)
		if s := b.status(); s.SAs != 0 || !s.HadSAs {
			t.Errorf("%d SAs, had some: %v", s.SAs, s.HadSAs)
		}
	})
}
