package replica

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
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
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	s := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
	s.BeginSnapshot(p.stream, 0, 0, 0)
	s.EndSnapshot(0)
	sa := tunnel(r, 1, false)[0].SA
	onMaster := sadbtest.WatchKey(sa)
	rec, _ := p.PutSA(now, sa)
	copied := new(sadb.SA)
	*copied = *sa
	copied.AEAD = &sadb.Algorithm{Name: sa.AEAD.Name, Key: sadb.NewSecret(sa.AEAD.Key.Bytes()),
		TruncBits: sa.AEAD.TruncBits}
	onStandby := sadbtest.WatchKey(copied)
	rec.SA, sa = copied, nil
	for _, op := range s.Apply(now, 0, rec) {
		s.Result(op, nil)
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
		rec, _ := p.DeleteSA(now, k)
		for _, op := range s.Apply(now, 0, rec) {
			s.Result(op, nil)
		}
	}
	if onMaster.Held() || onStandby.Held() {
		t.Errorf("the key of a deleted SA is held: by the master %v, by the standby %v", onMaster.Held(),
			onStandby.Held())
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
		p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
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
				rec, ok = p.DeleteSA(now, sa.Key)
			} else {
				sa.Limits.HardAdd = uint64(r.IntN(3))
				rec, ok = p.PutSA(now, &sa)
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
