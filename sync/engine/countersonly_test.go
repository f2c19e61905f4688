package engine

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestCountersOnly: an IKE daemon replicates SAs and policies itself, in its own
// time. The standby does nothing but keep the counters of what is there ahead,
// from the moment at which it appears.
func TestCountersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.countersOnly = true
		r := rand.New(rand.NewPCG(1, 2))
		a, b := w.nodes[0].kernel, w.nodes[1].kernel
		first := tunnel(r, 0, false)
		a.foreign(first...)
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		defer w.stop()
		w.nodes[0].role(wire.RoleMaster, 1)
		w.nodes[1].role(wire.RoleBackup, 1)
		w.connect(0, 1)
		time.Sleep(3 * time.Second)
		if b.size() != 0 {
			t.Fatal("the standby added SAs by itself")
		}
		if s := w.nodes[1].status(); s.Refused != 0 {
			t.Errorf("%d SAs count as missing that nobody uses", s.Refused)
		}
		a.traffic(1)
		time.Sleep(2 * time.Second)
		if s := w.nodes[1].status(); s.Refused != 1 {
			t.Errorf("%d SAs count as missing, want the outbound one", s.Refused)
		}
		// The daemon is later than the stream, ...
		b.foreign(first...)
		second := tunnel(r, 1, false)
		// ... or earlier.
		b.foreign(second...)
		time.Sleep(time.Millisecond)
		a.foreign(second...)
		time.Sleep(10 * time.Millisecond)
		ahead := func(when string) {
			t.Helper()
			for _, op := range []sadb.Op{first[0], second[0]} {
				if got, sent := b.oseq(op.SA.Key), a.oseq(op.SA.Key); got <= sent {
					t.Errorf("%s: %s stands at %d on the standby, at %d on the master", when, op.SA.Key, got, sent)
				}
			}
		}
		ahead("as soon as it appeared")
		a.traffic(5000)
		time.Sleep(5 * time.Second)
		ahead("under traffic")
		if s := w.nodes[1].status(); s.Refused != 0 || !s.InSync {
			t.Errorf("standby: %+v", s)
		}
		// Deletions are the daemon's as well.
		a.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: second[1].SA})
		time.Sleep(5 * time.Second)
		if !b.has(second[1].SA.Key) {
			t.Error("the standby deleted an SA by itself")
		}
		sent := a.traffic(1)
		w.nodes[0].role(wire.RoleBackup, 2)
		w.nodes[1].role(wire.RoleMaster, 2)
		for key, used := range b.traffic(1) {
			if used[0] <= sent[key][1] {
				t.Errorf("%s: number %d was sent before", key, used[0])
			}
		}
		time.Sleep(2 * replica.SupersededIdle)
		if a.beyondCounters() != 0 || b.beyondCounters() != 0 {
			t.Errorf("%d and %d operations beyond counters", a.beyondCounters(), b.beyondCounters())
		}
	})
}

func (k *simKernel) oseq(key sadb.SAKey) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sas[key].OSeq
}

func (k *simKernel) beyondCounters() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.beyond
}

// TestMappingIsOfTheDaemonThatReplicates: where the IKE daemon replicates SAs it
// follows a remote end that moves, and sasyncd leaves its SAs alone (I2).
func TestMappingIsOfTheDaemonThatReplicates(t *testing.T) {
	ev := sadb.Event{Kind: sadb.EventMapping, Encap: &sadb.Encap{SrcPort: 61234}, SA: &sadb.SA{
		Key: sadb.SAKey{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x1000, Proto: sadb.ProtoESP},
		Src: netip.MustParseAddr("203.0.113.9")}}
	for countersOnly, want := range map[bool]int{false: 1, true: 0} {
		g := newGroup(GroupConfig{Name: "g", Whole: true, CountersOnly: countersOnly},
			Config{Margin: sadb.DefaultMargin()})
		if g.noteMapping(time.Now(), ev); len(g.mapped) != want {
			t.Errorf("counters only %v: %d mappings to follow, want %d", countersOnly, len(g.mapped), want)
		}
	}
}
