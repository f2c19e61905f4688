package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// hear counts packets that came in on every inbound SA, or on the given ones.
func (k *simKernel) hear(keys ...sadb.SAKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		c := *k.sas[key]
		c.Seq++
		c.Packets++
		k.sas[key] = &c
	}
}

// size is the number of SAs.
func (k *simKernel) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sas)
}

// TestCollectAfterTakeover: replicated SAs stay until fresh ones carry the
// traffic and the remote has left the old ones; then they go on all members.
func TestCollectAfterTakeover(t *testing.T) {
	for _, spi := range []bool{true, false} {
		t.Run(fmt.Sprintf("template names the SA %v", spi), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				r := rand.New(rand.NewPCG(1, 2))
				old := tunnel(r, 0, false)
				other := tunnel(r, 1, false)
				w.nodes[0].kernel.foreign(append(sadbtest.Negotiated(r, old, true)[2:], other...)...)
				w.nodes[0].kernel.foreign(old...)
				w.join(100)
				time.Sleep(3 * time.Second)
				defer w.stop()
				w.nodes[0].kill()
				n := w.nodes[1]
				n.role(wire.RoleMaster, 2)
				time.Sleep(3 * time.Second)
				has := func(k *simKernel, ops []sadb.Op) bool { return k.has(ops[0].SA.Key) && k.has(ops[1].SA.Key) }
				time.Sleep(2 * replica.SupersededIdle)
				if !has(n.kernel, old) {
					t.Fatal("collected before anything was negotiated")
				}
				fresh := sadbtest.Negotiated(r, old, spi)
				n.kernel.foreign(fresh...)
				for range 2 * replica.SupersededIdle / time.Second {
					n.kernel.hear(old[1].SA.Key)
					time.Sleep(time.Second)
				}
				if !has(n.kernel, old) {
					t.Fatal("collected while the remote used it")
				}
				time.Sleep(replica.SupersededIdle - 5*time.Second)
				if !has(n.kernel, old) {
					t.Fatal("collected before it had been idle long enough")
				}
				time.Sleep(5*time.Second + supersededEvery + 2*time.Second)
				for i, k := range []*simKernel{n.kernel, w.nodes[2].kernel} {
					if k.has(old[0].SA.Key) || k.has(old[1].SA.Key) {
						t.Errorf("node %d: the old SAs are still there", i+1)
					}
					if !has(k, fresh) || !has(k, other) {
						t.Errorf("node %d: what is in use has gone", i+1)
					}
				}
				if s, _ := n.engine.Status(context.Background()); s.Counts.Collected != 2 {
					t.Errorf("%d SAs were collected, want 2", s.Counts.Collected)
				}
				if a, b := n.kernel.text(), w.nodes[2].kernel.text(); a != b {
					t.Errorf("tables differ\n%s\n--\n%s", a, b)
				}
				w.nodes[0].boot(200) // for stop
			})
		})
	}
}

// TestCollectAfterFailback: an ex-master's own SAs of its former life are as
// replicated as the others: they neither pass for fresh ones nor stay.
func TestCollectAfterFailback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		r := rand.New(rand.NewPCG(1, 2))
		first := tunnel(r, 0, false)
		w.nodes[0].kernel.foreign(first...)
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		defer w.stop()
		w.nodes[0].role(wire.RoleMaster, 1)
		w.nodes[1].role(wire.RoleBackup, 1)
		w.connect(0, 1)
		time.Sleep(3 * time.Second)
		w.nodes[0].role(wire.RoleBackup, 2)
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(3 * time.Second)
		second := sadbtest.Negotiated(r, first, true)
		w.nodes[1].kernel.foreign(second...)
		time.Sleep(3 * time.Second)
		w.nodes[1].role(wire.RoleBackup, 3)
		w.nodes[0].role(wire.RoleMaster, 3)
		k := w.nodes[0].kernel
		time.Sleep(3 * replica.SupersededIdle)
		for _, op := range append(first[:2:2], second[:2]...) {
			if !k.has(op.SA.Key) {
				t.Errorf("%s was collected, although nothing was negotiated since", op.SA.Key)
			}
		}
		third := sadbtest.Negotiated(r, first, true)
		k.foreign(third...)
		time.Sleep(2 * replica.SupersededIdle)
		if got := k.size(); got != 2 || !k.has(third[0].SA.Key) || !k.has(third[1].SA.Key) {
			t.Errorf("%d SAs remain, want the 2 of the last negotiation", got)
		}
		w.equal("after the collection")
	})
}

// TestReinsertAfterDaemonStart: the start of an IKE daemon that flushes the SAD
// costs the master nothing for long, and the standby nothing at all.
func TestReinsertAfterDaemonStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		r := rand.New(rand.NewPCG(1, 2))
		k := w.nodes[0].kernel
		for i := range 5 {
			k.foreign(tunnel(r, i, false)...)
		}
		w.nodes[0].keying = &simKeying{flushes: true}
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		defer w.stop()
		w.nodes[0].role(wire.RoleMaster, 1)
		w.nodes[1].role(wire.RoleBackup, 1)
		w.connect(0, 1)
		time.Sleep(3 * time.Second)
		before := k.text()
		sent := k.traffic(1000)
		standby := w.nodes[1].kernel.beyondCounters()
		k.flushSAs()
		time.Sleep(10 * time.Millisecond)
		if k.text() != before {
			t.Error("what the start of the daemon flushed is not back at once")
		}
		for key, used := range k.traffic(1) {
			if used[0] <= sent[key][1] {
				t.Errorf("%s: number %d was sent before", key, used[0])
			}
		}
		if w.nodes[1].kernel.beyondCounters() != standby {
			t.Error("the flush reached the standby")
		}
		// What is back stands ahead of what was sent, and the standby ahead of that.
		for key := range sent {
			if m, s := k.oseq(key), w.nodes[1].kernel.oseq(key); s <= m {
				t.Errorf("%s: the standby stands at %d, the master at %d", key, s, m)
			}
		}
		time.Sleep(10 * time.Second)
		w.equal("after the flush")
		if s, _ := w.nodes[0].engine.Status(context.Background()); s.Counts.Reinserted != 10 {
			t.Errorf("%d SAs put back, want 10", s.Counts.Reinserted)
		}
		// Another daemon's flush is an operator's wish.
		w.nodes[0].keying.(*simKeying).setFlushes(false)
		k.flushSAs()
		time.Sleep(5 * time.Second)
		if n := w.nodes[1].kernel.size(); n != 0 {
			t.Errorf("the standby has %d SAs after a flush by hand", n)
		}
	})
}
