package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestCountersThatMoveDuringASnapshot: a snapshot takes several readings of the
// master's tables, since the standby is slow. SAs whose records it has had send
// more than the margin meanwhile, and nothing afterwards. The standby is ahead of
// them when it is in sync.
func TestCountersThatMoveDuringASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		master, standby := w.nodes[0], w.nodes[1]
		acks := 0 // of node 1's engine
		w.lose = func(from int, m wire.Message) bool {
			if a, ok := m.(*wire.Ack); ok && from == 1 && !a.SnapDone && a.Installed > 0 {
				if acks++; acks == 1 {
					time.Sleep(5 * time.Second / 2)
				}
			}
			return false
		}
		r := rand.New(rand.NewPCG(14, 2))
		for i := range 1000 { // more records than the window of a snapshot
			master.kernel.foreign(tunnel(r, i, false)...)
		}
		master.boot(1)
		standby.boot(2)
		master.role(wire.RoleMaster, 1)
		standby.role(wire.RoleBackup, 1)
		time.Sleep(3 * time.Second)
		w.connect(0, 1)
		time.Sleep(time.Second)
		master.kernel.traffic(1 << 30)
		time.Sleep(6 * time.Second)
		s := standby.status()
		if acks == 0 {
			t.Fatal("the snapshot was not held up")
		}
		if !s.InSync {
			t.Fatalf("the standby is not in sync: %s", s.Why)
		}
		behind := 0
		snap, err := master.kernel.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		own := make(map[sadb.SAKey]uint64)
		for _, sa := range snap.SAs {
			own[sa.Key] = sa.OSeq
		}
		snap, err = standby.kernel.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, sa := range snap.SAs {
			if sa.OSeq < own[sa.Key] {
				behind++
			}
		}
		if behind > 0 {
			t.Errorf("the counters of %d SAs are below the master's on a standby that is in sync", behind)
		}
	})
}
