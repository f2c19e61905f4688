package engine

import "errors"

// Kernels of different releases work together as far as every attribute of an
// item is known to this version, which can say then what it means. What is not
// known is passed on as it is, between like kernels only.

// errUnlike refuses an item with attributes that this code does not know and
// that another kernel release may read differently.
var errUnlike = errors.New("it has attributes unknown to this version, and the master's kernel is of another release")

// alike reports whether a member's kernel reads attributes as this one does.
func (e *Engine) alike(m *member) bool {
	return m.hello.Kernel == e.cfg.Kernel && m.hello.BigEndian == e.cfg.BigEndian
}

// unlikeStandby reports whether a standby with another kernel follows.
func (e *Engine) unlikeStandby(g *group) bool {
	for _, m := range e.members {
		if ms := m.groups[g.name]; ms != nil && ms.out != nil && !e.alike(m) {
			return true
		}
	}
	return false
}

// unknown counts the published items with attributes unknown to this version.
func (p *publisher) unknown() (n int) {
	for _, e := range p.sas {
		if len(e.sa.Unknown) > 0 {
			n++
		}
	}
	for _, e := range p.policies {
		if len(e.policy.Unknown) > 0 {
			n++
		}
	}
	return n
}

// unlike counts what was refused for its unknown attributes.
func (r *receiver) unlike() (n int) {
	for _, w := range r.want {
		if errors.Is(w.failed, errUnlike) {
			n++
		}
	}
	for _, w := range r.wantPolicy {
		if errors.Is(w.failed, errUnlike) {
			n++
		}
	}
	return n
}
