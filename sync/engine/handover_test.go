package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/replica"
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

// onTheWire counts what the nodes send, and loses what it is told to.
type onTheWire struct {
	messages, items atomic.Int64
	// lose, while losing says so, tells which messages do not arrive.
	lose   func(wire.Message) bool
	losing atomic.Bool
}

func (c *onTheWire) sees(_ int, m wire.Message) bool {
	c.messages.Add(1)
	switch m := m.(type) {
	case *wire.Batch:
		c.items.Add(int64(len(m.Records)))
	case *wire.Counters:
		c.items.Add(int64(len(m.Entries)))
	}
	return c.losing.Load() && c.lose(m)
}

// watchedPair is pair with somebody on the wire.
func watchedPair(t *testing.T, n int, c *onTheWire) *world {
	w := newWorld(t, 2)
	w.lose = c.sees
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		w.nodes[0].kernel.foreign(tunnel(r, i, i%3 == 0)...)
	}
	w.join(100)
	time.Sleep(time.Second)
	return w
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
		var seen onTheWire
		w := watchedPair(t, tunnels, &seen)
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
		messages, items := seen.messages.Load(), seen.items.Load()
		shown, ops := old.shown.Load()+next.shown.Load(), old.count()+next.count()
		w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
		if after, ok := w.nodes[0].elector.answeredWithin(time.Second); !ok || after > handoverLimit/2 {
			t.Errorf("%d tunnels: answered %v after %v", tunnels, ok, after)
		}
		work = fenceWork{Shown: old.shown.Load() + next.shown.Load() - shown, Ops: old.count() + next.count() - ops,
			Messages: seen.messages.Load() - messages, Items: seen.items.Load() - items}
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

// TestHandOverIsExactUnderTraffic: packets leave on all SAs until the fence is set. The
// successor knows the exact counters of those that it is told behind the fence when it is
// asked whether it is prepared, and sends no number again on any SA.
func TestHandOverIsExactUnderTraffic(t *testing.T) {
	for _, tunnels := range []int{50, replica.FinalSAs + 200} {
		t.Run(fmt.Sprint(tunnels), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { handOverUnderTraffic(t, tunnels) })
		})
	}
}

func handOverUnderTraffic(t *testing.T, tunnels int) {
	w, _ := pair(t, tunnels)
	defer w.stop()
	old, next := w.nodes[0], w.nodes[1]
	all := old.kernel.outbound()
	sent := make(map[sadb.SAKey]uint64)
	for range 800 { // a step of traffic each 10 ms; the fence falls between two readings
		maps.Copy(sent, old.kernel.send(all, 7))
		time.Sleep(10 * time.Millisecond)
	}
	old.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
	if _, ok := old.elector.answeredWithin(handoverLimit / 2); !ok {
		t.Fatal("not answered in time")
	}
	next.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
	synctest.Wait()
	exact := 0
	for _, k := range all {
		heard := next.wanted(k)
		switch {
		case heard == sent[k]:
			exact++
		case heard > sent[k]:
			t.Errorf("%v: the successor has heard of %d, %d was sent", k, heard, sent[k])
		}
		if ahead := next.kernel.oseq(k); ahead < sent[k] {
			t.Errorf("%v: the successor begins at %d, %d was sent", k, ahead, sent[k])
		}
	}
	if want := min(len(all), replica.FinalSAs); exact != want {
		t.Errorf("the successor has the exact counters of %d SAs of %d, want %d", exact, len(all), want)
	}
	next.role(wire.RoleMaster, 2)
	old.role(wire.RoleBackup, 1)
	for k, span := range next.kernel.traffic(5) {
		if span[0] <= sent[k] {
			t.Errorf("%v: the successor sends %d, %d was sent before", k, span[0], sent[k])
		}
	}
	time.Sleep(10 * time.Second)
	if c := w.counts(0); c.HandOvers != 1 || c.HandOversUnconfirmed != 0 {
		t.Errorf("%d hand-overs confirmed, %d not", c.HandOvers, c.HandOversUnconfirmed)
	}
	if n := w.counts(1).SplitJumps; n != 0 {
		t.Errorf("%d numbers of the old master were beyond those of its successor", n)
	}
	w.equal("after the hand-over")
}

// wanted returns the outbound counter that a standby has last heard of an SA.
func (n *simNode) wanted(k sadb.SAKey) (oseq uint64) {
	_ = n.engine.do(n.w.t.Context(), func() {
		n.engine.groups[simGroup].rcv.Each(func(sa *sadb.SA, _ time.Time) {
			if sa.Key == k {
				oseq = sa.OSeq
			}
		})
	})
	return oseq
}

// TestHandOverIsAnsweredInTime: whatever keeps the standby from confirming, the election
// has its answer within the limit, and it is counted and told.
func TestHandOverIsAnsweredInTime(t *testing.T) {
	cases := []struct {
		name string
		lose func(wire.Message) bool
		harm func(w *world)
		// ended: the election goes on before that.
		ended bool
	}{
		{"nothing arrives", func(m wire.Message) bool { _, is := m.(*wire.Counters); return is }, nil, false},
		{"no standby", nil, func(w *world) { w.cut(0, 1) }, false},
		{"the election does not wait", func(m wire.Message) bool { _, is := m.(*wire.Ack); return is }, nil, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := onTheWire{lose: c.lose}
				w := watchedPair(t, 20, &seen)
				defer w.stop()
				time.Sleep(5 * time.Second)
				if seen.losing.Store(c.lose != nil); c.harm != nil {
					c.harm(w)
				}
				n := w.nodes[0]
				n.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
				if c.ended {
					time.Sleep(20 * time.Millisecond)
					n.role(wire.RoleBackup, 1)
				} else if after, ok := n.elector.answeredWithin(time.Second); !ok || after < handoverLimit-time.Millisecond ||
					after > handoverLimit+2*time.Millisecond {
					t.Errorf("answered %v after %v, want it after %v", ok, after, handoverLimit)
				}
				if c := w.counts(0); c.HandOvers != 0 || c.HandOversUnconfirmed != 1 {
					t.Errorf("%d hand-overs confirmed, %d not", c.HandOvers, c.HandOversUnconfirmed)
				}
				if w.log.count("hand-over without acknowledgement by a standby") != 1 {
					t.Error("nobody is told")
				}
			})
		})
	}
}

// TestHandOverDoesNotWaitForAudits: both gateways are in the middle of what a reading of
// their tables asks for when the fence is set. It is given up, and the next one does it.
func TestHandOverDoesNotWaitForAudits(t *testing.T) {
	const items = 2500
	for _, role := range []wire.Role{wire.RoleMaster, wire.RoleBackup} {
		rig := newTurnsRig(items)
		rig.g.work.turns.Late = nil
		var task func()
		if role == wire.RoleMaster {
			rig.master()
			rig.g.pub.BeginScan(time.Now())
			task = func() { rig.e.masterScanned(t.Context(), rig.g, time.Now(), rig.k.snap.Policies) }
		} else {
			rig.standby(true)
			id := rig.g.rcv.Pos().StreamID
			rig.g.rcv.Reception().Ask(rig.m, id, time.Now())
			rig.g.rcv.Reception().Bind(1, time.Now())
			rig.g.rcv.Resume(rig.g.rcv.Pos().Seq)
			task = func() { rig.e.groupScanned(t.Context(), rig.g, rig.k.snap.Policies) }
		}
		rig.e.run(rig.g, task)
		rig.e.turn()
		if rig.g.work.task == nil {
			t.Fatalf("%v: the audit has ended already: this is not what is meant", role)
		}
		if role == wire.RoleMaster {
			rig.e.prepareBackup(t.Context(), rig.g, 1)
		} else {
			rig.e.peerEvent(t.Context(), PeerEvent{Kind: PeerMessage, Session: rig.m.session,
				Message: &wire.Outage{Group: simGroup, Term: 1}})
		}
		if rig.g.work.task != nil {
			t.Errorf("%v: the audit goes on behind the fence", role)
		}
	}
}
