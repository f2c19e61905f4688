package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// TestJournalsHoldNoKeys: a week of rekeys behind an SA, neither the master's nor a
// standby's journal holds its key.
func TestJournalsHoldNoKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	p := newPublisher(wire.StreamID{Group: simGroup, Term: 1}, now)
	s := newReceiver(options{margin: sadb.DefaultMargin(), sweeps: true})
	s.begin(p.stream, 0, 0, 0)
	s.end(0)
	sa := tunnel(r, 1, false)[0].SA
	onMaster := sadbtest.WatchKey(sa)
	rec, _ := p.putSA(now, sa)
	copied := new(sadb.SA)
	*copied = *sa
	copied.AEAD = &sadb.Algorithm{Name: sa.AEAD.Name, Key: sadb.NewSecret(sa.AEAD.Key.Bytes()), TruncBits: sa.AEAD.TruncBits}
	onStandby := sadbtest.WatchKey(copied)
	rec.SA, sa = copied, nil
	for _, op := range s.apply(now, 0, rec) {
		s.result(op, nil)
	}
	rec, copied = wire.Record{}, nil
	s.slabs.reset()
	if !onMaster.Held() || !onStandby.Held() {
		t.Fatal("the key of a published SA is not held")
	}
	var gone []sadb.SAKey
	for k := range p.sas {
		gone = append(gone, k)
	}
	for _, k := range gone {
		rec, _ := p.deleteSA(now, k)
		for _, op := range s.apply(now, 0, rec) {
			s.result(op, nil)
		}
	}
	if onMaster.Held() || onStandby.Held() {
		t.Errorf("the key of a deleted SA is held: by the master %v, by the standby %v", onMaster.Held(), onStandby.Held())
	}
	if n, m := p.journal.held, s.tail.held; n != 2 || m != 2 {
		t.Errorf("journals of %d and %d changes, want 2", n, m)
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(s)
}

// TestJournalLeadsWhereTheStreamDid: from wherever a standby continues, what the
// journal tells leads to what is published, though it tells of SAs as they are now.
func TestJournalLeadsWhereTheStreamDid(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		now := time.Now()
		p := newPublisher(wire.StreamID{Group: simGroup, Term: 1}, now)
		var pool []*sadb.SA
		for i := range 6 {
			pool = append(pool, tunnel(r, i, false)[0].SA)
		}
		type table map[sadb.SAKey]string
		look := func(sa *sadb.SA) string { return fmt.Sprintf("%x", wire.SADigest(sa)) }
		apply := func(to table, rec wire.Record) {
			switch rec.Kind {
			case wire.PutSA:
				to[rec.SA.Key] = look(rec.SA)
			case wire.DelSA:
				delete(to, rec.SAKey)
			}
		}
		at := []table{{}} // what a standby holds at each number
		for range 60 {
			sa := *pool[r.IntN(len(pool))]
			var rec wire.Record
			var ok bool
			if r.IntN(3) == 0 {
				rec, ok = p.deleteSA(now, sa.Key)
			} else {
				sa.Limits.HardAdd = uint64(r.IntN(3))
				rec, ok = p.putSA(now, &sa)
			}
			if ok {
				next := table{}
				for k, v := range at[len(at)-1] {
					next[k] = v
				}
				apply(next, rec)
				at = append(at, next)
			}
		}
		want := at[len(at)-1]
		for seq, have := range at {
			var entries []*journalEntry
			for chunk := range p.journal.after(uint64(seq), 7) {
				entries = append(entries, chunk...)
			}
			ok := p.journal.reaches(uint64(seq), p.seq)
			if !ok || len(entries) != len(at)-1-seq {
				t.Fatalf("seed %d: %d entries behind %d of %d, %v", seq, len(entries), seq, p.seq, ok)
			}
			for _, e := range entries {
				rec := p.recall(now, e.rec)
				if _, err := wire.AppendRecord(nil, &rec); err != nil || !rec.Numbered {
					t.Fatalf("seed %d: %v cannot be sent: %v", seed, rec.Kind, err)
				}
				apply(have, rec)
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Fatalf("seed %d: the journal behind %d leads to\n%v\nwant\n%v", seed, seq, have, want)
			}
		}
	}
}

// TestNewMasterLetsKeysGo: an SA that a standby held, and that is deleted after its
// promotion, leaves the process.
func TestNewMasterLetsKeysGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		r := rand.New(rand.NewPCG(1, 2))
		ops := tunnel(r, 1, false)
		keys := []sadb.SAKey{ops[0].SA.Key, ops[1].SA.Key}
		w.nodes[0].kernel.foreign(ops...)
		ops = nil
		w.join(100)
		defer w.stop()
		time.Sleep(2 * time.Second)
		b := w.nodes[1]
		holders := func() (list []sadbtest.KeyHolder) {
			b.kernel.mu.Lock()
			defer b.kernel.mu.Unlock()
			for _, k := range keys {
				list = append(list, sadbtest.WatchKey(b.kernel.sas[k]))
			}
			return list
		}()
		w.nodes[0].role(wire.RoleBackup, 2)
		b.role(wire.RoleMaster, 2)
		time.Sleep(5 * time.Second)
		if s := b.status(); s.Role != "MASTER" || s.SAs != 2 {
			t.Fatalf("no master: %+v", s)
		}
		fresh := tunnel(r, 1, false)[:2]
		b.kernel.foreign(fresh...)
		time.Sleep(time.Second)
		for _, k := range keys {
			b.kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: k}})
		}
		time.Sleep(5 * time.Second)
		for i, h := range holders {
			if h.Held() {
				t.Errorf("the key of %s is held 5 s after its deletion", keys[i])
			}
		}
		// That they were held here is not forgotten with them.
		named := false
		if err := b.engine.do(t.Context(), func() { named = b.engine.order[0].rcv.wasHeld(keys[0]) }); err != nil || !named {
			t.Errorf("a new master does not know any more what it held as a standby: %v", err)
		}
		w.equal("after the deletion")
	})
}

// TestWhatAFlushLeftEndsWithItsLifetime: `flushmode never` keeps SAs published that
// the kernel does not have. Their lifetime ends all the same.
func TestWhatAFlushLeftEndsWithItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.forward = false
		r := rand.New(rand.NewPCG(1, 2))
		w.nodes[0].kernel.foreign(tunnel(r, 1, false)...) // one hour
		forever := tunnel(r, 2, false)
		for _, op := range forever[:2] {
			op.SA.Limits.HardAdd, op.SA.Limits.SoftAdd = 0, 0
		}
		w.nodes[0].kernel.foreign(forever...)
		w.join(100)
		defer w.stop()
		time.Sleep(2 * time.Second)
		w.nodes[0].kernel.flush()
		time.Sleep(50 * time.Minute)
		if n := w.nodes[1].status().SAs; n != 4 {
			t.Errorf("%d SAs on the standby 50 minutes after the flush, want 4", n)
		}
		time.Sleep(11 * time.Minute)
		if a, b := w.nodes[0].status().SAs, w.nodes[1].status().SAs; a != 2 || b != 2 {
			t.Errorf("%d SAs are published and %d on the standby after their lifetime, want the 2 without one", a, b)
		}
	})
}

// TestSlabsLetGo: what an operation pointed to is not held for the next.
func TestSlabsLetGo(t *testing.T) {
	var s slabs
	for _, n := range []int{1, slabSAs, keepSlabs*slabSAs + 3, 5} {
		for range n {
			s.next().AEAD = &sadb.Algorithm{Name: "x"}
		}
		s.reset()
		for _, list := range s.list {
			if slices.ContainsFunc(list, func(sa sadb.SA) bool { return sa.AEAD != nil }) {
				t.Errorf("after %d operations an SA of theirs is held", n)
			}
		}
	}
}
