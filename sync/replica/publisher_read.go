package replica

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Touched names what events changed while a dump was being read; for those the
// dump is older than what is known.
type Touched struct {
	sas      map[sadb.SAKey]bool
	policies map[sadb.PolicyKey]bool
}

// NewTouched returns one that names nothing.
func NewTouched() *Touched {
	return &Touched{make(map[sadb.SAKey]bool), make(map[sadb.PolicyKey]bool)}
}

func (t *Touched) reset() {
	clear(t.sas)
	clear(t.policies)
}

func (t *Touched) has(r wire.Record) bool {
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

func (t *Touched) add(r wire.Record) {
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

// AddSA notes that an SA has changed.
func (t *Touched) AddSA(k sadb.SAKey) { t.sas[k] = true }

// AddPolicy notes that a policy has changed.
func (t *Touched) AddPolicy(k sadb.PolicyKey) { t.policies[k] = true }

// HasSA reports whether an SA has changed.
func (t *Touched) HasSA(k sadb.SAKey) bool { return t.sas[k] }

// HasPolicy reports whether a policy has changed.
func (t *Touched) HasPolicy(k sadb.PolicyKey) bool { return t.policies[k] }

// Missing are published items that a dump did not find.
type Missing struct {
	SAs      []sadb.SAKey
	Policies []sadb.PolicyKey
}

// BeginScan begins a reading of the tables and an epoch of counters. read and
// ReadWhole, for each SA, and end belong to it; what t names has changed
// meanwhile, so that it is known better.
func (p *Publisher) BeginScan(now time.Time) {
	p.collectedAt(now)
	p.mark++ // never again the number of a reading that was given up
	p.outs[p.mark%outEpochs] = p.out
	p.remember()
	p.scan.changed, p.scan.fresh = nil, nil
	p.scan.policiesKnown, p.scan.policiesQuiet = false, false
	clear(p.scan.coming)
	p.scan.coming, p.scan.at, p.scan.found = p.scan.coming[:0], 0, 0
}

// see notes that the reading under way has found e.
func (p *Publisher) see(e *pubSA) {
	if e.seen != p.mark {
		e.seen = p.mark
		p.scan.found++
	}
}

// find returns the published SA that a reading shows, nil if there is none of
// its identity with its fingerprint.
func (p *Publisher) find(r *sadb.Reading) *pubSA {
	if r.Config == 0 {
		return nil
	}
	// A fingerprint covers the identity.
	if p.scan.at < len(p.scan.order) && p.scan.order[p.scan.at].config == r.Config && !p.scan.order[p.scan.at].gone {
		p.scan.at++
		return p.scan.order[p.scan.at-1]
	}
	e := p.sas[r.Key]
	if e == nil || e.config != r.Config {
		return nil
	}
	if e.place < len(p.scan.order) && p.scan.order[e.place] == e {
		p.scan.at = e.place + 1 // those between are gone, or have changed
	}
	return e
}

// Read takes what a glance at an SA tells. It reports whether that was enough;
// if not, the whole SA is wanted.
func (p *Publisher) Read(now time.Time, r *sadb.Reading, t *Touched) bool {
	e := p.find(r)
	if e == nil {
		return false
	}
	e.place = len(p.scan.coming)
	p.scan.coming = append(p.scan.coming, e)
	if p.see(e); !t.sas[r.Key] {
		p.back(e)
		p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
	}
	return true
}

// ReadUnread takes a glance at an SA that nobody can decode. If one of its identity
// is published it stays as it is; otherwise there is nothing to publish.
func (p *Publisher) ReadUnread(now time.Time, r *sadb.Reading, t *Touched) {
	e := p.sas[r.Key]
	if e == nil {
		return
	}
	if p.see(e); !t.sas[r.Key] {
		p.back(e)
		p.noteCounters(now, e, &r.Counters, r.Used, r.UseAge)
	}
}

// ReadWhole takes an SA of the group, with the fingerprint of its reading (0:
// unknown).
func (p *Publisher) ReadWhole(now time.Time, sa *sadb.SA, config uint64, t *Touched) {
	e := p.sas[sa.Key]
	if e == nil {
		p.scan.fresh = append(p.scan.fresh, foundSA{sa, config})
		return
	}
	if p.see(e); t.sas[sa.Key] {
		return
	}
	if !sadb.SameConfig(e.sa, sa) {
		p.scan.changed = append(p.scan.changed, foundSA{sa, config})
		return
	}
	e.config = config
	p.back(e)
	p.noteCounters(now, e, &sa.Counters, sa.Used, sa.UseAge)
}

// end ends a reading and returns all that EndScan hands out.
func (p *Publisher) end(now time.Time, policies []*sadb.Policy, t *Touched) (recs []wire.Record, gone Missing) {
	gone = p.EndScan(now, policies, t, func(r []wire.Record) { recs = append(recs, r...) })
	return recs, gone
}

// EndScan ends a reading. It hands the deltas for what is new or changed to send, some
// at a time, and returns the names of what is gone, whose deletion is the engine's
// decision. Nothing is left to be sent when it pauses.
func (p *Publisher) EndScan(now time.Time, policies []*sadb.Policy, t *Touched,
	send func([]wire.Record)) (gone Missing) {
	p.epoch, p.headroom = p.mark, p.room
	var recs []wire.Record
	flush := func() {
		if len(recs) > 0 {
			send(recs)
			recs = nil
		}
	}
	item := func() { p.ItemAfter(flush) }
	// What is known needs no order; what is new is published oldest first.
	for _, f := range append(p.scan.changed, OldestFirst(p.scan.fresh,
		func(f foundSA) uint64 { p.compared(); return f.sa.Age })...) {
		if item(); t.sas[f.sa.Key] {
			continue
		}
		if r, ok := p.PutSA(now, f.sa); ok {
			recs = append(recs, r)
		}
		e := p.sas[f.sa.Key]
		p.see(e)
		e.config = f.config
	}
	p.scan.changed, p.scan.fresh = nil, nil
	clear(p.scan.order)
	p.scan.order, p.scan.coming = p.scan.coming, p.scan.order[:0]
	found, quiet := p.endPolicies(now, policies, t, item, func(r wire.Record) { recs = append(recs, r) })
	flush()
	// Of the right size at once: to grow a long list takes longer than a turn.
	if p.scan.found < len(p.sas) {
		gone.SAs = make([]sadb.SAKey, 0, len(p.sas)-p.scan.found)
		for k, e := range p.sas {
			p.Item()
			if e.seen != p.epoch && !e.retained && !t.sas[k] {
				gone.SAs = append(gone.SAs, k)
			}
		}
	}
	if found < len(p.policies) {
		gone.Policies = make([]sadb.PolicyKey, 0, len(p.policies)-found)
		for k, e := range p.policies {
			p.Item()
			if e.seen != p.epoch && !t.policies[k] && !e.retained {
				gone.Policies = append(gone.Policies, k)
			}
		}
	}
	p.scan.policiesQuiet = quiet && len(gone.Policies) == 0
	p.outs[p.epoch%outEpochs] = p.out
	return gone
}

// endPolicies publishes the policies of a reading that are new or changed, and returns how
// many published ones there are, and whether nothing was new, changed or touched.
func (p *Publisher) endPolicies(now time.Time, policies []*sadb.Policy, t *Touched, item func(),
	add func(wire.Record)) (found int, quiet bool) {
	if p.scan.policiesKnown {
		return len(p.policies), true
	}
	quiet = len(t.policies) == 0
	for _, pol := range policies {
		item()
		if !t.policies[pol.Key] {
			if r, ok := p.PutPolicy(now, pol); ok {
				add(r)
				quiet = false
			}
		}
		if e := p.policies[pol.Key]; e != nil {
			e.seen = p.epoch
			found++
		}
	}
	return found, quiet
}

// PoliciesKnown notes that the reading under way has shown the policies of an earlier one
// that was quiet, so its end gets none.
func (p *Publisher) PoliciesKnown() { p.scan.policiesKnown = true }

// PoliciesQuiet reports whether the last reading has shown all policies as they are
// published, and no event has changed one meanwhile.
func (p *Publisher) PoliciesQuiet() bool { return p.scan.policiesQuiet }

// Fill ends the first reading, of which nobody is told: whoever follows begins with a
// snapshot.
func (p *Publisher) Fill(now time.Time, policies []*sadb.Policy, t *Touched) {
	p.EndScan(now, policies, t, func([]wire.Record) {})
	p.journal.forget()
}

// Reconcile compares what is published with a dump of the group's items: begin,
// ReadWhole and end in one.
func (p *Publisher) Reconcile(now time.Time, snap *sadb.Snapshot, t *Touched) (recs []wire.Record, gone Missing) {
	gone = p.Compare(now, snap, t, func(r []wire.Record) { recs = append(recs, r...) })
	return recs, gone
}

// Compare is reconcile that hands its deltas to send, as EndScan does.
func (p *Publisher) Compare(now time.Time, snap *sadb.Snapshot, t *Touched, send func([]wire.Record)) Missing {
	p.BeginScan(now)
	for _, sa := range snap.SAs {
		p.Item()
		p.ReadWhole(now, sa, 0, t)
	}
	return p.EndScan(now, snap.Policies, t, send)
}

// LookAgain has the next reading look at every SA as a whole: what belongs to
// the group may have changed.
func (p *Publisher) LookAgain() {
	for _, e := range p.sas {
		e.config = 0
	}
}
