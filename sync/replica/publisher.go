package replica

import (
	"cmp"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Publisher is the master's side of one group: the state it has published, as
// one ordered sequence of deltas with a bounded journal behind it. It is pure;
// the engine feeds it what the kernel holds and sends what it returns.
type Publisher struct {
	Pace // of computations over all items

	stream wire.StreamID
	seq    uint64 // number of the last delta
	epoch  uint64 // number of the last collection of counters

	collected time.Time // when that was
	since     float64   // seconds from the one before to it, 0: it was the first
	headroom  float64   // of the last reading, see collectedAt
	room      float64   // the same of the reading under way
	// received counts the packets that came in on the group's SAs between the
	// collections.
	received uint64

	sas        map[sadb.SAKey]*pubSA
	policies   map[sadb.PolicyKey]*pubPolicy
	cover      map[uint64]*pubSA // the youngest SA of those that cover the same, see coverOf
	imported   int               // published SAs that are replicated ones
	lastHandle uint32
	journal    journal
	sums       Sums
	began      time.Time

	mark    uint64              // epoch that the reading under way will have been, or epoch
	moved   []*pubSA            // whose counters moved since that reading began
	sending []wire.CounterEntry // reused
	// gathering: countersSince goes over moved, perhaps between two of its turns.
	gathering bool

	scan pubScan

	// out and in count the packets of all SAs; outs is what out was when the last
	// epochs began, by number.
	out, in           uint64
	outBytes, inBytes uint64
	outs              [outEpochs]uint64
}

// pubScan is what the readings of the tables have shown.
type pubScan struct {
	// order is what the last reading showed, in its order; at is where the one
	// under way probably is. The kernel lists SAs in the same order each time,
	// the new ones first, and looking them up by identity costs more than all
	// else that is done with one that has not changed.
	order  []*pubSA
	coming []*pubSA // as order, of the reading under way
	at     int
	found  int // how many published SAs it has found

	// changed and fresh are what the reading under way has found changed and new. It is
	// published at its end: a reading may be given up, and what has got a number must be
	// sent.
	changed, fresh []foundSA
}

// outEpochs is for how many readings it is remembered what had been sent.
const outEpochs = 64

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
	// heard is when its counters were last seen to have moved, or when it was
	// taken over, on the same clock.
	heard time.Duration

	part   part
	rate   sadb.Rate // as the standbys hear it
	place  int       // in order, once the reading under way has shown it, in coming
	handle uint32

	// retained: a flush took it from the kernel and `flushmode never` keeps it
	// published, until it comes back or its lifetime ends on the standbys.
	retained bool
	gone     bool // not published any more

	// covers: the SA is in the list of its cover, between its neighbours there.
	covers         bool
	younger, older *pubSA

	imported bool // this node did not make it, see Adopt
}

// foundSA is an SA that a reading has shown and that is not published so.
type foundSA struct {
	sa     *sadb.SA
	config uint64
}

// age sets the ages of e.sa to what the monotonic clock says. Nobody needs them
// between two sendings.
func (p *Publisher) age(now time.Time, e *pubSA) {
	since := now.Sub(p.began)
	e.sa.Age = uint64((since - e.born) / time.Second)
	if e.sa.Used {
		e.sa.UseAge = uint64((since - e.used) / time.Second)
	}
}

// use notes the first use of an SA, by its age.
func (p *Publisher) use(now time.Time, e *pubSA, age uint64) {
	since := now.Sub(p.began)
	e.used = max(since-time.Duration(age)*time.Second, e.born)
}

type pubPolicy struct {
	policy   *sadb.Policy
	digest   wire.Sum
	part     part
	seen     uint64 // epoch whose reading found it
	retained bool
	// deleted: the kernel has said so, and the deletion is held back.
	deleted bool
	gone    bool // not published any more, or replaced
}

// NewPublisher returns one that has published nothing. Its epochs begin with the first
// reading.
func NewPublisher(id wire.StreamID, now time.Time) *Publisher {
	return &Publisher{
		stream:   id,
		began:    now,
		sas:      make(map[sadb.SAKey]*pubSA),
		policies: make(map[sadb.PolicyKey]*pubPolicy),
		cover:    make(map[uint64]*pubSA),
		journal:  journal{limit: JournalRecords},
		headroom: never,
	}
}

// PutSA publishes sa if it is new or its configuration changed; a change of
// counters alone only notes them. The publisher keeps sa and may change it.
func (p *Publisher) PutSA(now time.Time, sa *sadb.SA) (wire.Record, bool) {
	old := p.sas[sa.Key]
	if old != nil {
		p.back(old)
		if keysOf(old.sa) == keysOf(sa) {
			// The same SA, changed in place at most.
			p.noteKnown(now, old, sa)
			if sadb.SameConfig(old.sa, sa) {
				return wire.Record{}, false
			}
			sa.Counters, sa.Used = old.sa.Counters, old.sa.Used
		}
	}
	if old == nil {
		p.lastHandle++
		old = &pubSA{handle: p.lastHandle, born: now.Sub(p.began) - time.Duration(sa.Age)*time.Second}
		p.sas[sa.Key] = old
	} else {
		p.uncover(old)
		p.sums.remove(old.part)
	}
	if sa.Used && (old.sa == nil || !old.sa.Used) {
		p.use(now, old, sa.UseAge)
	}
	old.sa, old.config, old.part = sa, 0, partOfSA(sa)
	old.rate.Report(sa.Packets, now.Sub(p.began))
	p.sums.add(old.part)
	p.move(old)
	p.age(now, old)
	p.coverAgain(old)
	return p.append(now, wire.Record{Kind: wire.PutSA, Handle: old.handle, SA: sa}), true
}

// DeleteSA publishes the deletion of key if it was published.
func (p *Publisher) DeleteSA(now time.Time, key sadb.SAKey) (wire.Record, bool) {
	e := p.sas[key]
	if e == nil {
		return wire.Record{}, false
	}
	delete(p.sas, key)
	e.gone = true
	if e.imported {
		p.imported--
	}
	if e.seen == p.mark {
		p.scan.found--
	}
	p.uncover(e)
	p.sums.remove(e.part)
	e.sa = keyless(e.sa)
	return p.append(now, wire.Record{Kind: wire.DelSA, Handle: e.handle, SAKey: key}), true
}

// PutPolicy publishes pol if it is new or changed.
func (p *Publisher) PutPolicy(now time.Time, pol *sadb.Policy) (wire.Record, bool) {
	d := wire.PolicyDigest(pol)
	if old := p.policies[pol.Key]; old != nil {
		if old.digest == d {
			old.policy, old.retained, old.deleted = pol, false, false
			return wire.Record{}, false
		}
		p.sums.remove(old.part)
		old.gone = true
	}
	e := &pubPolicy{policy: pol, digest: d, part: partOf(wire.PolicyKeyDigest(&pol.Key), d)}
	p.sums.add(e.part)
	p.policies[pol.Key] = e
	return p.append(now, wire.Record{Kind: wire.PutPolicy, Policy: pol}), true
}

// DeletePolicy publishes the deletion of key if it was published.
func (p *Publisher) DeletePolicy(now time.Time, key sadb.PolicyKey) (wire.Record, bool) {
	e := p.policies[key]
	if e == nil {
		return wire.Record{}, false
	}
	delete(p.policies, key)
	e.gone = true
	p.sums.remove(e.part)
	return p.append(now, wire.Record{Kind: wire.DelPolicy, PolicyKey: &key}), true
}

// TakeReceived returns how many packets came in on the group's SAs since it was asked
// last.
func (p *Publisher) TakeReceived() uint64 {
	n := p.received
	p.received = 0
	return n
}

func (p *Publisher) append(now time.Time, r wire.Record) wire.Record {
	p.seq++
	r.Numbered = true
	p.journal.add(p.seq, now, r)
	return r
}

// noteCounters takes over the counters of a fresh reading. Counters never go
// back: a dump is read without the SA's lock, so the two words of a 64-bit
// counter may be torn once every 2^32 packets.
func (p *Publisher) noteCounters(now time.Time, e *pubSA, c *sadb.Counters, used bool, useAge uint64) {
	own := &e.sa.Counters
	e.rate.Report(c.Packets, now.Sub(p.began))
	if d := c.Packets - own.Packets; c.Packets < own.Packets {
		// Another SA, or one that was reset: nothing is known of the difference.
	} else if e.sa.Dir == sadb.DirIn {
		p.in += d
		p.received += d
		p.inBytes += c.Bytes - min(own.Bytes, c.Bytes)
	} else {
		p.out += d
		p.outBytes += c.Bytes - min(own.Bytes, c.Bytes)
	}
	if c.OSeq > own.OSeq {
		p.updateHeadroom(e.sa, c.OSeq, c.OSeq-own.OSeq)
	}
	if c.OSeq > own.OSeq || c.Seq > own.Seq || c.Bytes != own.Bytes || c.Packets != own.Packets {
		own.OSeq, own.Seq = max(c.OSeq, own.OSeq), max(c.Seq, own.Seq)
		own.Bytes, own.Packets = c.Bytes, c.Packets
		e.heard = now.Sub(p.began)
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

// noteKnown takes over the counters of an SA that was announced or read. The kernel
// announces an update with the request for it, which has none, so those that are
// lower than what is known say nothing.
func (p *Publisher) noteKnown(now time.Time, e *pubSA, sa *sadb.SA) {
	if c := &sa.Counters; c.Packets >= e.sa.Packets && c.Bytes >= e.sa.Bytes {
		p.noteCounters(now, e, c, sa.Used, sa.UseAge)
	}
}

// PolicyDeleted notes that the kernel has deleted a policy whose deletion is not
// published yet. It reports false if it is not published at all.
func (p *Publisher) PolicyDeleted(k sadb.PolicyKey) bool {
	e := p.policies[k]
	if e == nil {
		return false
	}
	e.deleted = true
	return true
}

// move notes that counters moved.
func (p *Publisher) move(e *pubSA) {
	if e.moved != p.mark {
		e.moved = p.mark
		p.moved = append(p.moved, e)
	}
}

// RetainFlushed keeps what a flush has taken from the kernel.
func (p *Publisher) RetainFlushed(gone Missing) {
	for _, k := range gone.SAs {
		p.sas[k].retained = true
		p.uncover(p.sas[k])
	}
	for _, k := range gone.Policies {
		p.policies[k].retained = true
	}
}

// countersSince returns the counters of all SAs that moved after epoch, by
// handle. The result is valid until the next call. A reading that begins meanwhile
// belongs to a later epoch: what it shows may come with this one already, and comes
// with its own.
func (p *Publisher) countersSince(epoch uint64) []wire.CounterEntry {
	p.sending = p.sending[:0]
	add := func(e *pubSA) {
		p.sending = append(p.sending, wire.CounterEntry{Handle: e.handle, OSeq: e.sa.OSeq, Seq: e.sa.Seq,
			Bytes: e.sa.Bytes, Packets: e.sa.Packets})
	}
	if epoch+1 == p.epoch && p.epoch == p.mark { // the rule
		p.gathering = true
		defer func() { p.gathering = false }() // also when the task is given up
		p.sending = slices.Grow(p.sending, len(p.moved))
		for _, e := range p.moved {
			p.Item()
			if !e.gone {
				add(e)
			}
		}
	} else {
		for _, e := range p.sas {
			p.Item()
			if e.moved > epoch {
				add(e)
			}
		}
	}
	slices.SortFunc(p.sending, func(a, b wire.CounterEntry) int {
		p.compared()
		return cmp.Compare(a.Handle, b.Handle)
	})
	return p.sending
}
