package engine

import (
	"hash/maphash"
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
	imported   int            // published SAs that are replicated ones
	lastHandle uint32
	journal    journal
	sums       sums

	// out and in count the packets of all SAs; outs is what out was when the last
	// epochs began, by number.
	out, in uint64
	outs    [outEpochs]uint64
}

// outEpochs is for how many readings it is remembered what had been sent.
const outEpochs = 64

// outAt returns what had been sent when an epoch was collected, or at the oldest
// one that is remembered.
func (p *publisher) outAt(epoch uint64) uint64 {
	if epoch+outEpochs <= p.epoch {
		epoch = p.epoch - outEpochs + 1
	}
	return p.outs[epoch%outEpochs]
}

// pubSA is one published SA.
type pubSA struct {
	sa     *sadb.SA // with the counters of the last collection
	digest wire.Sum
	handle uint32
	moved  uint64 // epoch in which its counters moved last
	seen   uint64 // epoch whose reading found it

	// When it was added and first used, on the monotonic clock: the kernel
	// keeps dates, and after a step of the wall clock its ages are wrong.
	born, used time.Time

	// imported: this node did not make it (collect.go).
	imported bool
	// heard is when its counters were last seen to have moved, or when it was
	// taken over.
	heard    time.Time
	remapped time.Time // when its remote's NAT mapping was last followed

	// ghost: a flush took it from the kernel and `flushmode never` keeps it
	// published, until it comes back or its lifetime ends on the standbys.
	ghost bool
}

// age sets the ages of e.sa to what the monotonic clock says.
func (e *pubSA) age(now time.Time) {
	e.sa.Age = uint64(now.Sub(e.born) / time.Second)
	if e.sa.Used {
		if e.used.IsZero() {
			e.used = now.Add(-time.Duration(min(e.sa.UseAge, e.sa.Age)) * time.Second)
		}
		e.sa.UseAge = uint64(now.Sub(e.used) / time.Second)
	}
}

type pubPolicy struct {
	policy *sadb.Policy
	digest wire.Sum
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

func newPublisher(id wire.StreamID) *publisher {
	return &publisher{
		stream:   id,
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
			p.noteCounters(now, old, sa)
			return wire.Record{}, false
		}
	}
	d := wire.SADigest(sa)
	if old == nil {
		p.lastHandle++
		old = &pubSA{handle: p.lastHandle, born: now.Add(-time.Duration(sa.Age) * time.Second)}
		p.sas[sa.Key] = old
	} else {
		p.uncover(old.sa)
		p.sums.remove(wire.SAKeyDigest(sa.Key), old.digest)
	}
	p.sums.add(wire.SAKeyDigest(sa.Key), d)
	old.sa, old.digest, old.moved = sa, d, p.epoch
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
	if e.imported {
		p.imported--
	}
	p.uncover(e.sa)
	p.sums.remove(wire.SAKeyDigest(key), e.digest)
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
		p.sums.remove(wire.PolicyKeyDigest(&pol.Key), old.digest)
	}
	p.sums.add(wire.PolicyKeyDigest(&pol.Key), d)
	p.policies[pol.Key] = &pubPolicy{policy: pol, digest: d}
	return p.append(now, wire.Record{Kind: wire.PutPolicy, Policy: pol}), true
}

// deletePolicy publishes the deletion of key if it was published.
func (p *publisher) deletePolicy(now time.Time, key sadb.PolicyKey) (wire.Record, bool) {
	e := p.policies[key]
	if e == nil {
		return wire.Record{}, false
	}
	delete(p.policies, key)
	p.sums.remove(wire.PolicyKeyDigest(&key), e.digest)
	return p.append(now, wire.Record{Kind: wire.DelPolicy, PolicyKey: key}), true
}

func (p *publisher) append(now time.Time, r wire.Record) wire.Record {
	p.seq++
	r.Numbered = true
	p.journal.add(p.seq, now, r)
	return r
}

// noteCounters takes over the counters and ages of a fresh reading, which
// becomes the publisher's. Counters
// never go back: a dump is read without the SA's lock, so the two words of a
// 64-bit counter may be torn once every 2^32 packets.
func (p *publisher) noteCounters(now time.Time, e *pubSA, sa *sadb.SA) {
	c := sa.Counters
	c.OSeq, c.Seq = max(c.OSeq, e.sa.OSeq), max(c.Seq, e.sa.Seq)
	old := &e.sa.Counters
	if c.OSeq != old.OSeq || c.Seq != old.Seq || c.Bytes != old.Bytes || c.Packets != old.Packets {
		e.moved = p.epoch
		e.heard = now
	}
	if d := c.Packets - old.Packets; c.Packets < old.Packets {
		// Another SA, or one that was reset: nothing is known of the difference.
	} else if sa.Dir == sadb.DirIn {
		p.in += d
	} else {
		p.out += d
	}
	sa.Counters = c
	e.sa = sa
	e.age(now)
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

func (t *touched) has(r wire.Record) bool {
	switch r.Kind {
	case wire.PutSA:
		return t.sas[r.SA.Key]
	case wire.DelSA:
		return t.sas[r.SAKey]
	case wire.PutPolicy:
		return t.policies[r.Policy.Key]
	case wire.DelPolicy:
		return t.policies[r.PolicyKey]
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
		t.policies[r.PolicyKey] = true
	}
}

// missing are published items that a dump did not find.
type missing struct {
	sas      []sadb.SAKey
	policies []sadb.PolicyKey
}

// reconcile compares what is published with a dump of the group's items and
// returns the deltas for what is new or changed and the names of what is gone,
// whose deletion is the engine's decision. It begins a new epoch of counters.
func (p *publisher) reconcile(now time.Time, snap *sadb.Snapshot, t *touched) ([]wire.Record, missing) {
	p.epoch++
	var recs []wire.Record
	// What is known needs no order; what is new is published oldest first.
	var fresh []*sadb.SA
	for _, sa := range snap.SAs {
		if e := p.sas[sa.Key]; e == nil {
			fresh = append(fresh, sa)
			continue
		} else if e.seen = p.epoch; t.sas[sa.Key] {
			continue
		}
		if r, ok := p.putSA(now, sa); ok {
			recs = append(recs, r)
		}
	}
	for _, sa := range oldestFirst(fresh) {
		if t.sas[sa.Key] {
			continue
		}
		if r, ok := p.putSA(now, sa); ok {
			recs = append(recs, r)
		}
		p.sas[sa.Key].seen = p.epoch
	}
	seenPolicy := make(map[sadb.PolicyKey]bool, len(snap.Policies))
	for _, pol := range snap.Policies {
		seenPolicy[pol.Key] = true
		if t.policies[pol.Key] {
			continue
		}
		if r, ok := p.putPolicy(now, pol); ok {
			recs = append(recs, r)
		}
	}
	var gone missing
	for k, e := range p.sas {
		if e.seen != p.epoch && !e.ghost && !t.sas[k] {
			gone.sas = append(gone.sas, k)
		}
	}
	for k, e := range p.policies {
		if !seenPolicy[k] && !t.policies[k] && !e.ghost {
			gone.policies = append(gone.policies, k)
		}
	}
	p.outs[p.epoch%outEpochs] = p.out
	return recs, gone
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

// countersSince returns the counters of all SAs that moved after epoch.
func (p *publisher) countersSince(epoch uint64) []wire.CounterEntry {
	var out []wire.CounterEntry
	for _, e := range p.sas {
		if e.moved > epoch {
			out = append(out, wire.CounterEntry{Handle: e.handle, OSeq: e.sa.OSeq, Seq: e.sa.Seq,
				Bytes: e.sa.Bytes, Packets: e.sa.Packets})
		}
	}
	return out
}

// cursor walks what is published for one peer's snapshot: policies first, then
// SAs, oldest first. It holds names only, and what it yields is current at the
// moment it is sent; what a delta has changed or deleted meanwhile is in the
// same ordered sequence.
type cursor struct {
	policies []sadb.PolicyKey
	sas      []sadb.SAKey
}

func (p *publisher) snapshot() *cursor {
	c := &cursor{}
	for k := range p.policies {
		c.policies = append(c.policies, k)
	}
	sas := make([]*sadb.SA, 0, len(p.sas))
	for _, e := range p.sas {
		sas = append(sas, e.sa)
	}
	// Equal ages must come in the order of publication, which handles keep:
	// oldestFirst reverses before its stable sort, so hand it the newest first.
	sortByHandle(sas, func(k sadb.SAKey) uint32 { return p.sas[k].handle })
	for _, sa := range oldestFirst(sas) {
		c.sas = append(c.sas, sa.Key)
	}
	return c
}

// next returns up to n records, fewer only at the end.
func (p *publisher) next(c *cursor, n int) []wire.Record {
	var recs []wire.Record
	for len(recs) < n && len(c.policies) > 0 {
		if e := p.policies[c.policies[0]]; e != nil {
			recs = append(recs, wire.Record{Kind: wire.PutPolicy, Policy: e.policy})
		}
		c.policies = c.policies[1:]
	}
	for len(recs) < n && len(c.sas) > 0 {
		if e := p.sas[c.sas[0]]; e != nil {
			recs = append(recs, wire.Record{Kind: wire.PutSA, Handle: e.handle, SA: e.sa})
		}
		c.sas = c.sas[1:]
	}
	return recs
}

func (c *cursor) done() bool { return len(c.policies) == 0 && len(c.sas) == 0 }
