package engine

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

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

// touchSA and touchPolicy note a change.
func (t *touched) touchSA(k sadb.SAKey)         { t.sas[k] = true }
func (t *touched) touchPolicy(k sadb.PolicyKey) { t.policies[k] = true }

// hasSA and hasPolicy report whether an item is named.
func (t *touched) hasSA(k sadb.SAKey) bool         { return t.sas[k] }
func (t *touched) hasPolicy(k sadb.PolicyKey) bool { return t.policies[k] }

// missing are published items that a dump did not find.
type missing struct {
	sas      []sadb.SAKey
	policies []sadb.PolicyKey
}

// begin begins a reading of the tables and an epoch of counters. read and
// readWhole, for each SA, and end belong to it; what t names has changed
// meanwhile, so that it is known better.
func (p *publisher) begin(now time.Time) {
	p.collectedAt(now)
	p.mark++ // never again the number of a reading that was given up
	p.outs[p.mark%outEpochs] = p.out
	if p.gathering {
		p.moved = nil // countersSince still has the list
	}
	clear(p.moved)
	p.moved, p.changed, p.fresh = p.moved[:0], nil, nil
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
		p.back(e)
		p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
	}
	return true
}

// readUnread takes a glance at an SA that nobody can decode. If one of its identity
// is published it stays as it is; otherwise there is nothing to publish.
func (p *publisher) readUnread(now time.Time, r *sadb.Reading, t *touched) {
	e := p.sas[r.Key]
	if e == nil {
		return
	}
	if p.see(e); !t.sas[r.Key] {
		p.back(e)
		p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
	}
}

// readWhole takes an SA of the group, with the fingerprint of its reading (0:
// unknown).
func (p *publisher) readWhole(now time.Time, sa *sadb.SA, config uint64, t *touched) {
	e := p.sas[sa.Key]
	if e == nil {
		p.fresh = append(p.fresh, foundSA{sa, config})
		return
	}
	if p.see(e); t.sas[sa.Key] {
		return
	}
	if !sadb.SameConfig(e.sa, sa) {
		p.changed = append(p.changed, foundSA{sa, config})
		return
	}
	e.config = config
	p.back(e)
	p.noteCounters(now, e, &sa.Counters, sa.Used, sa.UseAge)
}

// end ends a reading and returns all that endTo hands out.
func (p *publisher) end(now time.Time, policies []*sadb.Policy, t *touched) (recs []wire.Record, gone missing) {
	gone = p.endTo(now, policies, t, func(r []wire.Record) { recs = append(recs, r...) })
	return recs, gone
}

// endTo ends a reading. It hands the deltas for what is new or changed to send, some
// at a time, and returns the names of what is gone, whose deletion is the engine's
// decision. Nothing is left to be sent when it pauses.
func (p *publisher) endTo(now time.Time, policies []*sadb.Policy, t *touched, send func([]wire.Record)) (gone missing) {
	p.epoch, p.headroom = p.mark, p.room
	var recs []wire.Record
	flush := func() {
		if len(recs) > 0 {
			send(recs)
			recs = nil
		}
	}
	item := func() { p.itemAfter(flush) }
	// What is known needs no order; what is new is published oldest first.
	for _, f := range append(p.changed, oldestFirst(p.fresh, func(f foundSA) uint64 { p.compared(); return f.sa.Age })...) {
		if item(); t.sas[f.sa.Key] {
			continue
		}
		if r, ok := p.putSA(now, f.sa); ok {
			recs = append(recs, r)
		}
		e := p.sas[f.sa.Key]
		p.see(e)
		e.config = f.config
	}
	p.changed, p.fresh = nil, nil
	clear(p.order)
	p.order, p.coming = p.coming, p.order[:0]
	found := 0
	for _, pol := range policies {
		item()
		if !t.policies[pol.Key] {
			if r, ok := p.putPolicy(now, pol); ok {
				recs = append(recs, r)
			}
		}
		if e := p.policies[pol.Key]; e != nil {
			e.seen = p.epoch
			found++
		}
	}
	flush()
	// Of the right size at once: to grow a long list takes longer than a turn.
	if p.found < len(p.sas) {
		gone.sas = make([]sadb.SAKey, 0, len(p.sas)-p.found)
		for k, e := range p.sas {
			p.item()
			if e.seen != p.epoch && !e.ghost && !t.sas[k] {
				gone.sas = append(gone.sas, k)
			}
		}
	}
	if found < len(p.policies) {
		gone.policies = make([]sadb.PolicyKey, 0, len(p.policies)-found)
	}
	for k, e := range p.policies {
		p.item()
		if e.seen != p.epoch && !t.policies[k] && !e.ghost {
			gone.policies = append(gone.policies, k)
		}
	}
	p.outs[p.epoch%outEpochs] = p.out
	return gone
}

// fill ends the first reading, of which nobody is told: whoever follows begins with a
// snapshot.
func (p *publisher) fill(now time.Time, policies []*sadb.Policy, t *touched) {
	p.endTo(now, policies, t, func([]wire.Record) {})
	p.journal.forget()
}

// reconcile compares what is published with a dump of the group's items: begin,
// readWhole and end in one.
func (p *publisher) reconcile(now time.Time, snap *sadb.Snapshot, t *touched) (recs []wire.Record, gone missing) {
	gone = p.compare(now, snap, t, func(r []wire.Record) { recs = append(recs, r...) })
	return recs, gone
}

// compare is reconcile that hands its deltas to send, as endTo does.
func (p *publisher) compare(now time.Time, snap *sadb.Snapshot, t *touched, send func([]wire.Record)) missing {
	p.begin(now)
	for _, sa := range snap.SAs {
		p.item()
		p.readWhole(now, sa, 0, t)
	}
	return p.endTo(now, snap.Policies, t, send)
}

// lookAgain has the next reading look at every SA as a whole: what belongs to
// the group may have changed.
func (p *publisher) lookAgain() {
	for _, e := range p.sas {
		e.config = 0
	}
}
