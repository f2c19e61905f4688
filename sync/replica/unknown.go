package replica

import (
	"errors"
	"slices"

	"sasyncd/sync/sadb"
)

// errOtherKernel refuses an item with attributes that this code does not know and
// that another kernel release may read differently.
var errOtherKernel = errors.New("it has attributes unknown to this version, and the master's kernel is of another " +
	"release")

// hasUnknown reports whether there is an attribute in the list that another release may
// read differently.
func hasUnknown(list []sadb.Attr) bool {
	return slices.ContainsFunc(list, func(a sadb.Attr) bool { return !a.IPTFS() })
}

// reads reports whether this kernel reads attributes as the master's does.
func (r *Receiver) reads(list []sadb.Attr) bool {
	return len(list) == 0 || r.sameKernel || r.sameOrder && !hasUnknown(list)
}

// Unknown counts the published items with attributes unknown to this version.
func (p *Publisher) Unknown() (n int) {
	for _, e := range p.sas {
		if hasUnknown(e.sa.Unknown) {
			n++
		}
	}
	for _, e := range p.policies {
		if hasUnknown(e.policy.Unknown) {
			n++
		}
	}
	return n
}

// RefusedUnknown counts what was refused for its unknown attributes.
func (r *Receiver) RefusedUnknown() (n int) {
	for _, w := range r.want {
		if errors.Is(w.failed, errOtherKernel) {
			n++
		}
	}
	for _, w := range r.wantPolicy {
		if errors.Is(w.failed, errOtherKernel) {
			n++
		}
	}
	return n
}
