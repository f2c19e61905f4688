package replica

import (
	"errors"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Receiver is a standby's side of one group. It knows what the master wants
// here (from the stream) and what the kernel has (from dumps and from the
// operations it ordered), and turns the difference into operations. It is
// pure: the engine carries the operations out and hands back the errors.
//
// Everything of the group in this kernel belongs to the receiver, whoever
// installed it: a returning ex-master's own SAs are adopted when they are what
// the new master published, and replaced or swept when they are not.
type Receiver struct {
	Options
	// sameKernel: this kernel reads netlink attributes as the master's does, so that
	// those which this code does not know may be passed on. sameOrder: it has the byte
	// order of the master's.
	sameKernel, sameOrder bool
	Pace                  // of computations over all items

	features sadb.Features // of this kernel
	lacked   sadb.Lack     // what an SA went without

	pos wire.StreamPos // what is installed, of which stream
	rx  Reception      // what comes of it
	// held names the SAs once KeepNames was called; nil before.
	held     map[sadb.SAKey]struct{}
	snap     snapshot
	acks     acks
	adopted  bool // the kernel's content is known
	counters time.Time
	epoch    uint64
	// unnamed counts the counters of this stream that came under a handle which
	// names no SA here. There are none unless something is wrong.
	unnamed uint64

	want       map[sadb.SAKey]*wantSA
	wantPolicy map[sadb.PolicyKey]*wantPolicy
	handles    counterHandles // of the stream at pos
	have       map[sadb.SAKey]*haveSA
	havePolicy map[sadb.PolicyKey]wire.Sum
	// policiesKnown: the reading under way has shown the policies of an earlier one.
	// policiesQuiet: the last repair found all policies as they are to be, and neither side
	// has changed since.
	policiesKnown, policiesQuiet bool
	sums                         Sums    // over what is wanted
	tail                         journal // the last deltas, for a new master that lacks them

	scan  uint64 // number of the reading under way, or of the last
	slabs slabs  // for the SAs of operations
	// pending are the items of a message whose operations are not carried out.
	pending           *Touched
	out, in           uint64 // packets of all SAs, from the master's counters
	outBytes, inBytes uint64
	// beyond are counters that the master does not know to be so far ahead of its
	// own, see noteBeyond.
	beyond map[sadb.SAKey]uint64
}

// snapshot is the one that comes, or the last.
type snapshot struct {
	gen      uint64 // its number
	records  uint64 // so far
	expected uint64 // the same at its end, about
}

// acks are what a receiver has told the master of what it has installed.
type acks struct {
	applied  uint64 // records of this stream applied
	answered uint64 // the same at the last answer
	seq      uint64 // pos.Seq at the last answer
}

// Options are what a receiver is told of the configuration.
type Options struct {
	Margin sadb.Margin
	// Sweeps: the end of a snapshot deletes what it did not name (flushmode startup).
	Sweeps bool
	// Advance: inbound counters go to where the master's probably are.
	Advance bool
	// CountersOnly: the IKE daemon replicates SAs and policies itself; nothing is
	// added, changed or deleted here but the counters of SAs that are there.
	CountersOnly bool
	// Features are those of this kernel; nil for all.
	Features *sadb.Features
}

// wantSA is an SA that the master has published. There may be very many.
type wantSA struct {
	sa     *sadb.SA // ours: as published, with the master's last counters
	core   uint64   // of the configuration that this kernel can hold, without limits, see coreOf
	limits uint64   // of the limits of a standby, see limitsOf
	gen    uint64
	at     time.Time // when sa was received: its ages count from here
	rate   sadb.Rate
	moved  time.Time // when the master was last heard to use it
	failed error
	part   part // of the sums
	handle counterHandle
	short  bool // the margin could not be kept: uncovered
	lack   sadb.Lack
}

type wantPolicy struct {
	policy *sadb.Policy
	part   part // of the sums
	digest wire.Sum
	gen    uint64
	failed error
}

// errNotHere is an SA that the IKE daemon has not replicated, or not alike.
var errNotHere = errors.New("the ike daemon has not installed it here")

// lateUse is for how long an SA that the IKE daemon has not replicated counts as
// missing after the master was last heard to use it.
const lateUse = time.Minute

// same reports whether the kernel's SA is the one that w wants. Where the IKE
// daemon replicates SAs only what ties counters to an SA counts.
func (r *Receiver) same(w *wantSA, h haveSA) bool {
	if r.CountersOnly {
		return h.keys == keysOf(w.sa)
	}
	return h.core == w.core
}

// Appeared takes in an SA that the IKE daemon has just installed, and returns
// what its counters need.
func (r *Receiver) Appeared(now time.Time, sa *sadb.SA) []sadb.Op {
	h := asHave(sa)
	r.have[sa.Key] = &h
	w := r.want[sa.Key]
	if w == nil {
		return nil // the master's stream will name it
	}
	return r.wantSAOps(now, w)
}

// haveSA is what is known of an SA in this kernel.
type haveSA struct {
	core   uint64 // as in wantSA
	limits uint64
	keys   uint64 // of the key material; counters are tied to it
	config uint64 // fingerprint of the reading that showed it so; 0: none
	seen   uint64 // reading that found it
	oseq   uint64
	seq    uint64
	// inbound: the SA ends here, so its oseq says nothing.
	inbound bool
	// unused: this receiver installed it and every dump since has shown the
	// counter where it was set, so nothing was ever sent on it here.
	unused bool
}

// NewReceiver returns one that wants nothing and knows nothing of the kernel.
func NewReceiver(o Options) *Receiver {
	features := sadb.AllFeatures()
	if o.Features != nil {
		features = *o.Features
	}
	return &Receiver{
		Options:    o,
		features:   features,
		handles:    newCounterHandles(),
		want:       make(map[sadb.SAKey]*wantSA),
		wantPolicy: make(map[sadb.PolicyKey]*wantPolicy),
		have:       make(map[sadb.SAKey]*haveSA),
		havePolicy: make(map[sadb.PolicyKey]wire.Sum),
		tail:       journal{limit: TailRecords},
		pending:    NewTouched(),
		beyond:     make(map[sadb.SAKey]uint64),
		rx:         Reception{interval: o.Margin.Interval},
	}
}

// holds returns what the kernel has of an SA.
func (r *Receiver) holds(k sadb.SAKey) (h haveSA, ok bool) {
	if p := r.have[k]; p != nil {
		return *p, true
	}
	return h, false
}

// asInstalled is what the kernel has after sa was added. It is what w wants, but
// for what was refused to be known.
func (r *Receiver) asInstalled(w *wantSA, sa *sadb.SA) haveSA {
	if w == nil || !sadb.SameButLimits(r.local(w.sa), sa) {
		h := asHave(sa)
		h.unused = true
		return h
	}
	return haveSA{core: w.core, limits: limitsOf(sa.Limits), keys: keysOf(sa), oseq: sa.OSeq, seq: sa.Seq,
		inbound: sa.Dir == sadb.DirIn, unused: true}
}

// ApplyAll turns the records of a message into operations and hands these to exec, some
// at a time.
func (r *Receiver) ApplyAll(now time.Time, mono time.Duration, recs []wire.Record, exec func([]sadb.Op)) {
	ops := make([]sadb.Op, 0, 2*len(recs))
	r.pending.reset()
	for _, rec := range recs {
		// What to do for a record depends on what the kernel has, so a second
		// record for one item waits for the first.
		if r.pending.has(rec) {
			exec(ops)
			ops = ops[:0]
			r.pending.reset()
		}
		r.pending.add(rec)
		ops = append(ops, r.Apply(now, mono, rec)...)
	}
	exec(ops)
}

// Apply turns one record into operations.
func (r *Receiver) Apply(now time.Time, mono time.Duration, rec wire.Record) []sadb.Op {
	r.acks.applied++
	if rec.Numbered {
		r.pos.Seq++
		r.tail.add(r.pos.Seq, now, rec)
	} else {
		r.snap.records++
	}
	switch rec.Kind {
	case wire.PutSA:
		return r.putSA(now, mono, rec)
	case wire.DelSA:
		r.forgetSA(rec.SAKey)
		if _, ok := r.have[rec.SAKey]; ok && !r.CountersOnly {
			return []sadb.Op{{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: rec.SAKey}}}
		}
	case wire.PutPolicy:
		w := &wantPolicy{policy: rec.Policy, digest: PolicyDigest(rec.Policy), gen: r.snap.gen}
		r.wantsPolicy(w)
		return r.wantPolicyOps(w)
	case wire.DelPolicy:
		r.forgetPolicy(*rec.PolicyKey)
		if _, ok := r.havePolicy[*rec.PolicyKey]; ok && !r.CountersOnly {
			return []sadb.Op{{Kind: sadb.OpDeletePolicy, Policy: &sadb.Policy{Key: *rec.PolicyKey}}}
		}
	}
	return nil
}

func (r *Receiver) putSA(now time.Time, mono time.Duration, rec wire.Record) []sadb.Op {
	w := r.want[rec.SA.Key]
	local, lack := r.features.Fit(rec.SA)
	core := coreOf(local)
	if w == nil || w.core != core {
		r.forgetSA(rec.SA.Key)
		w = &wantSA{core: core}
	} else {
		r.sums.remove(w.part)
		w.part = part{}
	}
	w.sa, w.limits, w.gen, w.at, w.failed = rec.SA, limitsOf(standbyLimits(rec.SA.Limits)), r.snap.gen, now, nil
	r.lacks(w, lack)
	w.rate.Report(rec.SA.Packets, mono)
	r.handles.bind(rec.Handle, w)
	r.wants(rec.SA.Key, w)
	return r.wantSAOps(now, w)
}

// wantSAOps returns what it takes to make the kernel's SA what w wants.
func (r *Receiver) wantSAOps(now time.Time, w *wantSA) []sadb.Op {
	h, ok := r.holds(w.sa.Key)
	if r.CountersOnly {
		if w.failed = nil; !ok || !r.same(w, h) {
			w.failed = errNotHere
			return nil
		}
		return r.counterOps(now, w, 0)
	}
	if !r.reads(w.sa.Unknown) {
		w.failed = errOtherKernel
	}
	if errors.Is(w.failed, errOtherKernel) || errors.Is(w.failed, errIPTFS) {
		return r.withdraw(w)
	}
	if r.ahead(w, 0, 0); w.short {
		return r.withdraw(w)
	}
	if ok && h.core == w.core {
		var ops []sadb.Op
		if h.limits != w.limits {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: r.installed(now, w, h)})
		}
		return append(ops, r.counterOps(now, w, 0)...)
	}
	if ok && h.keys != keysOf(w.sa) {
		h = haveSA{} // other keys, other numbers
	}
	add := sadb.Op{Kind: sadb.OpAddSA, SA: r.installed(now, w, h)}
	if !ok {
		return []sadb.Op{add}
	}
	return []sadb.Op{{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: w.sa.Key}}, add}
}

func (r *Receiver) wantPolicyOps(w *wantPolicy) []sadb.Op {
	d, ok := r.havePolicy[w.policy.Key]
	if r.CountersOnly {
		return nil
	}
	if !r.reads(w.policy.Unknown) {
		w.failed = errOtherKernel
		return nil
	}
	switch {
	case !ok:
		return []sadb.Op{{Kind: sadb.OpAddPolicy, Policy: w.policy}}
	case d != w.digest:
		return []sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: w.policy}}
	}
	return nil
}

// RestoreLimits returns what gives the SAs the limits of a MASTER.
func (r *Receiver) RestoreLimits() (ops []sadb.Op) {
	for _, w := range r.want {
		r.Item()
		if standbyLimits(w.sa.Limits) != w.sa.Limits && !r.CountersOnly {
			sa := *r.local(w.sa)
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: &sa})
		}
	}
	return ops
}

// Inherit takes over what this node published itself as master, so that an
// ex-master is a complete standby of its own stream, at the place where it ended.
// Rates belong to it: its successor has heard them, and is ahead by as much.
func (r *Receiver) Inherit(now time.Time, mono time.Duration, p *Publisher) {
	r.counters = now
	r.handles.enter(p.stream, uint32(len(p.sas)))
	for k, e := range p.sas {
		r.Item()
		p.age(now, e)
		w := &wantSA{sa: e.sa, core: coreOf(e.sa), limits: limitsOf(standbyLimits(e.sa.Limits)), part: e.part, at: now}
		r.handles.bind(e.handle, w)
		w.rate.Remember(&e.rate)
		w.rate.Report(e.sa.Packets, mono)
		r.want[k] = w
		r.sums.add(w.part)
	}
	for k, e := range p.policies {
		r.Item()
		w := &wantPolicy{policy: e.policy, digest: PolicyDigest(e.policy), part: e.part}
		r.wantPolicy[k] = w
		r.sums.add(w.part)
	}
}
