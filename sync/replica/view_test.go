package replica

import (
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestFollowerWindow: a snapshot goes on as soon as one more record is acknowledged, and
// not before.
func TestFollowerWindow(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := published(1000, now)
	f := NewFollower(7, now)
	f.Snapshot(p)
	total, _ := sent(f, now, p)
	if f.Next(now, p) != nil {
		t.Error("sent beyond the window")
	}
	f.Ack(now, p, &wire.Ack{Installed: 1})
	msg, _ := f.Next(now, p).(*wire.Batch)
	if msg == nil || len(msg.Records) != BatchRecords || msg.First != p.Seq()+1 || msg.Stream != 7 {
		t.Errorf("behind an acknowledgement: %+v", msg)
	}
	if records, _ := f.Sent(); records != uint64(total+BatchRecords) {
		t.Errorf("%d records are sent", records)
	}
	if acked, of := f.Progress(); acked != 1 || of != 5000 {
		t.Errorf("progress %d of %d", acked, of)
	}
}

// TestFollowerHolds: what a member holds is what it has acknowledged, changes and counters
// both, and its lag is since then.
func TestFollowerHolds(t *testing.T) {
	began := time.Unix(1e9, 0)
	p := published(2, began)
	for range 3 {
		p.Reconcile(began, &sadb.Snapshot{}, NewTouched())
	}
	f := NewFollower(7, began)
	if !f.HeardAt().IsZero() {
		t.Error("heard of before anything was sent")
	}
	if f.DigestDue(began.Add(time.Hour)) {
		t.Error("sums are sent to a member that is not complete")
	}
	f.Resume(p, p.Seq())
	f.MovedSent(p)
	at := began.Add(2 * time.Second)
	if lag := f.Lag(at, p); lag != 2*time.Second {
		t.Errorf("counters are not acknowledged: lag %v", lag)
	}
	f.Ack(at, p, &wire.Ack{Seq: p.Seq(), Epoch: p.Epoch() - 1})
	if f.Holds(p.Epoch(), p.Seq()) || !f.Holds(p.Epoch()-1, p.Seq()) || f.Holds(p.Epoch()-1, p.Seq()+1) {
		t.Error("what is acknowledged is not what is held")
	}
	if lag := f.Lag(at.Add(time.Second), p); lag != time.Second || f.HeardAt() != at {
		t.Errorf("an epoch is missing: lag %v, heard at %v", lag, f.HeardAt())
	}
	f.Ack(at, p, &wire.Ack{Seq: p.Seq(), Epoch: p.Epoch()})
	if lag := f.Lag(at.Add(time.Hour), p); lag != 0 {
		t.Errorf("all is acknowledged: lag %v", lag)
	}
	p.PutPolicy(at, policies(50)[0])
	if lag := f.Lag(at.Add(3*time.Second), p); lag != 3*time.Second {
		t.Errorf("a change is not acknowledged: lag %v", lag)
	}
	for i, want := range []bool{true, false, false, true, false} {
		if got := f.DigestDue(at.Add(time.Duration(i) * DigestEvery / 3)); got != want {
			t.Errorf("sums are due after %v: %v", time.Duration(i)*DigestEvery/3, got)
		}
	}
	if first, ok := f.Ack(at, p, &wire.Ack{Seq: p.Seq(), SnapDone: true}); first || !ok {
		t.Error("complete for a second time")
	}
	if n := NewFollower(1, began); n.Age(began.Add(time.Second)) != time.Second || n.Handle() != 1 {
		t.Error("age or handle")
	}
	if (*Follower)(nil).Complete() {
		t.Error("nobody is complete")
	}
}

// TestBehind: records, epochs and packets that a member has not acknowledged, as far back
// as is remembered.
func TestBehind(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sa := outbound(2)
	read := func(packets uint64) {
		c := *sa
		c.Packets, c.OSeq = packets, packets
		p.Reconcile(now, &sadb.Snapshot{SAs: []*sadb.SA{&c}}, NewTouched())
	}
	read(0)
	f := NewFollower(7, now)
	f.Resume(p, p.Seq())
	f.Ack(now, p, &wire.Ack{Seq: p.Seq(), Epoch: p.Epoch()})
	for n := range uint64(3 * outEpochs) {
		read(10 * (n + 1))
		p.PutPolicy(now, policies(int(n % 200))[0])
		records, epochs, packets := f.Behind(p)
		want := 10 * min(n+1, outEpochs-1)
		if records != min(n+1, 200) || epochs != n+1 || packets != want {
			t.Fatalf("after %d: %d records, %d epochs, %d packets, want %d packets", n+1, records, epochs, packets, want)
		}
	}
	f.Ack(now, p, &wire.Ack{Seq: p.Seq() - 1, Epoch: p.Epoch() - 2})
	if records, epochs, packets := f.Behind(p); records != 1 || epochs != 2 || packets != 20 {
		t.Errorf("%d records, %d epochs, %d packets, want 1, 2, 20", records, epochs, packets)
	}
}

// TestReceptionDates: since when nothing is heard, from whom it was lost, and when a
// question is overdue.
func TestReceptionDates(t *testing.T) {
	id := wire.StreamID{Group: testGroup, Term: 1, Node: wire.NodeID{1}}
	m, other := &someone{"m"}, &someone{"other"}
	now := time.Unix(1e9, 0)
	follow := func(heard time.Time) *Reception {
		x := &Reception{interval: time.Second}
		x.Ask(m, id, now)
		x.Bind(3, now)
		x.begin(false)
		x.Hear(heard)
		return x
	}
	for name, tt := range map[string]struct {
		heard time.Time
		want  time.Duration
	}{
		"heard lately":    {now.Add(-LagLimit), 0},
		"silent for long": {now.Add(-LagLimit - 1), LagLimit + 1},
	} {
		x := follow(tt.heard)
		if x.Lose(m, now); x.LostFor(now) != tt.want || x.Source() != nil || x.Handle() != 0 {
			t.Errorf("%s: lost for %v, want %v", name, x.LostFor(now), tt.want)
		}
		// A later loss does not make it younger.
		x.from = m
		if x.Lose(m, now.Add(time.Hour)); x.LostFor(now) != tt.want {
			t.Errorf("%s: lost again, for %v, want %v", name, x.LostFor(now), tt.want)
		}
	}
	x := new(Reception)
	x.Ask(m, id, now)
	if x.Unanswered(now.Add(AskAgain)) || !x.Unanswered(now.Add(AskAgain+1)) {
		t.Error("a question is overdue too early or too late")
	}
	if x.LostFor(now.Add(time.Second)) != time.Second {
		t.Errorf("without contact since the question: %v", x.LostFor(now.Add(time.Second)))
	}
	if x.Source() != nil || x.Member() != Source(m) || !x.Follows(m, id) || x.Follows(other, id) ||
		x.Follows(m, wire.StreamID{Group: testGroup, Term: 2}) || x.Takes(m, 0) {
		t.Error("who was asked is not who is followed")
	}
	x.Bind(3, now)
	x.begin(true)
	if x.Unanswered(now.Add(time.Hour)) || !x.Takes(m, 3) || x.Takes(m, 4) || x.Takes(other, 3) || !x.Snapshot() {
		t.Error("a stream that has begun")
	}
	x.Hear(now.Add(time.Hour)) // what is known of another stream is not of this one
	x.Miss(9)
	pos := wire.StreamPos{StreamID: id, Seq: 8}
	if !x.Missing(pos) || x.Missing(wire.StreamPos{StreamID: id, Seq: 9}) || x.Missing(wire.StreamPos{Seq: 1}) {
		t.Error("what is missing")
	}
	x.Miss(4)
	if !x.Missing(pos) {
		t.Error("an older number takes back what was shown")
	}
	next := id
	next.Term = 2
	if x.Ask(m, next, now); x.Missing(wire.StreamPos{StreamID: next, Seq: 0}) {
		t.Error("another stream lacks what the one before did")
	}
	x.WantAll()
	if x.begin(false); x.WantsAll() {
		t.Error("all is wanted of a stream that has begun")
	}
	for interval, want := range map[time.Duration]time.Duration{time.Second: LagLimit, 3 * time.Second: LagLimit,
		10 * time.Second: 30 * time.Second} {
		if got := LagBound(interval); got != want {
			t.Errorf("interval %v: %v, want %v", interval, got, want)
		}
	}
	x = &Reception{interval: 10 * time.Second}
	x.Ask(m, id, now)
	x.Bind(3, now)
	x.begin(false)
	if x.Stop(); x.interval != 10*time.Second || x.state != ReceptionIdle || x.Member() != nil {
		t.Errorf("stopped: %+v", x)
	}
}

// TestLeads: how far ahead a standby is, at least, and for how long that lasts, for
// outbound SAs that are there.
func TestLeads(t *testing.T) {
	s := newStandby(t)
	if lead, any, _ := s.r.Leads(); lead != 0 || any {
		t.Errorf("without SAs a lead of %d, %v", lead, any)
	}
	idle, busy, in, missing := outbound(2), outbound(4), inboundOf(6), outbound(8)
	for i, sa := range []*sadb.SA{idle, busy, in} {
		s.put(sa, uint32(i+1))
	}
	s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: 4, SA: missing})
	if packets, seconds := s.r.Lead(); packets != 0 || seconds != 0 {
		t.Errorf("without traffic a lead of %d for %v s", packets, seconds)
	}
	s.counters(time.Second, wire.CounterEntry{Handle: 2}, wire.CounterEntry{Handle: 3})
	s.counters(2*time.Second, wire.CounterEntry{Handle: 2, OSeq: 1000, Packets: 1000, Bytes: 90000},
		wire.CounterEntry{Handle: 3, Seq: 1e6, Packets: 1e6, Bytes: 7e7})
	held := s.k[busy.Key].OSeq - 1000
	packets, seconds := s.r.Lead()
	if packets != held || seconds < float64(held)/1001 || seconds > float64(held)/999 {
		t.Errorf("lead of %d for %v s, want %d", packets, seconds, held)
	}
	lead, any, _ := s.r.Leads()
	if want := min(s.k[idle.Key].OSeq, held); lead != want || !any {
		t.Errorf("least lead %d, %v, want %d", lead, any, want)
	}
	out, received := s.r.Packets()
	if out != 1000 || received != 1e6 {
		t.Errorf("%d packets out, %d in", out, received)
	}
	if out, received := s.r.Bytes(); out != 90000 || received != 7e7 {
		t.Errorf("%d bytes out, %d in", out, received)
	}
}

// TestStandbyLimits: a standby has no soft limits, and hard ones a little later; a MASTER
// has those that were published.
func TestStandbyLimits(t *testing.T) {
	full := sadb.Limits{SoftBytes: 1, HardBytes: 2, SoftPackets: 3, HardPackets: 4, SoftAdd: 5, HardAdd: 6, SoftUse: 7,
		HardUse: 8}
	want := sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: 2, SoftPackets: sadb.NoLimit, HardPackets: 4, HardAdd: 11,
		HardUse: 13}
	if got := standbyLimits(full); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	none := sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
		HardPackets: sadb.NoLimit}
	if got := standbyLimits(none); got != none {
		t.Errorf("of no limits: %+v", got)
	}
	s := newStandby(t)
	limited, unlimited := outbound(2), outbound(4)
	limited.Limits, unlimited.Limits = full, none
	s.put(limited, 1)
	s.put(unlimited, 2)
	if s.k[limited.Key].Limits != want {
		t.Errorf("installed %+v", s.k[limited.Key].Limits)
	}
	ops := s.r.RestoreLimits()
	if len(ops) != 1 || ops[0].Kind != sadb.OpUpdateSA || ops[0].SA.Limits != full || ops[0].SA.Key != limited.Key {
		t.Errorf("restored by %v", kinds(ops))
	}
	// A change of limits is one in place.
	changed := *limited
	changed.Limits.HardAdd = 60
	if got := s.r.Apply(time.Now(), 0, wire.Record{Kind: wire.PutSA, Handle: 1, SA: &changed}); len(got) != 1 ||
		got[0].Kind != sadb.OpUpdateSA || got[0].SA.Limits.HardAdd != 65 {
		t.Errorf("changed by %v", kinds(got))
	}
	if s.r.CountersOnly = true; len(s.r.RestoreLimits()) > 0 {
		t.Error("limits of an IKE daemon that replicates by itself are restored")
	}
}

// TestOldestFirst reverses what a dump lists, and keeps that order among equals.
func TestOldestFirst(t *testing.T) {
	type item struct{ name, age int }
	list := []item{{1, 0}, {2, 5}, {3, 5}, {4, 9}, {5, 0}}
	got := OldestFirst(list, func(x item) uint64 { return uint64(x.age) })
	if want := []item{{4, 9}, {3, 5}, {2, 5}, {5, 0}, {1, 0}}; !slices.Equal(got, want) || list[0].name != 1 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestAgesOnAStandby: ages go on with the master's counters, lose no part of a second,
// and are written anew after a step of the clock.
func TestAgesOnAStandby(t *testing.T) {
	s := newStandby(t)
	began := time.Unix(1e9, 0)
	sa := outbound(2)
	sa.Age, sa.Used, sa.UseAge = 100, true, 10
	s.do(s.r.Apply(began, 0, wire.Record{Kind: wire.PutSA, Handle: 1, SA: sa}))
	now := began
	for i := range 10 { // updates more often than one a second
		now = now.Add(700 * time.Millisecond)
		s.do(s.r.SetCounters(now, now.Sub(began), []wire.CounterEntry{{Handle: 1, OSeq: uint64(i), Packets: uint64(i)}}))
	}
	now = now.Add(2 * time.Second) // 9 s
	ops := s.r.RefreshAges(now)
	if len(ops) != 1 || ops[0].Kind != sadb.OpSetCounters || ops[0].SA.Age != 109 || ops[0].SA.UseAge != 19 ||
		ops[0].SA.OSeq != s.k[sa.Key].OSeq || ops[0].SA.Bitmap != nil {
		t.Errorf("ages %+v", ops)
	}
	if !s.r.CountersAt().Equal(began.Add(7 * time.Second)) {
		t.Errorf("counters at %v", s.r.CountersAt())
	}
	other := *sa
	other.Reqid++ // what the kernel has is another one: it is repaired, not aged
	s.r.Observe(&sadb.Snapshot{SAs: []*sadb.SA{&other}}, NewTouched())
	if ops := s.r.RefreshAges(now); len(ops) > 0 {
		t.Errorf("ages of another SA %v", kinds(ops))
	}
}

// TestKeepNames: a MASTER remembers what it held as a standby, and nothing of it.
func TestKeepNames(t *testing.T) {
	s := newStandby(t)
	sa := outbound(2)
	s.put(sa, 1)
	s.putPolicy(policies(2)[0])
	s.r.KeepNames()
	s.r.KeepNames()
	sas, pols := s.r.Size()
	if !s.r.WasHeld(sa.Key) || s.r.WasHeld(outbound(4).Key) || !s.r.NamesOnly() || !s.r.HadSAs() || sas+pols > 0 ||
		len(s.r.have)+len(s.r.havePolicy) > 0 || *s.r.Sums() != (Sums{}) {
		t.Errorf("held %v, %d SAs and %d policies are left", s.r.WasHeld(sa.Key), sas, pols)
	}
}
