package engine

import (
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// beginScan begins a reading of the kernel's tables. read and readWhole, for
// each SA of the group, and endScan belong to it. Items named in t changed while
// the tables were read, so what is known of them stays.
func (r *receiver) beginScan() { r.scan++ }

// read takes what a glance at an SA tells. It reports whether that was enough;
// if not, the whole SA is wanted.
func (r *receiver) read(g *sadb.Reading, t *touched) bool {
	h := r.have[g.Key]
	if h == nil || h.config != g.Config || g.Config == 0 {
		return false
	}
	if h.seen = r.scan; !t.sas[g.Key] {
		h.virgin = h.virgin && h.oseq == g.OSeq
		h.oseq, h.seq = g.OSeq, g.Seq
	}
	return true
}

// readUnread takes a glance at an SA that nobody can decode: what is known of it
// stays, but for its counters.
func (r *receiver) readUnread(g *sadb.Reading, t *touched) {
	h := r.have[g.Key]
	if h == nil {
		return
	}
	if h.seen = r.scan; !t.sas[g.Key] {
		h.virgin = h.virgin && h.oseq == g.OSeq
		h.oseq, h.seq, h.config = g.OSeq, g.Seq, 0
	}
}

// readWhole takes an SA of the group, with the fingerprint of its reading (0:
// unknown).
func (r *receiver) readWhole(sa *sadb.SA, config uint64, t *touched) {
	if t.sas[sa.Key] {
		return
	}
	old, ok := r.holds(sa.Key)
	h := old
	if w := r.want[sa.Key]; ok && w != nil && w.core == old.core && sadb.SameButLimits(w.sa, sa) {
		// As it was: no need to digest it again.
		h.limits, h.oseq, h.seq, h.inbound = limitsOf(sa.Limits), sa.OSeq, sa.Seq, sa.Dir == sadb.DirIn
	} else {
		h = asHave(sa)
	}
	h.virgin = ok && old.virgin && old.oseq == h.oseq
	h.config, h.seen = config, r.scan
	if p := r.have[sa.Key]; p != nil {
		*p = h
	} else {
		r.have[sa.Key] = &h
	}
}

// endScan takes the rest of a reading as what the kernel has.
func (r *receiver) endScan(list []*sadb.Policy, t *touched) {
	for k, h := range r.have {
		if h.seen != r.scan && !t.sas[k] {
			delete(r.have, k)
		}
	}
	policies := make(map[sadb.PolicyKey]wire.Sum, len(list))
	for _, p := range list {
		if !t.policies[p.Key] {
			policies[p.Key] = policyDigest(p)
		}
	}
	for k := range t.policies {
		if d, ok := r.havePolicy[k]; ok {
			policies[k] = d
		}
	}
	r.havePolicy, r.adopted = policies, true
}

// observe takes a dump of the group's items as what the kernel has: beginScan,
// readWhole and endScan in one.
func (r *receiver) observe(snap *sadb.Snapshot, t *touched) {
	r.beginScan()
	for _, sa := range snap.SAs {
		r.readWhole(sa, 0, t)
	}
	r.endScan(snap.Policies, t)
}

// lookAgain has the next reading look at every SA as a whole: what belongs to
// the group may have changed.
func (r *receiver) lookAgain() {
	for _, h := range r.have {
		h.config = 0
	}
	r.adopted = false
}
