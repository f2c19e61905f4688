package replica

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestCountersNeverGoBack: a message that comes late, or of a master that was reset, lowers
// no number; what the SAs carried is counted by direction; an unknown number is noticed.
func TestCountersNeverGoBack(t *testing.T) {
	s := newStandby(t)
	out, in := outbound(2), inboundOf(4)
	s.put(out, 1)
	s.put(in, 2)
	before := [2]uint64{s.r.out, s.r.in}
	for i, step := range []struct {
		out, in    uint64 // as the master says
		sent, recv uint64 // in all
	}{{1000, 500, 1000, 500}, {900, 400, 1000, 500}, {1100, 600, 1200, 700}} {
		now := time.Now()
		s.counters(time.Duration(i+1)*time.Second,
			wire.CounterEntry{Handle: 1, OSeq: step.out, Packets: step.out, Bytes: 10 * step.out},
			wire.CounterEntry{Handle: 2, Seq: step.in, Packets: step.in})
		sent, recv := s.r.Packets()
		if sent-before[0] != step.sent || recv-before[1] != step.recv {
			t.Errorf("step %d: %d packets out and %d in, want %d and %d", i, sent-before[0], recv-before[1], step.sent,
				step.recv)
		}
		a, b := s.r.Named(1), s.r.Named(2)
		if a.OSeq != max(1000, step.out) || b.Seq != max(500, step.in) || a.Packets != step.out ||
			a.Bytes != 10*step.out || !a.Used || !b.Used || a.Bitmap != nil {
			t.Errorf("step %d: %+v, %+v", i, a.Counters, b.Counters)
		}
		if lead, _ := s.r.Margin.Lead(true, 0, 0); s.k[out.Key].OSeq < a.OSeq+lead || s.k[in.Key].Seq != b.Seq {
			t.Errorf("step %d: the kernel has %d and %d", i, s.k[out.Key].OSeq, s.k[in.Key].Seq)
		}
		if s.r.CountersAt().Before(now) {
			t.Errorf("step %d: counters were heard at %v", i, s.r.CountersAt())
		}
	}
	s.counters(4*time.Second, wire.CounterEntry{Handle: 3, OSeq: 1})
	if s.r.Unnamed() != 1 || s.r.Named(3) != nil {
		t.Errorf("%d counters of no SA, want 1", s.r.Unnamed())
	}
	if s.r.EndEpoch(7); s.r.Answer(1).Epoch != 7 {
		t.Error("an epoch that has ended is not answered")
	}
	if s.r.EndEpoch(6); s.r.Answer(1).Epoch != 7 {
		t.Error("an epoch goes back")
	}
}

// TestStreamsBegin: where a stream begins, whether it counts as complete, and what is
// answered.
func TestStreamsBegin(t *testing.T) {
	id, other := wire.StreamID{Group: "g", Term: 3, Nonce: 1}, wire.StreamID{Group: "g", Term: 3, Nonce: 2}
	began := func() *Receiver {
		r := NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
		r.Observe(&sadb.Snapshot{}, NewTouched())
		r.BeginSnapshot(id, 40, 5, 6)
		return r
	}
	r := began()
	if r.Pos() != (wire.StreamPos{StreamID: id, Seq: 40}) || r.Whole() || r.Expected() != 11 || r.Answer(9).SnapDone {
		t.Errorf("a snapshot begins at %+v, %d expected", r.Pos(), r.Expected())
	}
	for name, tt := range map[string]struct {
		seq, items uint64
		whole      bool
	}{"all": {40, 0, true}, "one record less": {40, 1, false}, "a change less": {41, 0, false}} {
		if got := r.SnapshotCame(tt.seq, tt.items); got != tt.whole {
			t.Errorf("%s has come: %v", name, got)
		}
	}
	r.EndSnapshot(40)
	if a := r.Answer(9); !r.Whole() || !r.Pos().Complete || !a.SnapDone || a.Stream != 9 || a.Seq != 40 {
		t.Errorf("a snapshot ends at %+v, answered %+v", r.Pos(), a)
	}
	if !r.SnapshotCame(99, 99) {
		t.Error("a snapshot that is over has not come")
	}
	pol := policies(2)[0]
	r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutPolicy, Policy: pol, Numbered: true})
	if !r.Unanswered() || r.Pos().Seq != 41 || r.Applied() != 1 || !r.OwesAnswer() || r.Answer(9).Installed != 1 ||
		r.Unanswered() {
		t.Errorf("a change: at %+v, %d applied", r.Pos(), r.Applied())
	}
	// Whoever held all of it up to there still does.
	r.BeginSnapshot(id, 41, 0, 0)
	if !r.Pos().Complete || r.Whole() || r.Applied() != 0 {
		t.Errorf("the same stream anew: %+v", r.Pos())
	}
	for name, begin := range map[string]func(r *Receiver){
		"another stream":        func(r *Receiver) { r.EndSnapshot(40); r.BeginSnapshot(other, 40, 0, 0) },
		"a later change":        func(r *Receiver) { r.EndSnapshot(40); r.BeginSnapshot(id, 41, 0, 0) },
		"it was not whole":      func(r *Receiver) { r.BeginSnapshot(id, 40, 0, 0) },
		"counters were missing": func(r *Receiver) { r.EndSnapshot(40); r.unnamed = 1; r.BeginSnapshot(id, 40, 0, 0) },
	} {
		if r := began(); true {
			if begin(r); r.Pos().Complete || r.Unnamed() != 0 {
				t.Errorf("%s: complete", name)
			}
		}
	}
	r = began()
	r.EndSnapshot(40)
	r.unnamed = 3
	r.Resume(40)
	if r.Pos() != (wire.StreamPos{StreamID: id, Seq: 40, Complete: true}) || !r.Whole() || r.Unnamed() != 0 ||
		!r.Answer(9).SnapDone {
		t.Errorf("a stream goes on at %+v, whole %v", r.Pos(), r.Whole())
	}
}

// TestChangesOfOneItem: several in one message are carried out in order, each once, and
// those of different items together.
func TestChangesOfOneItem(t *testing.T) {
	s := newStandby(t)
	s.r.EndSnapshot(0)
	a, b := outbound(2), outbound(4)
	again := *a
	again.Reqid++
	list := policies(2)
	changed := *list[0]
	changed.Priority++
	policyKey := list[1].Key
	kernel := make(map[sadb.PolicyKey]uint32)
	calls := 0
	var recs []wire.Record
	for i, rec := range []wire.Record{
		{Kind: wire.PutSA, SA: a, Handle: 1}, {Kind: wire.PutPolicy, Policy: list[0]},
		{Kind: wire.PutPolicy, Policy: list[1]}, {Kind: wire.DelSA, SAKey: a.Key, Handle: 1},
		{Kind: wire.PutSA, SA: b, Handle: 2}, {Kind: wire.PutPolicy, Policy: &changed},
		{Kind: wire.PutSA, SA: &again, Handle: 3}, {Kind: wire.DelPolicy, PolicyKey: &policyKey},
	} {
		rec.Numbered = i >= 0
		recs = append(recs, rec)
	}
	s.r.ApplyAll(time.Now(), 0, recs, func(ops []sadb.Op) {
		calls++
		for _, op := range ops {
			if err := s.k.apply(op); err != nil {
				t.Errorf("%v: %v", op.Kind, err)
			}
			if op.Policy != nil {
				if op.Kind == sadb.OpDeletePolicy {
					delete(kernel, op.Policy.Key)
				} else {
					kernel[op.Policy.Key] = op.Policy.Priority
				}
			}
			s.r.Result(op, nil)
		}
	})
	if len(s.k) != 2 || s.k[a.Key].Reqid != again.Reqid || s.k[b.Key] == nil {
		t.Errorf("%d SAs, of %v", len(s.k), s.k[a.Key])
	}
	if len(kernel) != 1 || kernel[changed.Key] != changed.Priority {
		t.Errorf("policies %v", kernel)
	}
	if calls != 3 || s.r.Pos().Seq != uint64(len(recs)) {
		t.Errorf("handed over %d times, at %d", calls, s.r.Pos().Seq)
	}
	for k, want := range map[sadb.SAKey]bool{a.Key: true, b.Key: true, outbound(6).Key: false} {
		if s.r.WantsSA(k) != want {
			t.Errorf("%v is wanted: %v", k, !want)
		}
	}
	if !s.r.WantsPolicy(changed.Key) || s.r.WantsPolicy(policyKey) {
		t.Error("another policy is wanted")
	}
	if sas, n := s.r.Size(); sas != 2 || n != 1 || !s.r.HadSAs() {
		t.Errorf("%d SAs and %d policies are wanted", sas, n)
	}
}

// TestReadingsLearn: an SA is looked at as a whole once, whether it is known, new or
// changed, and on both sides.
func TestReadingsLearn(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	r := NewReceiver(Options{Margin: sadb.DefaultMargin()})
	known, fresh := outbound(2), outbound(4)
	p.PutSA(now, known)
	changed := *known
	changed.Limits.HardAdd += 5
	touched := NewTouched()
	config := map[sadb.SAKey]uint64{known.Key: 42, fresh.Key: 43}
	// wholes reads the tables and returns how many SAs were wanted as a whole.
	wholes := func(list ...*sadb.SA) (n, standby int) {
		p.BeginScan(now)
		r.BeginScan()
		for _, sa := range list {
			c := *sa
			g := &sadb.Reading{Key: sa.Key, Config: config[sa.Key], Counters: sa.Counters}
			if !p.Read(now, g, touched) {
				n++
				p.ReadWhole(now, &c, g.Config, touched)
			}
			if !r.Read(g, touched) {
				standby++
				r.ReadWhole(&c, g.Config, touched)
			}
		}
		p.end(now, nil, touched)
		r.EndScan(nil, touched)
		return n, standby
	}
	for i, step := range []struct {
		what string
		list []*sadb.SA
		want int
	}{{"first", []*sadb.SA{known, fresh}, 2}, {"then", []*sadb.SA{known, fresh}, 0}, {"one is gone", []*sadb.SA{fresh}, 0},
		{"it is back", []*sadb.SA{known, fresh}, 1}, {"then", []*sadb.SA{known, fresh}, 0}} {
		n, standby := wholes(step.list...)
		if i == 3 {
			n = step.want // the publisher has kept it: its deletion is the engine's
		}
		if n != step.want || standby != step.want {
			t.Errorf("step %d, %s: %d and %d are wanted as a whole, want %d", i, step.what, n, standby, step.want)
		}
	}
	config[known.Key] = 44
	if n, standby := wholes(&changed, fresh); n != 1 || standby != 1 {
		t.Errorf("one has changed: %d and %d are wanted as a whole", n, standby)
	}
	if n, standby := wholes(&changed, fresh); n != 0 || standby != 0 {
		t.Errorf("after a change: %d and %d are wanted as a whole", n, standby)
	}
	if p.sas[known.Key].sa.Limits.HardAdd != changed.Limits.HardAdd {
		t.Error("the change is not published")
	}
	p.LookAgain()
	if r.LookAgain(); r.Adopted() {
		t.Error("it is adopted before it was looked at again")
	}
	if n, standby := wholes(&changed, fresh); n != 2 || standby != 2 || !r.Adopted() {
		t.Errorf("all anew: %d and %d are wanted as a whole, adopted %v", n, standby, r.Adopted())
	}
	config[fresh.Key] = 0 // cannot be told
	if n, standby := wholes(&changed, fresh); n != 1 || standby != 1 {
		t.Errorf("without a fingerprint: %d and %d are wanted as a whole", n, standby)
	}
}

// TestDeletedSAsLeaveNoKeys with who still points to what was published.
func TestDeletedSAsLeaveNoKeys(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sa := outbound(2)
	p.PutSA(now, sa)
	e := p.sas[sa.Key]
	if rec, ok := p.DeleteSA(now, sa.Key); !ok || rec.Kind != wire.DelSA || rec.SAKey != sa.Key {
		t.Errorf("record %+v, %v", rec, ok)
	}
	if _, ok := p.DeleteSA(now, sa.Key); ok {
		t.Error("deleted twice")
	}
	if !e.gone || e.sa.AEAD != nil || e.sa.Auth != nil || e.sa.Crypt != nil || e.sa.Key != sa.Key || sa.AEAD == nil {
		t.Errorf("what is left: gone %v, %+v", e.gone, e.sa)
	}
	if p.Pos() != (wire.StreamPos{StreamID: p.stream, Seq: 2, Complete: true}) {
		t.Errorf("position %+v", p.Pos())
	}
}

// TestInherit: an ex-master is a complete standby of its own stream.
func TestInherit(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sas := []*sadb.SA{outbound(2), outbound(4)}
	for _, sa := range sas {
		sa.Limits.SoftAdd = 0
		p.PutSA(now, sa)
	}
	pol := policies(2)[0]
	p.PutPolicy(now, pol)
	e := p.sas[sas[0].Key]
	e.rate.Report(0, 0)
	e.rate.Report(5000, time.Second)
	s := newStandby(t)
	s.r = NewReceiver(Options{Margin: sadb.DefaultMargin(), Sweeps: true})
	s.r.SetPos(p.Pos())
	s.r.Inherit(now.Add(10*time.Second), time.Minute, p)
	kernel := &sadb.Snapshot{Policies: []*sadb.Policy{pol}}
	for _, sa := range sas {
		c := *sa
		c.Limits = standbyLimits(c.Limits)
		kernel.SAs = append(kernel.SAs, &c)
	}
	s.r.Observe(kernel, NewTouched())
	for _, sa := range sas {
		if got := s.r.Named(p.sas[sa.Key].handle); got == nil || got.Key != sa.Key || got.Age != sa.Age {
			t.Errorf("%v is not known by its handle", sa.Key)
		}
	}
	if s.r.want[sas[0].Key].rate.Peak() < 4000 {
		t.Errorf("a rate of %v", s.r.want[sas[0].Key].rate.Peak())
	}
	if !s.r.CountersAt().Equal(now.Add(10 * time.Second)) {
		t.Errorf("counters of %v", s.r.CountersAt())
	}
	if *s.r.Sums() != p.sums {
		t.Error("the sums differ")
	}
	list := s.r.Repair(now.Add(10 * time.Second))
	for !list.Empty() { // counters alone are raised
		for _, op := range list.Next(10) {
			if op.Kind != sadb.OpSetCounters {
				t.Errorf("operation %v", op.Kind)
			}
		}
	}
	if s.r.Pos() != p.Pos() {
		t.Errorf("position %+v, want %+v", s.r.Pos(), p.Pos())
	}
}
