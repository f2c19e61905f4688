package replica

import (
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Pos returns what is installed, of which stream.
func (r *Receiver) Pos() wire.StreamPos { return r.pos }

// Reception returns what comes of the stream.
func (r *Receiver) Reception() *Reception { return &r.rx }

// Adopted reports whether the kernel's content is known.
func (r *Receiver) Adopted() bool { return r.adopted }

// Unnamed returns how many counters of this stream came under a handle that names no SA
// here. There are none unless something is wrong.
func (r *Receiver) Unnamed() uint64 { return r.unnamed }

// CountersAt returns when counters of the master were last heard; zero before that.
func (r *Receiver) CountersAt() time.Time { return r.counters }

// Applied returns how many records of this stream were applied.
func (r *Receiver) Applied() uint64 { return r.acks.applied }

// Expected returns how many records the current snapshot has, about.
func (r *Receiver) Expected() uint64 { return r.snap.expected }

// Packets returns how many packets all SAs carried, by the master's counters.
func (r *Receiver) Packets() (out, in uint64) { return r.out, r.in }

// Bytes returns the same in bytes.
func (r *Receiver) Bytes() (out, in uint64) { return r.outBytes, r.inBytes }

// Each calls f with each SA that is wanted here, with the master's counters, and with
// when they were last heard to have moved, zero for never. The SA is the receiver's.
func (r *Receiver) Each(f func(sa *sadb.SA, moved time.Time)) {
	for _, w := range r.want {
		f(w.sa, w.moved)
	}
}

// SetKernel says whether this kernel reads netlink attributes as the master's does, so that
// those which this code does not know may be passed on, and whether it has the same byte order.
func (r *Receiver) SetKernel(alike, sameOrder bool) { r.sameKernel, r.sameOrder = alike, sameOrder }

// Sums returns those over what is wanted here.
func (r *Receiver) Sums() *Sums { return &r.sums }

// Whole reports whether the whole stream is installed, and no snapshot of it comes.
func (r *Receiver) Whole() bool { return r.pos.Complete && !r.rx.Snapshot() }

// SnapshotCame reports whether a snapshot of so many items that ends at seq has come as a whole.
func (r *Receiver) SnapshotCame(seq, items uint64) bool {
	return !r.rx.Snapshot() || seq == r.pos.Seq && items == r.snap.records
}

// HadSAs reports whether an SA was ever wanted here, of the stream that is or was followed.
func (r *Receiver) HadSAs() bool { return len(r.want)+len(r.held) > 0 }

// Size returns how many items are wanted here.
func (r *Receiver) Size() (sas, policies int) { return len(r.want), len(r.wantPolicy) }

// WantsSA reports whether an SA is wanted here.
func (r *Receiver) WantsSA(k sadb.SAKey) bool { return r.want[k] != nil }

// WantsPolicy reports whether a policy is wanted here.
func (r *Receiver) WantsPolicy(k sadb.PolicyKey) bool { return r.wantPolicy[k] != nil }

// Lead returns how far the kernel's outbound counters are ahead of the master's
// last word, in packets and in seconds at the SA's highest rate, for the SA whose
// seconds are the fewest. Without traffic both are 0.
func (r *Receiver) Lead() (packets uint64, seconds float64) {
	for k, w := range r.want {
		h, ok := r.have[k]
		if peak := w.rate.Peak(); ok && w.sa.Dir != sadb.DirIn && peak > 0 && h.oseq > w.sa.OSeq {
			if s := float64(h.oseq-w.sa.OSeq) / peak; seconds == 0 || s < seconds {
				packets, seconds = h.oseq-w.sa.OSeq, s
			}
		}
	}
	return packets, seconds
}
