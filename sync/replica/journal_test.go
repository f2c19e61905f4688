package replica

import (
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// TestJournalMovesNothing: an entry stays where it is until it is dropped, so that
// no addition takes longer than another, and what is dropped is little.
func TestJournalMovesNothing(t *testing.T) {
	const limit = 4096
	j := journal{limit: limit}
	at := make(map[uint64]*journalEntry)
	for seq := uint64(100); seq < 100+3*limit; seq++ {
		before := j.held
		j.add(seq, time.Time{}, wire.Record{Kind: wire.DelSA, Handle: uint32(seq)})
		if j.held > limit || j.held < before-journalBlock {
			t.Fatalf("%d entries after one more than %d, want at most %d dropped and %d held", j.held, before,
				journalBlock, limit)
		}
		at[seq] = j.entry(seq)
		if seq%97 != 0 {
			continue
		}
		for old := j.first; old <= seq; old++ {
			if e := j.entry(old); e == nil || e != at[old] || e.rec.Handle != uint32(old) {
				t.Fatalf("entry %d has moved when %d was added", old, seq)
			}
		}
	}
}

// TestJournalAfter: it yields what follows a number, in order and once, from
// wherever it reaches back to, and nothing else.
func TestJournalAfter(t *testing.T) {
	for _, limit := range []int{1, 3, 8, 1000} {
		j := journal{limit: limit}
		for head := uint64(1); head < 2600; head++ {
			j.add(head, time.Time{}, wire.Record{Kind: wire.DelSA, Handle: uint32(head)})
			if head%41 != 0 {
				continue
			}
			oldest := head + 1
			for seq := range head + 2 {
				var got []uint32
				for chunk := range j.after(seq, 128) {
					if len(chunk) > 128 {
						t.Fatalf("%d at a time", len(chunk))
					}
					for _, e := range chunk {
						got = append(got, e.rec.Handle)
					}
				}
				reaches := j.reaches(seq, head)
				if want := seq <= head && (len(got) > 0 || seq == head); reaches != want {
					t.Fatalf("limit %d: reaches(%d, %d) is %v with %d entries", limit, seq, head, reaches, len(got))
				}
				if !reaches {
					continue
				}
				oldest = min(oldest, seq+1)
				if uint64(len(got)) != head-seq {
					t.Fatalf("limit %d: %d entries after %d of %d", limit, len(got), seq, head)
				}
				for i, h := range got {
					if uint64(h) != seq+1+uint64(i) {
						t.Fatalf("limit %d: %d is entry %d after %d", limit, h, i, seq)
					}
				}
			}
			if n := head + 1 - oldest; n > uint64(limit) || n < min(head, max(uint64(limit)*3/4, 1)) {
				t.Fatalf("limit %d: %d entries of %d are held", limit, n, head)
			}
		}
	}
}
