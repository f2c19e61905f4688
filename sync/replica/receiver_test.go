package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// standby is a receiver with a table of its own, without an engine around it.
type standby struct {
	t *testing.T
	r *Receiver
	k tables
}

func newStandby(t *testing.T) *standby {
	s := &standby{t, NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true}), make(tables)}
	s.r.Observe(&sadb.Snapshot{}, NewTouched())
	s.r.BeginSnapshot(wire.StreamID{Group: "g", Term: 1}, 0, 0, 0)
	return s
}

func (s *standby) do(ops []sadb.Op) {
	s.t.Helper()
	for i := 0; i < len(ops); i++ {
		err := s.k.apply(ops[i])
		again, unknown := s.r.Result(ops[i], err)
		if err != nil || unknown {
			s.t.Errorf("%v: %v", ops[i].Kind, err)
		}
		ops = append(ops, again...)
	}
}

func (s *standby) put(sa *sadb.SA, handle uint32) {
	s.do(s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: handle, SA: sa}))
}

func (s *standby) counters(after time.Duration, e ...wire.CounterEntry) {
	s.do(s.r.SetCounters(time.Now(), after, e))
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
	if len(s.k) != 0 {
		t.Error("an SA without room for the margin was installed")
	}
	if _, uncovered := s.r.Lost(); uncovered != 1 {
		t.Errorf("%d uncovered SAs reported, want 1", uncovered)
	}
	// One that runs out while it is installed is withdrawn.
	other := outbound(3)
	s.put(other, 2)
	if s.k[other.Key] == nil {
		t.Fatal("a fresh SA was not installed")
	}
	s.counters(time.Second, wire.CounterEntry{Handle: 2, OSeq: sadb.MaxLegacy - 5})
	if s.k[other.Key] != nil {
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
		s.do(s.r.Raise(time.Now()))
		high := s.k[sa.Key].OSeq
		if high < 1<<30 {
			t.Fatalf("counter at %d after 200 s of silence at 2 Mpps", high)
		}
		if sent {
			c := *s.k[sa.Key]
			c.OSeq++
			s.k[sa.Key] = &c
		}
		snap := s.k.snapshot()
		for _, x := range snap.SAs {
			x.Dir = sadb.DirOut
		}
		s.r.Observe(snap, NewTouched())
		s.counters(203*time.Second, wire.CounterEntry{Handle: 1, OSeq: 3_000_000, Packets: 3_000_000})
		got := s.k[sa.Key].OSeq
		if !sent && (got >= 1<<30 || got < 3_000_000) {
			t.Errorf("counter at %d, want it back near the master's", got)
		}
		if sent && got < high {
			t.Errorf("counter lowered from %d to %d although a packet was sent", high, got)
		}
	}
}

// TestInboundAdvance: with `replay inbound advance` a standby refuses what the
// master has probably received since its last report, without it it does not.
func TestInboundAdvance(t *testing.T) {
	for _, advance := range []bool{false, true} {
		s := newStandby(t)
		s.r.Advance = advance
		sa := *tunnel(rand.New(rand.NewPCG(1, 1)), 2, false)[1].SA
		sa.Dir = sadb.DirIn
		s.put(&sa, 1)
		s.counters(1*time.Second, wire.CounterEntry{Handle: 1, Seq: 10_000, Packets: 10_000})
		s.counters(2*time.Second, wire.CounterEntry{Handle: 1, Seq: 20_000, Packets: 20_000})
		want := uint64(20_000)
		if advance {
			want = 28_000 // 80 % of a second at 10,000 packets/s
		}
		if got := s.k[sa.Key].Seq; got != want {
			t.Errorf("advance %v: inbound counter at %d, want %d", advance, got, want)
		}
	}
}

// TestUnknownAttributes: what this version does not know is passed on between
// like kernels and refused, and reported, between others.
func TestUnknownAttributes(t *testing.T) {
	for _, alike := range []bool{true, false} {
		s := newStandby(t)
		s.r.SetKernel(alike, alike)
		sa := outbound(1)
		sa.Unknown = []sadb.Attr{{Type: 99, Data: []byte{1, 2}}}
		s.put(sa, 1)
		refused, _ := s.r.Lost()
		if got := s.k[sa.Key] != nil; got != alike || (refused == 0) != alike {
			t.Errorf("like kernels %v: installed %v, %d refused", alike, got, refused)
		}
	}
}
