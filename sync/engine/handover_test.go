package engine

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// fenceWork is what a hand-over has both gateways do from the election's question to the
// old MASTER until its answer.
type fenceWork struct {
	Shown    int64 // SAs and policies that the kernels have handed out
	Ops      int   // operations of the kernels
	Messages int64
	Items    int64 // records and counters in them
}

// countMessages counts what the nodes send from now on.
func (w *world) countMessages(messages, items *atomic.Int64) {
	w.lose = func(_ int, m wire.Message) bool {
		messages.Add(1)
		switch m := m.(type) {
		case *wire.Batch:
			items.Add(int64(len(m.Records)))
		case *wire.Counters:
			items.Add(int64(len(m.Entries)))
		}
		return false
	}
}

// outbound returns the names of the SAs on which a node sends, in order.
func (k *simKernel) outbound() (keys []sadb.SAKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.order {
		if slices.Contains(simVIPs, k.sas[key].Src) {
			keys = append(keys, key)
		}
	}
	return keys
}

// send sends n packets on some SAs and returns the last number used on each.
func (k *simKernel) send(keys []sadb.SAKey, n uint64) map[sadb.SAKey]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := make(map[sadb.SAKey]uint64)
	for _, key := range keys {
		c := *k.sas[key]
		c.OSeq, c.Packets = c.OSeq+n, c.Packets+n
		k.sas[key] = &c
		last[key] = c.OSeq
	}
	return last
}

// handOverWith hands over with some tunnels, of which a few carry traffic, and returns
// the work behind the fence.
func handOverWith(t *testing.T, tunnels int) (work fenceWork) {
	synctest.Test(t, func(t *testing.T) {
		const active = 5
		w, _ := pair(t, tunnels)
		defer w.stop()
		old, next := w.nodes[0].kernel, w.nodes[1].kernel
		time.Sleep(5 * time.Second)
		busy := old.outbound()[:active]
		for range 4 {
			old.send(busy, 100)
			time.Sleep(time.Second)
		}
		time.Sleep(300 * time.Millisecond) // no reading is under way
		old.send(busy, 100)
		var messages, items atomic.Int64
		w.countMessages(&messages, &items)
		shown, ops := old.shown.Load()+next.shown.Load(), old.count()+next.count()
		w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
		if after, ok := w.nodes[0].elector.answeredWithin(time.Second); !ok || after > handoverLimit/2 {
			t.Errorf("%d tunnels: answered %v after %v", tunnels, ok, after)
		}
		work = fenceWork{Shown: old.shown.Load() + next.shown.Load() - shown, Ops: old.count() + next.count() - ops,
			Messages: messages.Load(), Items: items.Load()}
		time.Sleep(5 * time.Millisecond)
		if len(w.nodes[1].elector.takeovers()) != 1 {
			t.Errorf("%d tunnels: the standby was not told to take over", tunnels)
		}
	})
	return work
}

// TestHandOverIsConstantWork: with the same traffic, what both gateways do while nobody
// sends is the same for any number of tunnels.
func TestHandOverIsConstantWork(t *testing.T) {
	few := handOverWith(t, 20)
	for _, tunnels := range []int{200, 1000} {
		if many := handOverWith(t, tunnels); many != few {
			t.Errorf("%d tunnels: %+v behind the fence, with 20: %+v", tunnels, many, few)
		}
	}
}
