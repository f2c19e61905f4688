package replica

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// kinds lists what operations do, SAs by SPI and policies by direction.
func kinds(ops []sadb.Op) (out []string) {
	for _, op := range ops {
		what := ""
		if op.Policy != nil {
			what = " " + op.Policy.Key.Dir.String()
		}
		out = append(out, op.Kind.String()+what)
	}
	slices.Sort(out)
	return out
}

func all(l OpList) []sadb.Op { return slices.Concat(l...) }

// policies are those of a tunnel: out, in, fwd.
func policies(n int) (list []*sadb.Policy) {
	for _, op := range tunnel(rand.New(rand.NewPCG(1, 1)), n, false)[2:] {
		list = append(list, op.Policy)
	}
	return list
}

func (s *standby) putPolicy(p *sadb.Policy) []sadb.Op {
	ops := s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutPolicy, Policy: p})
	s.do(ops)
	return ops
}

// TestResult: what the kernel answers decides what it is taken to have, and what is tried
// instead.
func TestResult(t *testing.T) {
	refused := errors.New("no memory")
	pol := policies(2)[0]
	sa := outbound(2)
	limited := *sa
	limited.Limits.HardAdd = 77
	set := *sa
	set.OSeq, set.Seq = 1<<40, 5
	changed := *pol
	changed.Priority++
	for _, tt := range []struct {
		name    string
		held    bool // the kernel has it before
		op      sadb.Op
		err     error
		has     bool
		again   []string
		unknown bool
		refused int
	}{
		{"added", false, sadb.Op{Kind: sadb.OpAddSA, SA: sa}, nil, true, nil, false, 0},
		{"added, but it is there", false, sadb.Op{Kind: sadb.OpAddSA, SA: sa}, fs.ErrExist, false, nil, true, 1},
		{"added, refused", false, sadb.Op{Kind: sadb.OpAddSA, SA: sa}, refused, false, nil, false, 1},
		{"changed", true, sadb.Op{Kind: sadb.OpUpdateSA, SA: &limited}, nil, true, nil, false, 0},
		{"changed, refused", true, sadb.Op{Kind: sadb.OpUpdateSA, SA: &limited}, refused, true, nil, false, 0},
		{"deleted", true, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa}, nil, false, nil, false, 0},
		{"deleted, refused", true, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa}, refused, true, nil, false, 0},
		{"set", true, sadb.Op{Kind: sadb.OpSetCounters, SA: &set}, nil, true, nil, false, 0},
		{"set, refused", true, sadb.Op{Kind: sadb.OpSetCounters, SA: &set}, refused, true, nil, false, 0},
		{"set, but it is gone", true, sadb.Op{Kind: sadb.OpSetCounters, SA: &set}, fs.ErrNotExist, false,
			[]string{"add-sa"}, false, 0},
		{"policy added", false, sadb.Op{Kind: sadb.OpAddPolicy, Policy: pol}, nil, true, nil, false, 0},
		{"policy added, but it is there", false, sadb.Op{Kind: sadb.OpAddPolicy, Policy: pol}, fs.ErrExist, false,
			[]string{"update-policy out"}, false, 0},
		{"policy refused", false, sadb.Op{Kind: sadb.OpAddPolicy, Policy: pol}, refused, false, nil, false, 1},
		{"policy changed", true, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &changed}, nil, true, nil, false, 0},
		{"policy changed, refused", true, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &changed}, refused, true, nil,
			false, 1},
		{"policy deleted", true, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: pol}, nil, false, nil, false, 0},
		{"policy deleted, refused", true, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: pol}, refused, true, nil, false, 0},
	} {
		s := newStandby(t)
		s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: 1, SA: sa})
		s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutPolicy, Policy: pol})
		if tt.held {
			s.r.Result(sadb.Op{Kind: sadb.OpAddSA, SA: sa}, nil)
			s.r.Result(sadb.Op{Kind: sadb.OpAddPolicy, Policy: pol}, nil)
		}
		again, unknown := s.r.Result(tt.op, tt.err)
		if !slices.Equal(kinds(again), tt.again) || unknown != tt.unknown {
			t.Errorf("%s: tried instead %v, unknown %v", tt.name, kinds(again), unknown)
		}
		if n, _ := s.r.Lost(); n != tt.refused {
			t.Errorf("%s: %d refused, want %d", tt.name, n, tt.refused)
		}
		h, has := s.r.holds(sa.Key)
		d, hasPolicy := s.r.havePolicy[pol.Key]
		if tt.op.Policy != nil {
			has = hasPolicy
		}
		if has != tt.has {
			t.Errorf("%s: the kernel is taken to have it: %v, want %v", tt.name, has, tt.has)
		}
		ok := tt.err == nil
		switch tt.op.Kind {
		case sadb.OpUpdateSA:
			if (h.limits == limitsOf(limited.Limits)) != ok {
				t.Errorf("%s: limits taken over: %v", tt.name, !ok)
			}
		case sadb.OpSetCounters:
			if tt.has && (h.oseq == 1<<40 && h.seq == 5) != ok {
				t.Errorf("%s: counters %d, %d", tt.name, h.oseq, h.seq)
			}
		case sadb.OpUpdatePolicy:
			if (d == PolicyDigest(&changed)) != ok {
				t.Errorf("%s: the change is taken over: %v", tt.name, !ok)
			}
		}
	}
}

// TestRefusedIsTriedAgain: what the kernel had refused is not counted any more once it has
// taken it, or a reading has shown it.
func TestRefusedIsTriedAgain(t *testing.T) {
	s := newStandby(t)
	sa, pol := outbound(2), policies(2)[0]
	for _, op := range s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: 1, SA: sa}) {
		s.r.Result(op, fs.ErrExist)
	}
	for _, op := range s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutPolicy, Policy: pol}) {
		s.r.Result(op, fs.ErrPermission)
	}
	if n, _ := s.r.Lost(); n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	there := *sa
	there.Limits = standbyLimits(sa.Limits)
	there.OSeq = 1 << 30
	s.r.Observe(&sadb.Snapshot{SAs: []*sadb.SA{&there}, Policies: []*sadb.Policy{pol}}, NewTouched())
	if ops := all(s.r.Repair(time.Now())); len(ops) > 0 {
		t.Errorf("a reading has shown all: %v", kinds(ops))
	}
	if n, _ := s.r.Lost(); n > 1 {
		t.Errorf("%d refused behind a reading, want no SA", n)
	}
	s.do(s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutPolicy, Policy: pol}))
	if n, _ := s.r.Lost(); n != 0 {
		t.Errorf("%d refused behind a repetition, want none", n)
	}
}

// TestSweep: the end of a snapshot deletes what it has not named, where that is wanted,
// and a repair deletes only when the stream is complete.
func TestSweep(t *testing.T) {
	for _, tt := range []struct {
		sweeps, countersOnly bool
		want                 []string
		sas                  int
	}{
		{true, false, []string{"delete-policy in", "delete-sa", "delete-sa"}, 1},
		{false, false, nil, 2},
		{true, true, nil, 1},
	} {
		s := newStandby(t)
		s.r.Sweeps = tt.sweeps
		old, kept, foreign := outbound(2), outbound(4), outbound(6)
		list := policies(2)
		s.put(old, 1)
		s.putPolicy(list[0])
		s.putPolicy(list[1])
		s.r.EndSnapshot(0)
		s.r.Result(sadb.Op{Kind: sadb.OpAddSA, SA: foreign}, nil)
		s.r.BeginSnapshot(wire.StreamID{Group: "g", Term: 2}, 0, 0, 0)
		s.put(kept, 1)
		s.putPolicy(list[0])
		s.r.CountersOnly = tt.countersOnly
		if ops := all(s.r.Repair(time.Now())); slices.ContainsFunc(ops, func(op sadb.Op) bool {
			return op.Kind == sadb.OpDeleteSA || op.Kind == sadb.OpDeletePolicy
		}) {
			t.Errorf("%+v: a repair deletes in the middle of a snapshot: %v", tt, kinds(ops))
		}
		if s.r.Whole() || s.r.Pos().Complete {
			t.Error("complete in the middle of a snapshot")
		}
		ops := all(s.r.EndSnapshot(7))
		if !slices.Equal(kinds(ops), tt.want) {
			t.Errorf("%+v: the end deletes %v", tt, kinds(ops))
		}
		if sas, _ := s.r.Size(); sas != tt.sas || s.r.Pos().Seq != 7 || !s.r.Whole() {
			t.Errorf("%+v: %d SAs are wanted, at %+v", tt, sas, s.r.Pos())
		}
		if again := all(s.r.EndSnapshot(9)); len(again) > 0 || s.r.Pos().Seq != 7 {
			t.Error("an end without a snapshot is taken")
		}
		if ops := all(s.r.Repair(time.Now())); !slices.Equal(kinds(ops), tt.want) && !tt.countersOnly {
			t.Errorf("%+v: a repair does %v", tt, kinds(ops))
		}
	}
}

// TestRepairOrder: what is missing comes the oldest first, and of one age that which was
// published first.
func TestRepairOrder(t *testing.T) {
	s := newStandby(t)
	var want []uint32
	now := time.Now()
	for i, age := range []uint64{5, 70, 70, 900, 0} {
		sa := *outbound(2)
		sa.Key.SPI, sa.Age = uint32(1000+i), age
		s.r.Apply(now, 0, wire.Record{Kind: wire.PutSA, Handle: uint32(i + 1), SA: &sa})
	}
	want = []uint32{1003, 1001, 1002, 1000, 1004}
	var got []uint32
	for _, op := range all(s.r.Repair(now)) {
		got = append(got, op.SA.Key.SPI)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestRepairBucket: a bucket of the master is taken as it is, SAs and policies, once all of
// it has come, and only at the same place of the stream.
func TestRepairBucket(t *testing.T) {
	now := time.Now()
	p := NewPublisher(wire.StreamID{Group: "g", Term: 1}, now)
	s := newStandby(t)
	s.r.EndSnapshot(0)
	for n := range 40 {
		for _, op := range tunnel(rand.New(rand.NewPCG(uint64(n), 1)), n, n%2 == 0) {
			rec := wire.Record{}
			if op.SA != nil {
				op.SA.Dir = sadb.DirOut
				rec, _ = p.PutSA(now, op.SA)
			} else {
				rec, _ = p.PutPolicy(now, op.Policy)
			}
			if rec.SA != nil { // each side has its own
				c := *rec.SA
				rec.SA = &c
			}
			if n%4 != 0 { // some are missing
				s.do(s.r.Apply(now, 0, rec))
			} else {
				s.r.pos.Seq++
			}
		}
	}
	// Some are left that the master has no more, some differ.
	for n := 40; n < 50; n++ {
		sa, pol := outbound(n), policies(n)[0]
		s.r.pos.Seq-- // as if they had been told before
		s.do(s.r.Apply(now, 0, wire.Record{Kind: wire.PutSA, Handle: uint32(1000 + n), SA: sa, Numbered: true}))
		s.r.pos.Seq--
		s.do(s.r.Apply(now, 0, wire.Record{Kind: wire.PutPolicy, Policy: pol, Numbered: true}))
	}
	for _, w := range slices.Collect(maps.Values(s.r.wantPolicy)) {
		if w.policy.Key.Dir == sadb.DirFwd {
			c := *w.policy
			c.Priority = 77
			s.r.pos.Seq--
			s.do(s.r.Apply(now, 0, wire.Record{Kind: wire.PutPolicy, Policy: &c, Numbered: true}))
		}
	}
	s.r.pos.Seq = p.Seq()
	differ := s.r.Sums().Differing(p.Sums().List())
	if len(differ) < 20 {
		t.Fatalf("%d buckets differ", len(differ))
	}
	applied := s.r.Applied()
	for b, items := range p.Buckets(now, differ) {
		if !slices.IsSortedFunc(items.Keys, func(x, y wire.Sum) int { return slices.Compare(x[:], y[:]) }) {
			t.Fatal("keys are not in order")
		}
		msg := wire.BucketItems{Seq: p.Seq(), Of: SumBuckets, Bucket: b, Records: items.Records, Keys: items.Keys}
		for name, wrong := range map[string]func(*wire.BucketItems){
			"another place": func(m *wire.BucketItems) { m.Seq++ },
			"other buckets": func(m *wire.BucketItems) { m.Of /= 2 },
			"earlier place": func(m *wire.BucketItems) { m.Seq-- },
		} {
			bad := msg
			if wrong(&bad); len(s.r.RepairBucket(now, 0, &bad)) > 0 {
				t.Errorf("%s: it is taken", name)
			}
		}
		first := msg
		first.More, first.Records, first.Keys = true, items.Records[:len(items.Records)/2], nil
		for _, op := range s.r.RepairBucket(now, 0, &first) {
			if op.Kind == sadb.OpDeletePolicy {
				t.Error("a part of a bucket deletes")
			}
			s.do([]sadb.Op{op})
		}
		msg.Records = items.Records[len(items.Records)/2:]
		for _, op := range s.r.RepairBucket(now, 0, &msg) {
			s.do([]sadb.Op{op})
		}
	}
	if left := s.r.Sums().Differing(p.Sums().List()); len(left) > 0 {
		t.Errorf("%d buckets differ still", len(left))
	}
	if s.r.Applied() != applied || s.r.Pos().Seq != p.Seq() {
		t.Error("a repair counts as a part of the stream")
	}
	sas, pols := p.Size()
	if a, b := s.r.Size(); a != sas || b != pols || len(s.k) != sas || len(s.r.havePolicy) != pols {
		t.Errorf("%d SAs and %d policies are wanted, %d and %d there, want %d and %d", a, b, len(s.k),
			len(s.r.havePolicy), sas, pols)
	}
}
