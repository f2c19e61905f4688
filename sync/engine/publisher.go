package engine

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// publisher is the master's side of one group: the state it has published, as
// one ordered sequence of deltas with a bounded journal behind it. It is pure;
// the engine feeds it what the kernel holds and sends what it returns.
type publisher struct {
	stream wire.StreamID
	seq    uint64 // number of the last delta
	epoch  uint64 // number of the last collection of counters

	sas        map[sadb.SAKey]*pubSA
	policies   map[sadb.PolicyKey]*pubPolicy
	cover      map[uint64]int // published SAs by what they protect
	lastHandle uint32
	journal    journal
	sums       sums
	began      time.Time

	mark  uint64   // epoch that the reading under way will have been, or epoch
	moved []*pubSA // whose counters moved since that reading began
	out   []wire.CounterEntry

	// order is what the last reading showed, in its order; at is where the one
	// under way probably is. The kernel lists SAs in the same order each time,
	// the new ones first, and looking them up by identity costs more than all
	// else that is done with one that has not changed.
	order  []*pubSA
	coming []*pubSA // as order, of the reading under way
	at     int
	found  int // how many published SAs it has found

	// Of the reading under way.
	recs  []wire.Record
	fresh []freshSA
}

// pubSA is one published SA. There may be very many.
type pubSA struct {
	sa     *sadb.SA // ours; with the counters of the last collection, and older ages
	config uint64   // fingerprint of the reading that showed it as it is; 0: none
	moved  uint64   // epoch in which its counters moved last; 0 for never
	seen   uint64   // epoch whose reading found it

	// When it was added and (if it was) first used, since the publisher began,
	// on the monotonic clock: the kernel keeps dates, and after a step of the
	// wall clock its ages are wrong.
	born, used time.Duration

	part   part
	place  int // in order, once the reading under way has shown it, in coming
	handle uint32

	// ghost: a flush took it from the kernel and `flushmode never` keeps it
	// published, until it comes back or its lifetime ends on the standbys.
	ghost bool
	gone  bool // not published any more
}

// freshSA is an SA that a reading has shown and that was not published.
type freshSA struct {
	sa     *sadb.SA
	config uint64
}

// age sets the ages of e.sa to what the monotonic clock says. Nobody needs them
// between two sendings.
func (p *publisher) age(now time.Time, e *pubSA) {
	since := now.Sub(p.began)
	e.sa.Age = uint64((since - e.born) / time.Second)
	if e.sa.Used {
		e.sa.UseAge = uint64((since - e.used) / time.Second)
	}
}

// use notes the first use of an SA, by its age.
func (p *publisher) use(now time.Time, e *pubSA, age uint64) {
	since := now.Sub(p.began)
	e.used = max(since-time.Duration(age)*time.Second, e.born)
}

type pubPolicy struct {
	policy *sadb.Policy
	digest wire.Sum
	part   part
	ghost  bool
}

// coverKey is what an SA protects: two SAs with equal keys are generations of
// one tunnel, so that deleting one leaves its traffic covered by the other.
type coverKey struct {
	src, dst  sadb.Bytes16
	family    sadb.Family
	proto     uint8
	mode      sadb.Mode
	reqid     uint32
	selector  sadb.Selector
	mark      sadb.Mark
	ifID      uint32
	direction sadb.Direction
}

// coverSeed makes the hashes of coverOf this process's own.
var coverSeed = maphash.MakeSeed()

// coverOf returns a hash of the SA's coverKey, which is too large to be kept for
// each of many SAs. Two that are equal by chance cost no more than a deletion
// that is forwarded at once.
func coverOf(sa *sadb.SA) uint64 {
	return maphash.Comparable(coverSeed, coverKey{sadb.Raw(sa.Src), sadb.Raw(sa.Key.Dst), sa.Key.Family(), sa.Key.Proto,
		sa.Mode, sa.Reqid, sa.Selector, sa.Key.Mark, sa.IfID, sa.Dir})
}

func newPublisher(id wire.StreamID, now time.Time) *publisher {
	return &publisher{
		stream:   id,
		began:    now,
		sas:      make(map[sadb.SAKey]*pubSA),
		policies: make(map[sadb.PolicyKey]*pubPolicy),
		cover:    make(map[uint64]int),
		journal:  journal{limit: journalRecords},
	}
}

// putSA publishes sa if it is new or its configuration changed; a change of
// counters alone only notes them. The publisher keeps sa and may change it.
func (p *publisher) putSA(now time.Time, sa *sadb.SA) (wire.Record, bool) {
	old := p.sas[sa.Key]
	if old != nil {
		old.ghost = false
		if sadb.SameConfig(old.sa, sa) {
			p.noteCounters(now, old, &sa.Counters, sa.Used, sa.UseAge)
			return wire.Record{}, false
		}
	}
	if old == nil {
		p.lastHandle++
		old = &pubSA{handle: p.lastHandle, born: now.Sub(p.began) - time.Duration(sa.Age)*time.Second}
		p.sas[sa.Key] = old
	} else {
		p.uncover(old.sa)
		p.sums.remove(old.part)
	}
	if sa.Used && (old.sa == nil || !old.sa.Used) {
		p.use(now, old, sa.UseAge)
	}
	old.sa, old.config, old.part = sa, 0, partOfSA(sa)
	p.sums.add(old.part)
	p.move(old)
	p.cover[coverOf(sa)]++
	return p.append(now, wire.Record{Kind: wire.PutSA, Handle: old.handle, SA: sa}), true
}

func (p *publisher) uncover(sa *sadb.SA) {
	k := coverOf(sa)
	if p.cover[k]--; p.cover[k] <= 0 {
		delete(p.cover, k)
	}
}

// covered reports whether another published SA protects the same traffic, so
// that deleting this one is the end of a rekey and not of a tunnel.
func (p *publisher) covered(key sadb.SAKey) bool {
	e := p.sas[key]
	return e == nil || p.cover[coverOf(e.sa)] > 1
}

// deleteSA publishes the deletion of key if it was published.
func (p *publisher) deleteSA(now time.Time, key sadb.SAKey) (wire.Record, bool) {
	e := p.sas[key]
	if e == nil {
		return wire.Record{}, false
	}
	delete(p.sas, key)
	e.gone = true
	if e.seen == p.mark {
		p.found--
	}
	p.uncover(e.sa)
	p.sums.remove(e.part)
	return p.append(now, wire.Record{Kind: wire.DelSA, Handle: e.handle, SAKey: key}), true
}

// putPolicy publishes pol if it is new or changed.
func (p *publisher) putPolicy(now time.Time, pol *sadb.Policy) (wire.Record, bool) {
	d := wire.PolicyDigest(pol)
	if old := p.policies[pol.Key]; old != nil {
		if old.digest == d {
			old.policy, old.ghost = pol, false
			return wire.Record{}, false
		}
		p.sums.remove(old.part)
	}
	e := &pubPolicy{policy: pol, digest: d, part: partOf(wire.PolicyKeyDigest(&pol.Key), d)}
	p.sums.add(e.part)
	p.policies[pol.Key] = e
	return p.append(now, wire.Record{Kind: wire.PutPolicy, Policy: pol}), true
}

// deletePolicy publishes the deletion of key if it was published.
func (p *publisher) deletePolicy(now time.Time, key sadb.PolicyKey) (wire.Record, bool) {
	e := p.policies[key]
	if e == nil {
		return wire.Record{}, false
	}
	delete(p.policies, key)
	p.sums.remove(e.part)
	return p.append(now, wire.Record{Kind: wire.DelPolicy, PolicyKey: &key}), true
}

func (p *publisher) append(now time.Time, r wire.Record) wire.Record {
	p.seq++
	r.Numbered = true
	p.journal.add(p.seq, now, r)
	return r
}

// noteCounters takes over the counters of a fresh reading. Counters never go
// back: a dump is read without the SA's lock, so the two words of a 64-bit
// counter may be torn once every 2^32 packets.
func (p *publisher) noteCounters(now time.Time, e *pubSA, c *sadb.Counters, used bool, useAge uint64) {
	own := &e.sa.Counters
	if c.OSeq > own.OSeq || c.Seq > own.Seq || c.Bytes != own.Bytes || c.Packets != own.Packets {
		own.OSeq, own.Seq = max(c.OSeq, own.OSeq), max(c.Seq, own.Seq)
		own.Bytes, own.Packets = c.Bytes, c.Packets
		p.move(e)
	}
	if !slices.Equal(own.Bitmap, c.Bitmap) {
		own.Bitmap = append(own.Bitmap[:0], c.Bitmap...)
	}
	if used && !e.sa.Used {
		e.sa.Used = true
		p.use(now, e, useAge)
	}
}

// move notes that counters moved.
func (p *publisher) move(e *pubSA) {
	if e.moved != p.mark {
		e.moved = p.mark
		p.moved = append(p.moved, e)
	}
}

// touched names what events changed while a dump was being read; for those the
// dump is older than what is known.
type touched struct {
	sas      map[sadb.SAKey]bool
	policies map[sadb.PolicyKey]bool
}

func newTouched() *touched {
	return &touched{make(map[sadb.SAKey]bool), make(map[sadb.PolicyKey]bool)}
}

func (t *touched) reset() {
	clear(t.sas)
	clear(t.policies)
}

func (t *touched) has(r wire.Record) bool {
	switch r.Kind {
	case wire.PutSA:
		return t.sas[r.SA.Key]
	case wire.DelSA:
		return t.sas[r.SAKey]
	case wire.PutPolicy:
		return t.policies[r.Policy.Key]
	case wire.DelPolicy:
		return t.policies[*r.PolicyKey]
	}
	return false
}

func (t *touched) add(r wire.Record) {
	switch r.Kind {
	case wire.PutSA:
		t.sas[r.SA.Key] = true
	case wire.DelSA:
		t.sas[r.SAKey] = true
	case wire.PutPolicy:
		t.policies[r.Policy.Key] = true
	case wire.DelPolicy:
		t.policies[*r.PolicyKey] = true
	}
}

// missing are published items that a dump did not find.
type missing struct {
	sas      []sadb.SAKey
	policies []sadb.PolicyKey
}

// begin begins a reading of the tables and an epoch of counters. read and
// readWhole, for each SA, and end belong to it; what t names has changed
// meanwhile, so that it is known better.
func (p *publisher) begin() {
	p.mark++ // never again the number of a reading that was given up
	clear(p.moved)
	p.moved, p.recs, p.fresh = p.moved[:0], nil, nil
	clear(p.coming)
	p.coming, p.at, p.found = p.coming[:0], 0, 0
}

// see notes that the reading under way has found e.
func (p *publisher) see(e *pubSA) {
	if e.seen != p.mark {
		e.seen = p.mark
		p.found++
	}
}

// find returns the published SA that a reading shows, nil if there is none of
// its identity with its fingerprint.
func (p *publisher) find(r *sadb.Reading) *pubSA {
	if r.Config == 0 {
		return nil
	}
	// A fingerprint covers the identity.
	if p.at < len(p.order) && p.order[p.at].config == r.Config && !p.order[p.at].gone {
		p.at++
		return p.order[p.at-1]
	}
	e := p.sas[r.Key]
	if e == nil || e.config != r.Config {
		return nil
	}
	if e.place < len(p.order) && p.order[e.place] == e {
		p.at = e.place + 1 // those between are gone, or have changed
	}
	return e
}

// read takes what a glance at an SA tells. It reports whether that was enough;
// if not, the whole SA is wanted.
func (p *publisher) read(now time.Time, r *sadb.Reading, t *touched) bool {
	e := p.find(r)
	if e == nil {
		return false
	}
	e.place = len(p.coming)
	p.coming = append(p.coming, e)
	if p.see(e); !t.sas[r.Key] {
		e.ghost = false
		p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
	}
	return true
}

// readWhole takes an SA of the group, with the fingerprint of its reading (0:
// unknown). What is known needs no order; what is new waits for the end, to be
// published oldest first.
func (p *publisher) readWhole(now time.Time, sa *sadb.SA, config uint64, t *touched) {
	e := p.sas[sa.Key]
	if e == nil {
		p.fresh = append(p.fresh, freshSA{sa, config})
		return
	}
	if p.see(e); t.sas[sa.Key] {
		return
	}
	if r, ok := p.putSA(now, sa); ok {
		p.recs = append(p.recs, r)
	}
	e.config = config
}

// end ends a reading and returns the deltas for what is new or changed and the
// names of what is gone, whose deletion is the engine's decision.
func (p *publisher) end(now time.Time, policies []*sadb.Policy, t *touched) (recs []wire.Record, gone missing) {
	recs, p.recs, p.epoch = p.recs, nil, p.mark
	for _, f := range oldestFirst(p.fresh, func(f freshSA) uint64 { return f.sa.Age }) {
		if t.sas[f.sa.Key] {
			continue
		}
		if r, ok := p.putSA(now, f.sa); ok {
			recs = append(recs, r)
		}
		e := p.sas[f.sa.Key]
		p.see(e)
		e.config = f.config
	}
	p.fresh = nil
	clear(p.order)
	p.order, p.coming = p.coming, p.order[:0]
	seenPolicy := make(map[sadb.PolicyKey]bool, len(policies))
	for _, pol := range policies {
		seenPolicy[pol.Key] = true
		if t.policies[pol.Key] {
			continue
		}
		if r, ok := p.putPolicy(now, pol); ok {
			recs = append(recs, r)
		}
	}
	if p.found < len(p.sas) {
		for k, e := range p.sas {
			if e.seen != p.epoch && !e.ghost && !t.sas[k] {
				gone.sas = append(gone.sas, k)
			}
		}
	}
	for k, e := range p.policies {
		if !seenPolicy[k] && !t.policies[k] && !e.ghost {
			gone.policies = append(gone.policies, k)
		}
	}
	return recs, gone
}

// reconcile compares what is published with a dump of the group's items: begin,
// readWhole and end in one.
func (p *publisher) reconcile(now time.Time, snap *sadb.Snapshot, t *touched) ([]wire.Record, missing) {
	p.begin()
	for _, sa := range snap.SAs {
		p.readWhole(now, sa, 0, t)
	}
	return p.end(now, snap.Policies, t)
}

// lookAgain has the next reading look at every SA as a whole: what belongs to
// the group may have changed.
func (p *publisher) lookAgain() {
	for _, e := range p.sas {
		e.config = 0
	}
}

// haunt keeps what a flush has taken from the kernel.
func (p *publisher) haunt(gone missing) {
	for _, k := range gone.sas {
		p.sas[k].ghost = true
	}
	for _, k := range gone.policies {
		p.policies[k].ghost = true
	}
}

// countersSince returns the counters of all SAs that moved after epoch, by
// handle. The result is valid until the next call.
func (p *publisher) countersSince(epoch uint64) []wire.CounterEntry {
	p.out = p.out[:0]
	add := func(e *pubSA) {
		p.out = append(p.out, wire.CounterEntry{Handle: e.handle, OSeq: e.sa.OSeq, Seq: e.sa.Seq,
			Bytes: e.sa.Bytes, Packets: e.sa.Packets})
	}
	if epoch+1 == p.epoch && p.epoch == p.mark { // the rule
		for _, e := range p.moved {
			if !e.gone {
				add(e)
			}
		}
	} else {
		for _, e := range p.sas {
			if e.moved > epoch {
				add(e)
			}
		}
	}
	slices.SortFunc(p.out, func(a, b wire.CounterEntry) int { return cmp.Compare(a.Handle, b.Handle) })
	return p.out
}

// cursor walks what is published for one peer's snapshot: policies first, then
// SAs, oldest first. What it yields is current at the moment it is sent; what a
// delta has changed or deleted meanwhile is in the same ordered sequence.
type cursor struct {
	policies []sadb.PolicyKey
	sas      []*pubSA
}

func (p *publisher) snapshot(now time.Time) *cursor {
	c := &cursor{sas: make([]*pubSA, 0, len(p.sas))}
	for k := range p.policies {
		c.policies = append(c.policies, k)
	}
	for _, e := range p.sas {
		p.age(now, e)
		c.sas = append(c.sas, e)
	}
	// Equal ages come in the order of publication, which handles keep.
	slices.SortFunc(c.sas, func(a, b *pubSA) int {
		return cmp.Or(cmp.Compare(b.sa.Age, a.sa.Age), cmp.Compare(a.handle, b.handle))
	})
	return c
}

// next returns up to n records, fewer only at the end.
func (p *publisher) next(now time.Time, c *cursor, n int) []wire.Record {
	recs := make([]wire.Record, 0, min(n, len(c.policies)+len(c.sas)))
	for len(recs) < n && len(c.policies) > 0 {
		if e := p.policies[c.policies[0]]; e != nil {
			recs = append(recs, wire.Record{Kind: wire.PutPolicy, Policy: e.policy})
		}
		c.policies = c.policies[1:]
	}
	for len(recs) < n && len(c.sas) > 0 {
		if e := c.sas[0]; !e.gone {
			p.age(now, e)
			recs = append(recs, wire.Record{Kind: wire.PutSA, Handle: e.handle, SA: e.sa})
		}
		c.sas = c.sas[1:]
	}
	return recs
}

func (c *cursor) done() bool { return len(c.policies) == 0 && len(c.sas) == 0 }
