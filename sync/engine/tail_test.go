package engine

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// twoStandbys makes node 0 MASTER of a tunnel, which two others follow.
func twoStandbys(w *world) *rand.Rand {
	r := rand.New(rand.NewPCG(8, 8))
	w.nodes[0].kernel.foreign(tunnel(r, 1, false)...)
	w.join(1)
	time.Sleep(1500 * time.Millisecond)
	return r
}

// TestNewMasterTakesTheLongerTail: the master dies after it has told one of two
// standbys of a new tunnel, and the other one is elected.
func TestNewMasterTakesTheLongerTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		r := twoStandbys(w)
		w.cut(0, 1)
		fresh := tunnel(r, 9, false)
		w.nodes[0].kernel.foreign(fresh...)
		time.Sleep(300 * time.Millisecond) // node 2 has it, and said so
		w.nodes[0].kill()
		w.nodes[1].role(wire.RoleMaster, 2)
		w.nodes[2].role(wire.RoleBackup, 2)
		time.Sleep(3 * time.Second)
		for _, i := range []int{1, 2} {
			for _, op := range fresh {
				if op.SA != nil && !w.nodes[i].kernel.has(op.SA.Key) {
					t.Errorf("node %d lost %s", i, op.SA.Key)
				}
			}
		}
		if c := w.counts(1); c.TailRecords != uint64(len(fresh)) {
			t.Errorf("%d records taken from the other standby, want %d", c.TailRecords, len(fresh))
		}
		w.nodes[0].boot(10)
	})
}

// TestLateTailIsNoOffence: what another standby answers after the new master has
// published without it changes nothing, and ends no session.
func TestLateTailIsNoOffence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		var late atomic.Pointer[wire.Resume]
		w.lose = func(from int, m wire.Message) bool {
			r, ok := m.(*wire.Resume)
			return ok && from == 2 && late.CompareAndSwap(nil, r)
		}
		r := twoStandbys(w)
		w.nodes[0].kill()
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(3 * time.Second)
		s, answer := w.session(2, 1), late.Load()
		if answer == nil || w.nodes[1].status().SAs != 2 {
			t.Fatalf("node 2 was not asked, or node 1 has not published: %+v", w.nodes[1].status())
		}
		before := w.nodes[1].kernel.text()
		s.Send(answer)
		s.Send(&wire.Batch{Stream: answer.Stream, First: answer.Seq + 1,
			Records: []wire.Record{{Kind: wire.PutSA, Handle: 1, SA: tunnel(r, 9, false)[0].SA, Numbered: true}}})
		time.Sleep(time.Second)
		if s.isClosed() || w.nodes[1].kernel.text() != before {
			t.Errorf("session closed: %v, or tables changed", s.isClosed())
		}
		w.nodes[0].boot(10)
	})
}
