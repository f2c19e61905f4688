package engine

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// snapshot boots a master of n tunnels and a standby that joins it, with an eye
// on the messages of both, and waits a moment.
func snapshot(t *testing.T, n int, lose func(from int, m wire.Message) bool) *world {
	w := newWorld(t, 2)
	w.lose = lose
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		w.nodes[0].kernel.foreign(tunnel(r, i, false)...)
	}
	w.nodes[0].boot(100)
	w.nodes[1].boot(101)
	w.nodes[0].role(wire.RoleMaster, 1)
	w.nodes[1].role(wire.RoleBackup, 1)
	w.connect(0, 1)
	time.Sleep(900 * time.Millisecond)
	return w
}

// A snapshot is answered once in a while, not for each message: of the master's
// window there is always enough left.
func TestSnapshotAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tunnels = 240
		var batches, answers atomic.Int64
		w := snapshot(t, tunnels, func(from int, m wire.Message) bool {
			switch m := m.(type) {
			case *wire.Batch:
				batches.Add(1)
			case *wire.Ack:
				if !m.SnapDone {
					answers.Add(1)
				}
			}
			return false
		})
		defer w.stop()
		w.equal("after the snapshot")
		const records = 5 * tunnels
		if n := batches.Load(); n < records/replica.BatchRecords {
			t.Errorf("%d batches, want at least %d", n, records/replica.BatchRecords)
		}
		// One for each quarter of the window, and what the first ticks may add.
		if n := answers.Load(); n < records/replica.AnswerEvery || n > records/replica.AnswerEvery+2 {
			t.Errorf("%d answers before the end of a snapshot of %d records, want %d, or 2 more", n, records,
				records/replica.AnswerEvery)
		}
	})
}

// A master whose window is smaller than what a standby waits for gets its answer
// all the same.
func TestSnapshotAnswersSmallWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches atomic.Int64
		w := snapshot(t, 240, func(from int, m wire.Message) bool {
			switch m.(type) {
			case *wire.Batch:
				return batches.Add(1) > 2 // no more than its window
			case *wire.SnapEnd:
				return true
			}
			return false
		})
		defer w.stop()
		s, err := w.nodes[0].engine.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st := s.Groups[0].Standbys
		if len(st) != 1 || st[0].Snapshot == nil || st[0].Snapshot.Done != 2*replica.BatchRecords {
			t.Errorf("the master knows of %+v, want %d records", st, 2*replica.BatchRecords)
		}
	})
}
