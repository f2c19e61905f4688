// Package scope says what in a kernel's tables belongs to a group, and what to none.
package scope

import (
	"net/netip"

	"sasyncd/sync/sadb"
)

// Scope decides what belongs to a group. An SA belongs to the group whose
// virtual IP is its local tunnel end, a policy through its template; a
// wildcard transport template through its selector. Everything else in the
// kernel is node-local and never touched.
type Scope struct {
	vips map[netip.Addr]bool
	// whole takes in the whole kernel: one group without an interface in
	// `mode master` or `mode slave`.
	whole bool
	// skip holds the peers' own addresses in `mode skipslave`.
	skip map[netip.Addr]bool
}

// New returns the scope of a group with these virtual IPs. whole and skip are what the
// configuration says of `mode`: see Scope.
func New(vips []netip.Addr, whole bool, skip []netip.Addr) Scope {
	s := Scope{vips: make(map[netip.Addr]bool), whole: whole, skip: make(map[netip.Addr]bool)}
	for _, a := range vips {
		s.vips[a] = true
	}
	for _, a := range skip {
		s.skip[a] = true
	}
	return s
}

// SA reports whether sa belongs to the group, and its direction as seen from
// the group's virtual IPs. Without virtual IPs the kernel's own word counts.
func (s Scope) SA(sa *sadb.SA) (sadb.Direction, bool) {
	if !sa.Replicable() || s.skip[sa.Src] || s.skip[sa.Key.Dst] {
		return sadb.DirUnknown, false
	}
	switch {
	case s.vips[sa.Key.Dst]:
		return sadb.DirIn, true
	case s.vips[sa.Src]:
		return sadb.DirOut, true
	}
	return sa.KernelDir, s.whole
}

// SAOf is sa for an event that puts one.
func (s Scope) SAOf(ev sadb.Event) (sadb.Direction, bool) {
	if ev.Kind != sadb.EventPutSA {
		return sadb.DirUnknown, false
	}
	return s.SA(ev.SA)
}

// Owns reports whether one end of the SA is the group's.
func (s Scope) Owns(sa *sadb.SA) bool { return s.whole || s.vips[sa.Key.Dst] || s.vips[sa.Src] }

// Policy reports whether p belongs to the group.
func (s Scope) Policy(p *sadb.Policy) bool {
	if p.Socket {
		return false
	}
	for _, t := range p.Templates {
		if s.skip[t.Src] || s.skip[t.Dst] {
			return false
		}
	}
	if s.whole {
		return true
	}
	for _, t := range p.Templates {
		if s.vips[t.Src] || s.vips[t.Dst] {
			return true
		}
		if t.Mode != sadb.ModeTunnel && t.Mode != sadb.ModeBEET && unspecified(t) && s.ownsSelector(p.Key.Selector) {
			return true
		}
	}
	return false
}

func unspecified(t sadb.Template) bool {
	return (!t.Src.IsValid() || t.Src.IsUnspecified()) && (!t.Dst.IsValid() || t.Dst.IsUnspecified())
}

// ownsSelector reports whether one end of a transport selector is exactly one
// of the virtual IPs.
func (s Scope) ownsSelector(sel sadb.Selector) bool {
	for _, f := range []func() (netip.Prefix, bool){sel.SrcPrefix, sel.DstPrefix} {
		if p, ok := f(); ok && p.IsSingleIP() && s.vips[p.Addr()] {
			return true
		}
	}
	return false
}
