package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

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
		if err := b.engine.do(t.Context(), func() { named = b.engine.order[0].rcv.WasHeld(keys[0]) }); err != nil ||
			!named {
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
