package replica

import (
	"errors"
	"slices"

	"sasyncd/sync/sadb"
)

// errIPTFS refuses an SA whose settings the kernel has ignored. A kernel that knows IP-TFS but
// was built without it takes such SAs and carries nothing over them.
var errIPTFS = errors.New("one of the two kernels was built without IP-TFS (CONFIG_XFRM_IPTFS) and ignores the " +
	"settings of this mode")

// local returns an SA as this kernel can hold it.
func (r *Receiver) local(sa *sadb.SA) *sadb.SA {
	fit, _ := r.features.Fit(sa)
	return fit
}

// lacks notes what an SA goes without here.
func (r *Receiver) lacks(w *wantSA, l sadb.Lack) {
	w.lack = l
	r.lacked |= l
}

// Lacked returns what SAs have gone without since the receiver was made.
func (r *Receiver) Lacked() sadb.Lack { return r.lacked }

// Reduced counts the SAs that are here without what this kernel does not know, as far as
// that makes a difference.
func (r *Receiver) Reduced() (n int) {
	for _, w := range r.want {
		if w.lack&^sadb.LackDirection != 0 && w.failed == nil && !r.CountersOnly {
			n++
		}
	}
	return n
}

// onAnyCPU returns what to add instead of an SA of a CPU that this kernel does not have, nil
// if it was refused for another reason. The number is left out: a standby with fewer CPUs has to
// receive on all SAs, as its peer may send on any.
func (r *Receiver) onAnyCPU(w *wantSA, sa *sadb.SA, err error) *sadb.SA {
	if w == nil || sa.PCPU == nil || !errors.Is(err, sadb.ErrNoCPU) {
		return nil
	}
	r.features.CPUs = min(r.features.CPUs, *sa.PCPU)
	local, lack := r.features.Fit(w.sa)
	w.core = coreOf(local)
	r.lacks(w, lack)
	return r.local(sa)
}

// otherIPTFS reports whether one of two SAs in the mode IP-TFS has its settings and the other
// has none.
func otherIPTFS(a, b *sadb.SA) bool {
	return a.Mode == sadb.ModeIPTFS && b.Mode == sadb.ModeIPTFS && hasIPTFS(a) != hasIPTFS(b)
}

func hasIPTFS(sa *sadb.SA) bool { return slices.ContainsFunc(sa.Unknown, sadb.Attr.IPTFS) }
