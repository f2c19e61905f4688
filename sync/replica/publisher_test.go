package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestAges: what is sent carries the age of the moment, by the monotonic clock, and the
// time of the first use, wherever it is read.
func TestAges(t *testing.T) {
	began := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, began)
	sa := outbound(2)
	sa.Age, sa.Used = 100, false
	rec, _ := p.PutSA(began.Add(10*time.Second), sa)
	if rec.SA.Age != 100 || rec.SA.UseAge != 0 {
		t.Errorf("published at age %d, use %d", rec.SA.Age, rec.SA.UseAge)
	}
	// Used for 5 s when it is read 20 s later, by a kernel whose ages are off.
	now := began.Add(30 * time.Second)
	c := *sa
	c.Age, c.Used, c.UseAge, c.Packets = 5000, true, 5, 1
	p.Reconcile(now, &sadb.Snapshot{SAs: []*sadb.SA{&c}}, NewTouched())
	now = now.Add(2500 * time.Millisecond)
	b := uint16(p.sas[sa.Key].part.bucket)
	for name, got := range map[string]*sadb.SA{
		"snapshot": p.next(now, p.snapshot(now), 10)[0].SA,
		"bucket":   p.Buckets(now, []uint16{b})[b].Records[0].SA,
		"aged":     p.agedSA(now, sa.Key),
	} {
		if got.Age != 122 || !got.Used || got.UseAge != 7 {
			t.Errorf("%s: age %d, used %v for %d, want 122, 7", name, got.Age, got.Used, got.UseAge)
		}
	}
	for recs := range p.After(now.Add(time.Minute), 0) {
		if recs[0].SA.Age != 182 || recs[0].SentAge != uint64(82500*time.Millisecond/time.Microsecond) {
			t.Errorf("journal: age %d, sent %d us ago", recs[0].SA.Age, recs[0].SentAge)
		}
	}
	// An SA that was used before it was added, as a kernel with a bent clock says.
	odd := outbound(4)
	odd.Age, odd.Used, odd.UseAge = 3, true, 50
	p.PutSA(now, odd)
	if got := p.agedSA(now, odd.Key); got.UseAge > got.Age {
		t.Errorf("used for %d s, added %d s ago", got.UseAge, got.Age)
	}
}

// TestOrderOfASnapshot: policies come first, then SAs, the oldest first; what is gone or
// replaced meanwhile does not come.
func TestOrderOfASnapshot(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	for i, age := range []uint64{5, 70, 70, 900, 0} {
		sa := *outbound(2)
		sa.Key.SPI, sa.Age = uint32(1000+i), age
		p.PutSA(now, &sa)
	}
	list := policies(2)
	for _, pol := range list {
		p.PutPolicy(now, pol)
	}
	c := p.snapshot(now)
	changed := *list[0]
	changed.Priority++
	p.PutPolicy(now, &changed)
	p.DeletePolicy(now, list[1].Key)
	p.DeleteSA(now, sadb.SAKey{Dst: outbound(2).Key.Dst, SPI: 1001, Proto: sadb.ProtoESP})
	var got []uint32
	policies := 0
	for !c.done() {
		for _, r := range p.next(now, c, 2) {
			if r.Kind == wire.PutPolicy {
				if policies++; len(got) > 0 || r.Policy.Key != list[2].Key {
					t.Errorf("policy %v behind %d SAs", r.Policy.Key, len(got))
				}
				continue
			}
			got = append(got, r.SA.Key.SPI)
		}
	}
	if policies != 1 || !slices.Equal(got, []uint32{1003, 1002, 1000, 1004}) {
		t.Errorf("%d policies, SAs %v", policies, got)
	}
}

// TestCovered: a deletion is the end of a rekey if a younger SA protects the same traffic
// and stays, whatever comes and goes; looked at for all SAs after each change.
func TestCovered(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		now := time.Unix(1e9, 0)
		p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
		type item struct {
			sa      *sadb.SA
			number  int
			covers  bool
			protect int
		}
		var list []*item
		number := 0
		for range 60 {
			switch n := len(list); {
			case n < 3 || r.IntN(3) == 0:
				number++
				sa := *outbound(2 * r.IntN(3))
				sa.Key.SPI = uint32(1000 + number)
				p.PutSA(now, &sa)
				list = append(list, &item{sa: &sa, number: number, covers: true, protect: int(sa.Reqid)})
			case r.IntN(3) == 0:
				i := r.IntN(n)
				p.DeleteSA(now, list[i].sa.Key)
				list = slices.Delete(list, i, i+1)
			case r.IntN(2) == 0: // its deletion is held back
				x := list[r.IntN(n)]
				p.UncoverSA(x.sa.Key)
				x.covers = false
			default: // it is back, or changed in place
				x := list[r.IntN(n)]
				c := *x.sa
				c.Limits.HardAdd = uint64(r.IntN(2))
				p.PutSA(now, &c)
				x.sa, x.covers = &c, true
			}
			for _, x := range list {
				want := slices.ContainsFunc(list, func(o *item) bool {
					return o.covers && o.number > x.number && o.protect == x.protect
				})
				if got := p.Covered(x.sa.Key); got != want {
					t.Fatalf("seed %d: SA %d is covered: %v, want %v", seed, x.number, got, want)
				}
			}
		}
		if !p.Covered(sadb.SAKey{SPI: 1}) {
			t.Error("an SA that is not published is the last of its tunnel")
		}
	}
}

// TestCoverOf: what two SAs must have in common to be generations of one tunnel.
func TestCoverOf(t *testing.T) {
	base := outbound(2)
	base.Encap = nil
	nat := &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500}
	other := outbound(4).Key.Dst
	for name, tt := range map[string]struct {
		change func(sa *sadb.SA)
		same   bool
	}{
		"another SPI":                  {func(sa *sadb.SA) { sa.Key.SPI++ }, true},
		"another lifetime":             {func(sa *sadb.SA) { sa.Limits.HardAdd++ }, true},
		"another key":                  {func(sa *sadb.SA) { sa.AEAD = nil }, true},
		"another source":               {func(sa *sadb.SA) { sa.Src = other }, false},
		"another destination":          {func(sa *sadb.SA) { sa.Key.Dst = other }, false},
		"another protocol":             {func(sa *sadb.SA) { sa.Key.Proto = sadb.ProtoAH }, false},
		"another mode":                 {func(sa *sadb.SA) { sa.Mode = sadb.ModeTransport }, false},
		"another reqid":                {func(sa *sadb.SA) { sa.Reqid++ }, false},
		"another mark":                 {func(sa *sadb.SA) { sa.Key.Mark.Mask = 1 }, false},
		"another interface":            {func(sa *sadb.SA) { sa.IfID++ }, false},
		"the other direction":          {func(sa *sadb.SA) { sa.Dir = sadb.DirIn }, false},
		"another selector":             {func(sa *sadb.SA) { sa.Selector.Proto = 6 }, false},
		"behind a NAT, elsewhere":      {func(sa *sadb.SA) { sa.Encap, sa.Key.Dst = nat, other }, true},
		"behind a NAT, without reqid":  {func(sa *sadb.SA) { sa.Encap, sa.Key.Dst, sa.Reqid = nat, other, 0 }, false},
		"behind a NAT, another source": {func(sa *sadb.SA) { sa.Encap, sa.Src = nat, other }, false},
	} {
		a, b := *base, *base
		tt.change(&b)
		if b.Encap != nil {
			a.Encap, a.Reqid = nat, b.Reqid
		}
		if got := coverOf(&a) == coverOf(&b); got != tt.same {
			t.Errorf("%s: the same tunnel %v, want %v", name, got, tt.same)
		}
	}
	in, elsewhere := inboundOf(2), inboundOf(2)
	in.Encap, elsewhere.Encap, elsewhere.Src = nat, nat, other
	if coverOf(in) != coverOf(elsewhere) {
		t.Error("inbound behind a NAT, from elsewhere: another tunnel")
	}
}

// TestRetained: what a flush has taken stays published until it is back or its lifetime is
// over.
func TestRetained(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	old, young, used, ever := outbound(2), outbound(4), outbound(6), outbound(8)
	old.Limits.HardAdd, young.Limits.HardAdd, used.Limits.HardAdd, ever.Limits.HardAdd = 60, 600, 0, 0
	used.Limits.HardUse, used.Age, used.Used, used.UseAge = 100, 50, true, 50
	ever.Limits.HardUse = 1 // never used
	pol := policies(2)[0]
	var keys []sadb.SAKey
	for _, sa := range []*sadb.SA{old, young, used, ever} {
		p.PutSA(now, sa)
		keys = append(keys, sa.Key)
	}
	p.PutPolicy(now, pol)
	p.RetainFlushed(Missing{SAs: keys, Policies: []sadb.PolicyKey{pol.Key}})
	if recs, gone := p.Reconcile(now, &sadb.Snapshot{}, NewTouched()); len(recs)+len(gone.SAs)+len(gone.Policies) > 0 {
		t.Errorf("gone: %v", gone)
	}
	if ops := p.PoliciesOf(false); len(ops) > 0 {
		t.Errorf("a policy that is retained is put back: %v", kinds(ops))
	}
	for _, tt := range []struct {
		at   time.Duration
		want []sadb.SAKey
	}{{49 * time.Second, nil}, {50 * time.Second, []sadb.SAKey{used.Key}},
		{60 * time.Second, []sadb.SAKey{old.Key, used.Key}}} {
		got := p.Outlived(now.Add(tt.at))
		slices.SortFunc(got, func(a, b sadb.SAKey) int { return a.Dst.Compare(b.Dst) })
		if !slices.Equal(got, tt.want) {
			t.Errorf("after %v: %v are over, want %v", tt.at, got, tt.want)
		}
	}
	c := *old
	p.Reconcile(now.Add(time.Second), &sadb.Snapshot{SAs: []*sadb.SA{&c}, Policies: []*sadb.Policy{pol}}, NewTouched())
	if got := p.Outlived(now.Add(time.Hour)); slices.Contains(got, old.Key) {
		t.Error("what is back ends with its lifetime on the standbys")
	}
	if _, gone := p.Reconcile(now.Add(2*time.Second), &sadb.Snapshot{}, NewTouched()); len(gone.SAs) != 1 ||
		gone.SAs[0] != old.Key || len(gone.Policies) != 1 {
		t.Errorf("gone again: %v", gone)
	}
}

// TestTouched: what has changed while a reading was under way is known better than the
// reading shows it, each kind of item.
func TestTouched(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sa, deleted, fresh := outbound(2), outbound(4), outbound(6)
	list := policies(2)
	p.PutSA(now, sa)
	p.PutPolicy(now, list[0])
	touched := NewTouched()
	for _, k := range []sadb.SAKey{sa.Key, deleted.Key, fresh.Key} {
		if touched.AddSA(k); !touched.HasSA(k) {
			t.Errorf("%v is not noted", k)
		}
	}
	for _, pol := range list {
		if touched.AddPolicy(pol.Key); !touched.HasPolicy(pol.Key) {
			t.Errorf("%v is not noted", pol.Key)
		}
	}
	changed, before := *sa, *list[0]
	changed.Reqid++
	before.Priority += 9
	recs, gone := p.Reconcile(now, &sadb.Snapshot{SAs: []*sadb.SA{&changed, deleted}, Policies: []*sadb.Policy{&before,
		list[1]}}, touched)
	if len(recs)+len(gone.SAs)+len(gone.Policies) > 0 {
		t.Errorf("published %d, gone %v", len(recs), gone)
	}
	if recs, gone = p.Reconcile(now, &sadb.Snapshot{}, touched); len(recs)+len(gone.SAs)+len(gone.Policies) > 0 {
		t.Errorf("an empty reading: published %d, gone %v", len(recs), gone)
	}
	recs, gone = p.Reconcile(now, &sadb.Snapshot{SAs: []*sadb.SA{deleted}, Policies: list[1:2]}, NewTouched())
	if len(recs) != 2 || !slices.Equal(gone.SAs, []sadb.SAKey{sa.Key}) ||
		!slices.Equal(gone.Policies, []sadb.PolicyKey{list[0].Key}) {
		t.Errorf("published %d, gone %v", len(recs), gone)
	}
	for _, rec := range []wire.Record{{Kind: wire.PutSA, SA: sa}, {Kind: wire.DelSA, SAKey: sa.Key},
		{Kind: wire.PutPolicy, Policy: list[0]}, {Kind: wire.DelPolicy, PolicyKey: &list[0].Key}} {
		x := NewTouched()
		if x.has(rec) {
			t.Errorf("%v is noted without a word", rec.Kind)
		}
		if x.add(rec); !x.has(rec) {
			t.Errorf("%v is not noted", rec.Kind)
		}
		if x.reset(); x.has(rec) {
			t.Errorf("%v is noted after all", rec.Kind)
		}
	}
}

// TestReinsertion: what a flush has taken comes back with outbound counters ahead, the
// oldest first, and what has no numbers left does not.
func TestReinsertion(t *testing.T) {
	began := time.Unix(1e9, 0)
	m := sadb.DefaultMargin()
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, began)
	out, in, worn := outbound(2), inboundOf(4), outbound(1)
	out.OSeq, in.OSeq, worn.OSeq = 1000, 7, sadb.MaxLegacy-5
	in.Age, in.Seq, in.Bitmap = 50, 900, []uint32{1, 2, 3, 4}
	for _, sa := range []*sadb.SA{out, in, worn} {
		p.PutSA(began, sa)
	}
	list := policies(2)
	sub := *list[1]
	sub.Key.Sub = true
	for _, pol := range []*sadb.Policy{list[0], list[2], &sub} {
		p.PutPolicy(began, pol)
	}
	if !p.PolicyDeleted(list[2].Key) || p.PolicyDeleted(list[1].Key) {
		t.Error("what is published is not known")
	}
	if ops := p.PoliciesOf(false); len(ops) != 1 || ops[0].Kind != sadb.OpAddPolicy || ops[0].Policy != list[0] {
		t.Errorf("policies %v", kinds(ops))
	}
	if ops := p.PoliciesOf(true); len(ops) != 1 || !ops[0].Policy.Key.Sub {
		t.Errorf("policies of the other type %v", kinds(ops))
	}
	p.PutPolicy(began, list[2]) // it is back by itself
	if ops := p.PoliciesOf(false); len(ops) != 2 {
		t.Errorf("policies %v", kinds(ops))
	}
	now := began.Add(10 * time.Second)
	ops := p.Reinsertion(now, m)
	lead, _ := m.Lead(true, 0, 0)
	if len(ops) != 2 || ops[0].SA.Key != in.Key || ops[0].SA.Seq != 900 || ops[0].SA.OSeq != 7 || ops[0].SA.Age != 60 ||
		ops[1].SA.Key != out.Key || ops[1].SA.OSeq != 1000+lead || ops[0].SA.Bitmap != nil || out.OSeq != 1000 {
		t.Fatalf("operations %v", kinds(ops))
	}
	if !p.Reinserted(now, ops[1].SA) || p.Reinserted(now, outbound(8)) {
		t.Error("what is published is not known")
	}
	if e := p.sas[out.Key]; !e.imported || e.sa.OSeq != 1000+lead || p.imported != 1 {
		t.Errorf("put back: imported %v, at %d", e.imported, e.sa.OSeq)
	}
}
