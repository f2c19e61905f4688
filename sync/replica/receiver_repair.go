package replica

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"sasyncd/sync/sadb"
)

// EndSnapshot finishes a snapshot and returns the sweep: everything of the group that
// the snapshot did not name.
func (r *Receiver) EndSnapshot(seq uint64) (ops OpList) {
	if !r.rx.Snapshot() {
		return nil
	}
	r.rx.end()
	r.pos.Seq, r.pos.Complete = seq, true
	for k, w := range r.want {
		r.Item()
		if w.gen != r.snap.gen && r.Sweeps {
			r.forgetSA(k)
		}
	}
	for k, w := range r.wantPolicy {
		r.Item()
		if w.gen != r.snap.gen && r.Sweeps {
			r.forgetPolicy(k)
		}
	}
	if r.Sweeps {
		r.sweep(&ops)
	}
	return ops
}

// sweep adds what deletes what the kernel has and the stream does not name, SAs first.
func (r *Receiver) sweep(ops *OpList) {
	if r.CountersOnly {
		return
	}
	for k := range r.have {
		r.Item()
		if r.want[k] == nil {
			ops.Add(sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: k}})
		}
	}
	for k := range r.havePolicy {
		r.Item()
		if r.wantPolicy[k] == nil {
			ops.Add(sadb.Op{Kind: sadb.OpDeletePolicy, Policy: &sadb.Policy{Key: k}})
		}
	}
}

// Repair returns what it takes to make the kernel what the stream says, after
// a dump. Only a complete stream may delete.
func (r *Receiver) Repair(now time.Time) (ops OpList) {
	for _, w := range r.wantPolicy {
		r.Item()
		ops.Add(r.wantPolicyOps(w)...)
	}
	// Order matters for what is installed, and mostly nothing is: the oldest
	// first, and of the same age that which was published first.
	var list []*wantSA
	for _, w := range r.want {
		r.Item()
		used := r.slabs.used
		if len(r.wantSAOps(now, w)) > 0 {
			list = append(list, w)
		} else if errors.Is(w.failed, fs.ErrExist) {
			w.failed = nil // the reading has shown what is there
		}
		r.slabs.used = used // what it takes is asked for again, in order
	}
	slices.SortFunc(list, func(a, b *wantSA) int {
		r.compared()
		return cmp.Or(cmp.Compare(b.sa.Age, a.sa.Age), cmp.Compare(a.handle.number, b.handle.number))
	})
	for _, w := range list {
		r.Item()
		ops.Add(r.wantSAOps(now, w)...)
	}
	if r.pos.Complete && !r.rx.Snapshot() && r.Sweeps {
		r.sweep(&ops)
	}
	return ops
}

// Result notes how the kernel answered an operation and returns what to try
// instead, if anything. An add that met something unknown is not forced:
// unknown reports that only a fresh dump can tell what is there, above all
// which numbers it has used.
func (r *Receiver) Result(op sadb.Op, err error) (again []sadb.Op, unknown bool) {
	switch op.Kind {
	case sadb.OpAddSA:
		w := r.want[op.SA.Key]
		if err == nil {
			h := r.asInstalled(w, op.SA)
			r.have[op.SA.Key] = &h
		} else if fit := r.onAnyCPU(w, op.SA, err); fit != nil {
			return []sadb.Op{{Kind: sadb.OpAddSA, SA: fit}}, false
		}
		unknown = errors.Is(err, fs.ErrExist)
		if w != nil {
			w.failed = err
		}
	case sadb.OpUpdateSA:
		if h, ok := r.have[op.SA.Key]; ok && err == nil {
			h.limits, h.config = limitsOf(op.SA.Limits), 0
		}
	case sadb.OpDeleteSA:
		if err == nil {
			delete(r.have, op.SA.Key)
		}
	case sadb.OpSetCounters:
		if h, ok := r.have[op.SA.Key]; ok && err == nil {
			h.oseq, h.seq = op.SA.OSeq, op.SA.Seq
		} else if errors.Is(err, fs.ErrNotExist) {
			delete(r.have, op.SA.Key)
			if w := r.want[op.SA.Key]; w != nil && !r.CountersOnly {
				add := *op.SA
				return []sadb.Op{{Kind: sadb.OpAddSA, SA: &add}}, false
			}
		}
	case sadb.OpAddPolicy, sadb.OpUpdatePolicy:
		w := r.wantPolicy[op.Policy.Key]
		if err == nil && w != nil && w.policy == op.Policy {
			r.havePolicy[op.Policy.Key] = w.digest // of the same
		} else if err == nil {
			r.havePolicy[op.Policy.Key] = PolicyDigest(op.Policy)
		} else if errors.Is(err, fs.ErrExist) {
			return []sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: op.Policy}}, false
		}
		if w != nil {
			w.failed = err
		}
	case sadb.OpDeletePolicy:
		if err == nil {
			delete(r.havePolicy, op.Policy.Key)
		}
	}
	return nil, unknown
}

// RefusedBefore reports whether the kernel has refused the same for the same reason.
func (r *Receiver) RefusedBefore(op sadb.Op, err error) bool {
	var failed error
	switch {
	case op.SA != nil && r.want[op.SA.Key] != nil:
		failed = r.want[op.SA.Key].failed
	case op.Policy != nil && r.wantPolicy[op.Policy.Key] != nil:
		failed = r.wantPolicy[op.Policy.Key].failed
	}
	return err != nil && failed != nil && failed.Error() == err.Error()
}

// Lost returns how many of the items that are wanted the kernel refused, or cannot
// be used after a takeover.
func (r *Receiver) Lost() (refused, uncovered int) {
	for _, w := range r.want {
		// What an IKE daemon that replicates by itself has left behind on the
		// master is no loss: see lateUse.
		if w.failed != nil && (!errors.Is(w.failed, errNotHere) || r.counters.Sub(w.moved) < lateUse) {
			refused++
		}
		if w.short {
			uncovered++
		}
	}
	for _, w := range r.wantPolicy {
		if w.failed != nil {
			refused++
		}
	}
	return refused, uncovered
}
