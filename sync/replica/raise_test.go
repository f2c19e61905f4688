package replica

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// inboundOf is the inbound SA of a tunnel.
func inboundOf(n int) *sadb.SA {
	sa := *outbound(n)
	sa.Src, sa.Key.Dst, sa.Dir = sa.Key.Dst, sa.Src, sadb.DirIn
	return &sa
}

// TestRaiseOfAStandby: outbound counters go above what another node may have used, from
// where they stood, once, and nothing else changes.
func TestRaiseOfAStandby(t *testing.T) {
	s := newStandby(t)
	wide, narrow, in, uncovered, other := outbound(2), outbound(1), inboundOf(2), outbound(3), outbound(4)
	uncovered.OSeq = sadb.MaxLegacy / 2
	for i, sa := range []*sadb.SA{wide, narrow, in, uncovered, other} {
		s.put(sa, uint32(i+1))
	}
	from := s.r.Outbound()
	if len(from) != 4 || from[wide.Key] != s.k[wide.Key].OSeq || from[narrow.Key] != s.k[narrow.Key].OSeq {
		t.Errorf("counters %v", from)
	}
	if _, told := from[in.Key]; told {
		t.Error("an inbound counter is one of those that were sent from")
	}
	delete(from, other.Key)
	from[sadb.SAKey{SPI: 99}] = 5 // gone meanwhile
	from[in.Key] = 5
	from[uncovered.Key] = sadb.MaxLegacy
	before := *s.k[in.Key]
	stale := LagBound(s.r.Margin.Interval)
	want := make(map[sadb.SAKey]uint64)
	for _, sa := range []*sadb.SA{wide, narrow} {
		want[sa.Key], _ = s.r.Margin.Retired(sa.ESN(), from[sa.Key], 0, stale)
	}
	want[other.Key] = s.k[other.Key].OSeq
	now := time.Now()
	ops := s.r.RaiseBeyondSuccessor(now, from)
	if ops.Repairs() != 0 {
		t.Errorf("%d operations other than those that set counters", ops.Repairs())
	}
	for chunk := ops.Next(100); chunk != nil; chunk = ops.Next(100) {
		for _, op := range chunk {
			if op.SA.Bitmap != nil {
				t.Error("the window of a raised SA does not count as seen")
			}
		}
		s.do(chunk)
	}
	for k, v := range want {
		if got := s.k[k].OSeq; got != v {
			t.Errorf("%v: counter %d, want %d", k, got, v)
		}
	}
	if s.k[in.Key].OSeq != before.OSeq || s.k[in.Key].Seq != before.Seq {
		t.Error("an inbound SA was raised")
	}
	if again := s.r.RaiseBeyondSuccessor(now, from); !again.Empty() {
		t.Error("a second time raises more")
	}
	if _, n := s.r.Lost(); n != 1 {
		t.Errorf("%d are uncovered, want the one that has no numbers left", n)
	}
	// The master's last word counts where it is higher.
	s.counters(time.Second, wire.CounterEntry{Handle: 1, OSeq: 1 << 30})
	if v, _ := s.r.Margin.Retired(true, 1<<30, s.r.want[wide.Key].rate.Peak(), stale); true {
		list := s.r.RaiseBeyondSuccessor(now, map[sadb.SAKey]uint64{wide.Key: 0})
		if ops := list.Next(1); len(ops) != 1 || ops[0].SA.OSeq != v {
			t.Errorf("operations %+v, want the counter at %d", ops, v)
		}
	}
}

// TestRaiseOfAMaster: the same on what a node publishes that is MASTER again.
func TestRaiseOfAMaster(t *testing.T) {
	began := time.Unix(1e9, 0)
	m := sadb.DefaultMargin()
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, began)
	wide, narrow, in, ahead := outbound(2), outbound(1), inboundOf(2), outbound(4)
	wide.OSeq, narrow.OSeq, in.OSeq, ahead.OSeq = 1000, 2000, 3000, 1<<40
	for _, sa := range []*sadb.SA{wide, narrow, in, ahead} {
		p.PutSA(began, sa)
	}
	from := p.Numbers()
	if len(from) != 4 || from[wide.Key] != 1000 || from[narrow.Key] != 2000 {
		t.Errorf("numbers %v", from)
	}
	from[ahead.Key] = 1
	from[sadb.SAKey{SPI: 99}] = 5
	got := make(map[sadb.SAKey]uint64)
	for _, op := range p.RaiseBeyondSuccessor(began.Add(10*time.Second), m, from) {
		if got[op.SA.Key] = op.SA.OSeq; op.Kind != sadb.OpSetCounters || op.SA.Bitmap != nil || op.SA.Age != 10 {
			t.Errorf("operation %+v", op)
		}
	}
	for _, sa := range []*sadb.SA{wide, narrow} {
		if v, _ := m.Retired(sa.ESN(), sa.OSeq, 0, LagBound(m.Interval)); got[sa.Key] != v {
			t.Errorf("%v: counter %d, want %d", sa.Key, got[sa.Key], v)
		}
	}
	if len(got) != 2 || wide.OSeq != 1000 {
		t.Errorf("%d are raised, want 2; published is %d", len(got), wide.OSeq)
	}
}

// TestRaiseUntold: what no stream has told is raised by far more, but for what this node
// knew before, from where it stood first.
func TestRaiseUntold(t *testing.T) {
	s, was := newStandby(t), newStandby(t)
	told, known, unknown, in := outbound(2), outbound(4), outbound(6), inboundOf(8)
	s.put(told, 1)
	was.put(known, 1)
	for _, sa := range []*sadb.SA{told, known, unknown, in} {
		sa.OSeq = 1000
	}
	list := []*sadb.SA{told, known, unknown, in}
	m := s.r.Margin
	retired, _ := m.Retired(true, 1000, 0, LagBound(m.Interval))
	for _, tt := range []struct {
		was  *Receiver
		want map[sadb.SAKey]uint64
	}{
		{nil, map[sadb.SAKey]uint64{known.Key: m.Forgotten(true, 1000), unknown.Key: m.Forgotten(true, 1000)}},
		{was.r, map[sadb.SAKey]uint64{known.Key: retired, unknown.Key: m.Forgotten(true, 1000)}},
	} {
		from := make(map[sadb.SAKey]uint64)
		got := make(map[sadb.SAKey]uint64)
		for _, op := range s.r.RaiseUntold(list, from, tt.was) {
			got[op.SA.Key] = op.SA.OSeq
		}
		if len(got) != len(tt.want) {
			t.Errorf("raised %v, want %v", got, tt.want)
		}
		for k, v := range tt.want {
			if got[k] != v {
				t.Errorf("%v: %d, want %d", k, got[k], v)
			}
		}
		if len(from) != 2 || from[unknown.Key] != 1000 {
			t.Errorf("noted %v", from)
		}
		// The kernel has it: a repetition raises nothing, and not from where it stands.
		raised := *unknown
		raised.OSeq = got[unknown.Key]
		if ops := s.r.RaiseUntold([]*sadb.SA{&raised}, from, tt.was); len(ops) > 0 {
			t.Errorf("raised twice: %+v", ops[0].SA.OSeq)
		}
		raised.OSeq--
		if ops := s.r.RaiseUntold([]*sadb.SA{&raised}, from, tt.was); len(ops) != 1 {
			t.Error("what the kernel has refused is not raised")
		}
	}
}

// TestOmitTold: what the snapshot under way has told is not among what is raised for it.
func TestOmitTold(t *testing.T) {
	s := newStandby(t)
	old, told := outbound(2), outbound(4)
	s.put(old, 1)
	s.r.BeginSnapshot(wire.StreamID{Group: "g", Term: 2}, 0, 0, 0)
	s.put(told, 2)
	from := map[sadb.SAKey]uint64{old.Key: 1, told.Key: 2, {SPI: 9}: 3}
	if s.r.OmitTold(from); len(from) != 2 || from[old.Key] != 1 {
		t.Errorf("left are %v", from)
	}
}

// TestBeyond: a counter that stands further ahead than the master knows is noted while the
// master's word is fresh, and told once.
func TestBeyond(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		dir   sadb.Direction
		ahead uint64 // leads above the master's
		more  uint64
		heard time.Duration // since
		word  time.Duration // since the SA was told
		want  bool
	}{
		{"two leads", sadb.DirOut, 2, 0, 0, 0, false},
		{"more", sadb.DirOut, 2, 1, 0, 0, true},
		{"inbound", sadb.DirIn, 2, 1, 0, 0, false},
		{"an old word", sadb.DirOut, 2, 1, 2 * time.Second, 2 * time.Second, false},
		{"counters are fresh", sadb.DirOut, 2, 1, 2*time.Second - 1, time.Hour, true},
		{"the SA is fresh", sadb.DirOut, 2, 1, time.Hour, 2*time.Second - 1, true},
	} {
		s := newStandby(t)
		sa := outbound(2)
		sa.Dir = tt.dir
		lead, _ := s.r.Margin.Lead(true, 0, 0)
		s.r.counters = now.Add(-tt.heard)
		w := &wantSA{sa: sa, at: now.Add(-tt.word)}
		s.r.noteBeyond(now, w, haveSA{oseq: sa.OSeq + tt.ahead*lead + tt.more})
		if s.r.HasBeyond() != tt.want {
			t.Errorf("%s: noted %v, want %v", tt.name, s.r.HasBeyond(), tt.want)
		}
		if list, last := s.r.TakeBeyond(10); (len(list) == 1) != tt.want || !last || tt.want &&
			(list[0].Key != sa.Key || list[0].OSeq != sa.OSeq+tt.ahead*lead+tt.more) || s.r.HasBeyond() {
			t.Errorf("%s: told %v, %v", tt.name, list, last)
		}
	}
	r := newStandby(t).r
	for i := range 5 {
		r.beyond[sadb.SAKey{SPI: uint32(i)}] = 1
	}
	for _, want := range []struct {
		n    int
		last bool
	}{{2, false}, {2, false}, {1, true}, {0, true}} {
		if list, last := r.TakeBeyond(2); len(list) != want.n || last != want.last {
			t.Errorf("told %d, last %v, want %d, %v", len(list), last, want.n, want.last)
		}
	}
}
