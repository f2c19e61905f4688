package replica

import (
	"iter"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// The key material of an SA is gone from this process some minutes after the SA is
// (sadb.Secret overwrites what nobody holds). So whatever outlives an SA here holds
// its name, and not the SA: the journals, what a MASTER remembers of its time as a
// standby, and SAs that are not published any more.

// nameOnly returns a record as a journal keeps it: an SA by its identity.
func nameOnly(r wire.Record) wire.Record {
	if r.Kind == wire.PutSA {
		r.SAKey, r.SA = r.SA.Key, nil
	}
	return r
}

// withSA returns a journal's record as it is sent, with sa for the SA that it names.
// An SA that has changed since comes as it is now. nil is one that is gone: the
// record that deletes it follows, and deletes nothing more.
func withSA(r wire.Record, sa *sadb.SA) wire.Record {
	switch {
	case r.Kind != wire.PutSA:
	case sa == nil:
		r.Kind = wire.DelSA
	default:
		r.SA, r.SAKey = sa, sadb.SAKey{}
	}
	return r
}

// Continues reports whether the journal has all that follows have.
func (p *Publisher) Continues(have wire.StreamPos) bool {
	return have.Complete && have.StreamID == p.stream && p.journal.reaches(have.Seq, p.seq)
}

// After yields the changes that follow seq, with their ages, a message's at a time.
func (p *Publisher) After(now time.Time, seq uint64) iter.Seq[[]wire.Record] {
	return func(yield func([]wire.Record) bool) {
		for chunk := range p.journal.after(seq, BatchRecords) {
			recs := make([]wire.Record, len(chunk))
			for i, e := range chunk {
				recs[i] = p.recall(now, e.rec)
				recs[i].SentAge = uint64(now.Sub(e.at).Microseconds())
			}
			if !yield(recs) {
				return
			}
		}
	}
}

// recall returns a record of the master's journal as it is sent now.
func (p *Publisher) recall(now time.Time, r wire.Record) wire.Record {
	if r.Kind != wire.PutSA {
		return r
	}
	e := p.sas[r.SAKey]
	if e == nil || e.handle != r.Handle {
		return withSA(r, nil)
	}
	p.age(now, e)
	return withSA(r, e.sa)
}

// Continues reports whether the changes that follow have are remembered here.
func (r *Receiver) Continues(have wire.StreamPos) bool {
	return have.Complete && r.pos.Complete && have.StreamID == r.pos.StreamID && r.tail.reaches(have.Seq, r.pos.Seq)
}

// After yields the changes that follow seq, a message's at a time.
func (r *Receiver) After(seq uint64) iter.Seq[[]wire.Record] {
	return func(yield func([]wire.Record) bool) {
		for chunk := range r.tail.after(seq, BatchRecords) {
			recs := make([]wire.Record, len(chunk))
			for i, e := range chunk {
				recs[i] = r.recall(e.rec)
			}
			if !yield(recs) {
				return
			}
		}
	}
}

// recall returns a record of a standby's journal as it is sent now.
func (r *Receiver) recall(rec wire.Record) wire.Record {
	if rec.Kind != wire.PutSA {
		return rec
	}
	sa := r.Named(rec.Handle)
	if sa == nil || sa.Key != rec.SAKey {
		return withSA(rec, nil)
	}
	return withSA(rec, sa)
}

// Named returns the SA that a handle of the stream names, nil for none. It is the
// receiver's.
func (r *Receiver) Named(handle uint32) *sadb.SA {
	if w := r.handles.find(handle); w != nil {
		return w.sa
	}
	return nil
}

// KeepNames forgets what a standby held but for the names, once this node publishes as
// MASTER and the rest of its promotion is done.
func (r *Receiver) KeepNames() {
	if r.held != nil {
		return
	}
	r.held = make(map[sadb.SAKey]struct{}) // grows in small steps
	for k := range r.want {
		r.Item()
		r.held[k] = struct{}{}
	}
	empty := NewReceiver(r.Options)
	r.want, r.wantPolicy, r.handles = empty.want, empty.wantPolicy, empty.handles
	r.have, r.havePolicy, r.sums = empty.have, empty.havePolicy, Sums{}
	r.pending, r.slabs = empty.pending, slabs{}
	r.tail.forget()
}

// NamesOnly reports whether it has done so.
func (r *Receiver) NamesOnly() bool { return r.held != nil }

// WasHeld reports whether an SA was held as a standby.
func (r *Receiver) WasHeld(k sadb.SAKey) bool {
	_, ok := r.held[k]
	return ok || r.want[k] != nil
}

// keyless returns what is left of an SA that is not published any more, for whoever
// still points to it.
func keyless(sa *sadb.SA) *sadb.SA {
	c := *sa
	c.Auth, c.Crypt, c.AEAD, c.Comp, c.Unknown = nil, nil, nil, nil, nil
	return &c
}

// Outlived returns the SAs that a flush has taken from the kernel, that `flushmode
// never` keeps published, and whose lifetime is over.
func (p *Publisher) Outlived(now time.Time) (out []sadb.SAKey) {
	for k, e := range p.sas {
		if p.Item(); !e.retained {
			continue
		}
		p.age(now, e)
		l := &e.sa.Limits
		if l.HardAdd > 0 && e.sa.Age >= l.HardAdd || l.HardUse > 0 && e.sa.Used && e.sa.UseAge >= l.HardUse {
			out = append(out, k)
		}
	}
	return out
}
