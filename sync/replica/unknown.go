package replica

import "errors"

// errOtherKernel refuses an item with attributes that this code does not know and
// that another kernel release may read differently.
var errOtherKernel = errors.New("it has attributes unknown to this version, and the master's kernel is of another " +
	"release")

// Unknown counts the published items with attributes unknown to this version.
func (p *Publisher) Unknown() (n int) {
	for _, e := range p.sas {
		p.Item()
		if len(e.sa.Unknown) > 0 {
			n++
		}
	}
	for _, e := range p.policies {
		p.Item()
		if len(e.policy.Unknown) > 0 {
			n++
		}
	}
	return n
}

// RefusedUnknown counts what was refused for its unknown attributes.
func (r *Receiver) RefusedUnknown() (n int) {
	for _, w := range r.want {
		r.Item()
		if errors.Is(w.failed, errOtherKernel) {
			n++
		}
	}
	for _, w := range r.wantPolicy {
		r.Item()
		if errors.Is(w.failed, errOtherKernel) {
			n++
		}
	}
	return n
}
