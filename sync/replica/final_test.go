package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// finalRig is a publisher of some SAs whose counters a test moves.
type finalRig struct {
	p     *Publisher
	now   time.Time
	fresh func() *sadb.Snapshot
	moved map[int]uint64
}

func newFinalRig(n int) *finalRig {
	r := &finalRig{now: time.Now(), fresh: freshTables(n), moved: make(map[int]uint64)}
	r.p = NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, r.now)
	for range 2 + lately { // what is new counts as moved
		r.p.Reconcile(r.now, r.fresh(), NewTouched())
	}
	return r
}

// tables returns what the kernel holds now.
func (r *finalRig) tables() *sadb.Snapshot {
	s := r.fresh()
	for i, n := range r.moved {
		s.SAs[i].OSeq += n
		s.SAs[i].Packets += n
	}
	return s
}

// read has the tables read, after some SAs have moved.
func (r *finalRig) read(moved ...int) {
	for _, i := range moved {
		r.moved[i] += 10
	}
	r.p.Reconcile(r.now, r.tables(), NewTouched())
}

// glances are what the kernel tells of some SAs.
func (r *finalRig) glances(keys []sadb.SAKey) (list []sadb.Reading) {
	for _, sa := range r.tables().SAs {
		if slices.Contains(keys, sa.Key) {
			list = append(list, sadb.Reading{Key: sa.Key, Counters: sa.Counters, Used: sa.Used, UseAge: sa.UseAge})
		}
	}
	return list
}

// places returns which SAs the keys name.
func (r *finalRig) places(keys []sadb.SAKey) (list []int) {
	all := r.fresh().SAs
	for _, k := range keys {
		list = append(list, slices.IndexFunc(all, func(sa *sadb.SA) bool { return sa.Key == k }))
	}
	return list
}

// TestRecentNamesWhatMovedLately: the latest first, each once, not more than asked for, and
// nothing that has rested for longer or is gone.
func TestRecentNamesWhatMovedLately(t *testing.T) {
	r := newFinalRig(20)
	if got := r.p.Recent(FinalSAs); len(got) > 0 {
		t.Fatalf("%v before anything has moved", r.places(got))
	}
	r.read(1, 2)
	r.read(3, 4, 5)
	r.read(2, 6)
	r.read(7, 5)
	if got, want := r.places(r.p.Recent(FinalSAs)), []int{5, 7, 2, 6, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v: of the last three readings", got, want)
	}
	if got, want := r.places(r.p.Recent(3)), []int{5, 7, 2}; !slices.Equal(got, want) {
		t.Errorf("%v of three, want %v", got, want)
	}
	r.p.DeleteSA(r.now, r.fresh().SAs[7].Key)
	if got := r.places(r.p.Recent(FinalSAs)); slices.Contains(got, 7) || len(got) != 5 {
		t.Errorf("%v, with one that is gone", got)
	}
	// The reading under way has found more.
	r.p.BeginScan(r.now)
	r.moved[9]++
	r.p.ReadWhole(r.now, r.tables().SAs[9], 0, NewTouched())
	if got := r.places(r.p.Recent(1)); !slices.Equal(got, []int{9}) {
		t.Errorf("%v, want what the reading under way has found first", got)
	}
}

// TestFinalCounters: the final message has the exact counters of those that it names, as an
// epoch of its own. Where the hand-over is given up, what else has moved is sent next.
func TestFinalCounters(t *testing.T) {
	for _, underWay := range []bool{false, true} {
		r := newFinalRig(20)
		f := NewFollower(1, r.now)
		f.Resume(r.p, r.p.Seq())
		f.MovedSent(r.p)
		r.read(1, 2)
		f.Moved(r.p)
		f.MovedSent(r.p)
		keys := r.p.Recent(FinalSAs)
		for _, i := range []int{1, 2, 3, 4} { // after the last reading
			r.moved[i] += 5
		}
		if underWay {
			r.p.BeginScan(r.now)
			r.p.ReadWhole(r.now, r.tables().SAs[4], 0, NewTouched())
		}
		epoch := r.p.Epoch()
		msg := f.Final(r.p, r.p.Final(r.now, keys, r.glances(keys)))
		if msg == nil || msg.Epoch <= epoch || msg.Epoch != r.p.Epoch() || len(msg.Entries) != len(keys) {
			t.Fatalf("%+v after epoch %d", msg, epoch)
		}
		for i, e := range msg.Entries {
			if i > 0 && e.Handle <= msg.Entries[i-1].Handle {
				t.Error("not by handle")
			}
			if e.OSeq != 1000+15 {
				t.Errorf("counter %d, want %d", e.OSeq, 1000+15)
			}
		}
		if f.Holds(msg.Epoch, r.p.Seq()) {
			t.Error("held before it is acknowledged")
		}
		if _, ok := f.Ack(r.now, r.p, &wire.Ack{Seq: r.p.Seq(), Epoch: msg.Epoch}); !ok || !f.Holds(msg.Epoch, r.p.Seq()) {
			t.Error("not held although it is acknowledged")
		}
		r.read()
		got := make(map[uint64]int)
		for _, e := range f.Moved(r.p) {
			got[e.OSeq]++
		}
		if got[1000+15] != 2 || got[1000+5] != 2 {
			t.Errorf("reading under way %v: the next epoch has %v, want two SAs at 1015 and two at 1005", underWay, got)
		}
	}
}

// TestFinalOfASnapshot: who still gets a snapshot gets no final counters.
func TestFinalOfASnapshot(t *testing.T) {
	r := newFinalRig(3)
	f := NewFollower(1, r.now)
	f.Snapshot(r.p)
	if msg := f.Final(r.p, nil); msg != nil {
		t.Errorf("%+v", msg)
	}
	var none *Follower
	if msg := none.Final(r.p, nil); msg != nil {
		t.Errorf("%+v", msg)
	}
}

// TestPoliciesThatAreKnown: a reading that has shown known policies lists none, and none is
// taken for gone. Anything that is new, changed, gone or touched makes a reading unquiet.
func TestPoliciesThatAreKnown(t *testing.T) {
	now := time.Now()
	var policies []*sadb.Policy
	for _, op := range tunnel(rand.New(rand.NewPCG(1, 1)), 1, false) {
		if op.Policy != nil {
			policies = append(policies, op.Policy)
		}
	}
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	r := NewReceiver(Options{Sweeps: true})
	r.SetPos(wire.StreamPos{StreamID: p.stream, Complete: true})
	read := func(list []*sadb.Policy, known bool, touched *Touched) (recs []wire.Record, gone Missing, ops int) {
		p.BeginScan(now)
		r.BeginScan()
		if known {
			p.PoliciesKnown()
			r.PoliciesKnown()
		}
		recs, gone = p.end(now, list, touched)
		for _, rec := range recs {
			r.Apply(now, 0, rec)
		}
		r.EndScan(list, touched)
		for _, block := range r.Repair(now) {
			ops += len(block)
		}
		return recs, gone, ops
	}
	if recs, _, _ := read(policies, false, NewTouched()); len(recs) != len(policies) || p.PoliciesQuiet() {
		t.Fatalf("%d records of %d policies, quiet %v", len(recs), len(policies), p.PoliciesQuiet())
	}
	if recs, _, ops := read(policies, false, NewTouched()); len(recs)+ops != 0 || !p.PoliciesQuiet() ||
		!r.PoliciesQuiet() {
		t.Fatalf("again: %d records, %d operations, quiet %v and %v", len(recs), ops, p.PoliciesQuiet(),
			r.PoliciesQuiet())
	}
	if recs, gone, ops := read(nil, true, NewTouched()); len(recs)+len(gone.Policies)+ops != 0 || !p.PoliciesQuiet() ||
		!r.PoliciesQuiet() {
		t.Errorf("known: %d records, %d gone, %d operations, quiet %v and %v", len(recs), len(gone.Policies), ops,
			p.PoliciesQuiet(), r.PoliciesQuiet())
	}
	touched := NewTouched()
	touched.AddPolicy(policies[0].Key)
	if read(policies, false, touched); p.PoliciesQuiet() {
		t.Error("quiet although an event has changed one meanwhile")
	}
	if _, gone, ops := read(policies[1:], false, NewTouched()); len(gone.Policies) != 1 || ops != 1 ||
		p.PoliciesQuiet() || r.PoliciesQuiet() {
		t.Errorf("one is gone: %d found, %d operations, quiet %v and %v", len(gone.Policies), ops, p.PoliciesQuiet(),
			r.PoliciesQuiet())
	}
}
