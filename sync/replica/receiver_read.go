package replica

import (
	"sasyncd/sync/sadb"
)

// BeginScan begins a reading of the kernel's tables. read and ReadWhole, for
// each SA of the group, and EndScan belong to it. Items named in t changed while
// the tables were read, so what is known of them stays.
func (r *Receiver) BeginScan() { r.scan++ }

// Read takes what a glance at an SA tells. It reports whether that was enough;
// if not, the whole SA is wanted.
func (r *Receiver) Read(g *sadb.Reading, t *Touched) bool {
	h := r.have[g.Key]
	if h == nil || h.config != g.Config || g.Config == 0 {
		return false
	}
	if h.seen = r.scan; !t.sas[g.Key] {
		h.unused = h.unused && h.oseq == g.OSeq
		h.oseq, h.seq = g.OSeq, g.Seq
	}
	return true
}

// ReadUnread takes a glance at an SA that nobody can decode: what is known of it
// stays, but for its counters.
func (r *Receiver) ReadUnread(g *sadb.Reading, t *Touched) {
	h := r.have[g.Key]
	if h == nil {
		return
	}
	if h.seen = r.scan; !t.sas[g.Key] {
		h.unused = h.unused && h.oseq == g.OSeq
		h.oseq, h.seq, h.config = g.OSeq, g.Seq, 0
	}
}

// ReadWhole takes an SA of the group, with the fingerprint of its reading (0:
// unknown).
func (r *Receiver) ReadWhole(sa *sadb.SA, config uint64, t *Touched) {
	if t.sas[sa.Key] {
		return
	}
	old, ok := r.holds(sa.Key)
	h := old
	if w := r.want[sa.Key]; ok && w != nil && w.core == old.core && sadb.SameButLimits(r.local(w.sa), sa) {
		// As it was: no need to digest it again.
		h.limits, h.oseq, h.seq, h.inbound = limitsOf(sa.Limits), sa.OSeq, sa.Seq, sa.Dir == sadb.DirIn
	} else {
		h = asHave(sa)
		if w != nil && ok && w.core == old.core && otherIPTFS(w.sa, sa) {
			w.failed = errIPTFS
		}
	}
	h.unused = ok && old.unused && old.oseq == h.oseq
	h.config, h.seen = config, r.scan
	if p := r.have[sa.Key]; p != nil {
		*p = h
	} else {
		r.have[sa.Key] = &h
	}
}

// EndScan takes the rest of a reading as what the kernel has.
func (r *Receiver) EndScan(list []*sadb.Policy, t *Touched) {
	r.adopted = true // unless LookAgain says otherwise meanwhile
	for k, h := range r.have {
		r.Item()
		if h.seen != r.scan && !t.sas[k] {
			delete(r.have, k)
		}
	}
	found := 0
	for _, p := range list {
		r.Item()
		if !t.policies[p.Key] {
			r.havePolicy[p.Key] = PolicyDigest(p)
			found++
		}
	}
	for k := range t.policies {
		if _, ok := r.havePolicy[k]; ok {
			found++
		}
	}
	if found < len(r.havePolicy) {
		r.forgetGone(list, t)
	}
}

// forgetGone takes out of havePolicy what is not in list.
func (r *Receiver) forgetGone(list []*sadb.Policy, t *Touched) {
	there := make(map[sadb.PolicyKey]bool) // grows in small steps
	for _, p := range list {
		r.Item()
		there[p.Key] = true
	}
	for k := range r.havePolicy {
		if r.Item(); !there[k] && !t.policies[k] {
			delete(r.havePolicy, k)
		}
	}
}

// Observe takes a dump of the group's items as what the kernel has: BeginScan,
// ReadWhole and EndScan in one.
func (r *Receiver) Observe(snap *sadb.Snapshot, t *Touched) {
	r.BeginScan()
	for _, sa := range snap.SAs {
		r.Item()
		r.ReadWhole(sa, 0, t)
	}
	r.EndScan(snap.Policies, t)
}

// LookAgain has the next reading look at every SA as a whole: what belongs to
// the group may have changed.
func (r *Receiver) LookAgain() {
	for _, h := range r.have {
		h.config = 0
	}
	r.adopted = false
}
