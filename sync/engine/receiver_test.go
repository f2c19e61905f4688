package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// standby is a receiver with a table of its own, without an engine around it.
type standby struct {
	t *testing.T
	r *receiver
	k *simKernel
}

func newStandby(t *testing.T) *standby {
	s := &standby{t, newReceiver(options{margin: sadb.DefaultMargin(), sweeps: true}), newSimKernel()}
	s.r.observe(&sadb.Snapshot{}, newTouched())
	s.r.begin(wire.StreamID{Group: "g", Term: 1}, 0, 0, 0)
	return s
}

func (s *standby) do(ops []sadb.Op) {
	s.t.Helper()
	for i := 0; i < len(ops); i++ {
		err := s.k.apply(ops[i], true)
		again, unknown := s.r.result(ops[i], err)
		if err != nil || unknown {
			s.t.Errorf("%v: %v", ops[i].Kind, err)
		}
		ops = append(ops, again...)
	}
}

func (s *standby) put(sa *sadb.SA, handle uint32) {
	s.do(s.r.apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: handle, SA: sa}))
}

func (s *standby) counters(after time.Duration, e ...wire.CounterEntry) {
	s.do(s.r.setCounters(time.Now(), after, e))
}

func outbound(n int) *sadb.SA {
	sa := *tunnel(rand.New(rand.NewPCG(1, 1)), n, false)[0].SA
	sa.Dir = sadb.DirOut
	return &sa
}

// TestUncoveredSAIsNotUsed: an outbound SA near the end of its 32 bits cannot be
// kept ahead; it must not be in the kernel of a node that may take over.
func TestUncoveredSAIsNotUsed(t *testing.T) {
	s := newStandby(t)
	sa := outbound(1) // 32 bit
	sa.OSeq = sadb.MaxLegacy - 100
	s.put(sa, 1)
	if len(s.k.sas) != 0 {
		t.Error("an SA without room for the margin was installed")
	}
	if _, uncovered := s.r.lost(); uncovered != 1 {
		t.Errorf("%d uncovered SAs reported, want 1", uncovered)
	}
	// One that runs out while it is installed is withdrawn.
	other := outbound(3)
	s.put(other, 2)
	if s.k.sas[other.Key] == nil {
		t.Fatal("a fresh SA was not installed")
	}
	s.counters(time.Second, wire.CounterEntry{Handle: 2, OSeq: sadb.MaxLegacy - 5})
	if s.k.sas[other.Key] != nil {
		t.Error("an SA that ran out of numbers is still installed")
	}
}

// TestCounterOvershootIsUndone: a margin that grew while the master was silent
// can end above what the remote end accepts. Once the master is heard again the
// SA is made anew with a smaller counter, but only if nothing was sent on it.
func TestCounterOvershootIsUndone(t *testing.T) {
	for _, sent := range []bool{false, true} {
		s := newStandby(t)
		sa := outbound(2) // ESN
		s.put(sa, 1)
		s.counters(1*time.Second, wire.CounterEntry{Handle: 1, OSeq: 1000, Packets: 1000})
		s.counters(2*time.Second, wire.CounterEntry{Handle: 1, OSeq: 2_000_000, Packets: 2_000_000})
		s.r.counters = time.Now().Add(-200 * time.Second) // silence
		s.do(s.r.raise(time.Now()))
		high := s.k.sas[sa.Key].OSeq
		if high < 1<<30 {
			t.Fatalf("counter at %d after 200 s of silence at 2 Mpps", high)
		}
		if sent {
			c := *s.k.sas[sa.Key]
			c.OSeq++
			s.k.sas[sa.Key] = &c
		}
		snap, _ := s.k.Dump(t.Context())
		for _, x := range snap.SAs {
			x.Dir = sadb.DirOut
		}
		s.r.observe(snap, newTouched())
		s.counters(203*time.Second, wire.CounterEntry{Handle: 1, OSeq: 3_000_000, Packets: 3_000_000})
		got := s.k.sas[sa.Key].OSeq
		if !sent && (got >= 1<<30 || got < 3_000_000) {
			t.Errorf("counter at %d, want it back near the master's", got)
		}
		if sent && got < high {
			t.Errorf("counter lowered from %d to %d although a packet was sent", high, got)
		}
	}
}

// TestFlushModes flushes a healthy master's tables.
func TestFlushModes(t *testing.T) {
	for _, forward := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			w.forward = forward
			defer w.stop()
			w.nodes[0].kernel.foreign(tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)...)
			for i, n := range w.nodes {
				n.boot(uint64(i))
			}
			w.nodes[0].role(wire.RoleMaster, 1)
			w.nodes[1].role(wire.RoleBackup, 1)
			w.connect(0, 1)
			time.Sleep(time.Second)
			before := w.nodes[1].kernel.text()
			w.nodes[0].kernel.flush()
			time.Sleep(1500 * time.Millisecond)
			if w.nodes[1].kernel.text() != before {
				t.Error("the flush reached the standby within the hold time")
			}
			time.Sleep(5 * time.Second)
			// Policies are back at once, so the flush of none is forwarded.
			if got := w.nodes[1].kernel.text(); forward != (w.nodes[1].kernel.size() == 0) || !forward && got != before {
				t.Errorf("forwarding flushes: %v, standby holds %q", forward, got)
			}
			if have := len(w.nodes[1].kernel.policies); have != 3 {
				t.Errorf("forwarding flushes: %v, standby holds %d policies of 3", forward, have)
			}
		})
	}
}

// TestInboundAdvance: with `replay inbound advance` a standby refuses what the
// master has probably received since its last report, without it it does not.
func TestInboundAdvance(t *testing.T) {
	for _, advance := range []bool{false, true} {
		s := newStandby(t)
		s.r.advance = advance
		sa := *tunnel(rand.New(rand.NewPCG(1, 1)), 2, false)[1].SA
		sa.Dir = sadb.DirIn
		s.put(&sa, 1)
		s.counters(1*time.Second, wire.CounterEntry{Handle: 1, Seq: 10_000, Packets: 10_000})
		s.counters(2*time.Second, wire.CounterEntry{Handle: 1, Seq: 20_000, Packets: 20_000})
		want := uint64(20_000)
		if advance {
			want = 28_000 // 80 % of a second at 10,000 packets/s
		}
		if got := s.k.sas[sa.Key].Seq; got != want {
			t.Errorf("advance %v: inbound counter at %d, want %d", advance, got, want)
		}
	}
}

// TestUnknownAttributes: what this version does not know is passed on between
// like kernels and refused, and reported, between others.
func TestUnknownAttributes(t *testing.T) {
	for _, alike := range []bool{true, false} {
		s := newStandby(t)
		s.r.alike = alike
		sa := outbound(1)
		sa.Unknown = []sadb.Attr{{Type: 99, Data: []byte{1, 2}}}
		s.put(sa, 1)
		refused, _ := s.r.lost()
		if got := s.k.sas[sa.Key] != nil; got != alike || (refused == 0) != alike {
			t.Errorf("like kernels %v: installed %v, %d refused", alike, got, refused)
		}
	}
}
