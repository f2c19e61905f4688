package engine

import (
	"fmt"
	"slices"

	"sasyncd/sync/sadb"
)

// Local is what the kernel has that is no group's: its tunnels end on other addresses
// than virtual ones, so it is not replicated. That is right for tunnels of this node
// itself, and wrong for those in whose configuration the virtual IP was forgotten.
type Local struct {
	SAs      int
	Policies int    // with templates; others protect nothing
	Example  string // "192.0.2.2 > 198.51.100.1"; the ends of an SA, else of a policy's template
}

// localScan is what the reading under way has shown of it.
type localScan struct {
	found  Local
	void   bool // some SA may not have been seen
	scopes []scope
}

// beginLocal prepares for a reading.
func (e *Engine) beginLocal() {
	e.localScan = localScan{}
	for _, g := range e.order {
		e.localScan.scopes = append(e.localScan.scopes, g.own.scope)
		if len(g.own.vips) == 0 && !g.own.whole { // the election has not told them yet
			e.localScan.void = true
		}
	}
}

// sa takes an SA of the reading under way.
func (l *localScan) sa(sa *sadb.SA) {
	if !sa.Replicable() || slices.ContainsFunc(l.scopes, func(s scope) bool {
		return s.owns(sa) || s.skip[sa.Src] || s.skip[sa.Key.Dst]
	}) {
		return
	}
	if l.found.SAs++; l.found.SAs == 1 {
		l.found.Example = fmt.Sprintf("%v > %v", sa.Src, sa.Key.Dst)
	}
}

// policies counts those of a reading. It is safe beside the engine: scopes never change.
func localPolicies(scopes []scope, list []*sadb.Policy) (found Local) {
	for _, p := range list {
		if p.Socket || len(p.Templates) == 0 || slices.ContainsFunc(scopes, func(s scope) bool {
			return s.policy(p) || slices.ContainsFunc(p.Templates, func(t sadb.Template) bool { return s.skip[t.Src] || s.skip[t.Dst] })
		}) {
			continue
		}
		found.Policies++
		if t := p.Templates[0]; found.Example == "" && t.Src.IsValid() && !t.Src.IsUnspecified() {
			found.Example = fmt.Sprintf("%v > %v", t.Src, t.Dst)
		}
	}
	return found
}

// endLocal ends a reading that was complete.
func (e *Engine) endLocal(policies Local) {
	if e.localScan.void {
		return // what was known stands
	}
	e.local = e.localScan.found
	e.local.Policies = policies.Policies
	if e.local.Example == "" {
		e.local.Example = policies.Example
	}
}
