package engine

import (
	"sasyncd/sync/scope"
)

// beginLocal prepares for a reading.
func (e *Engine) beginLocal() {
	e.localScan = scope.LocalScan{}
	for _, g := range e.order {
		e.localScan.Scopes = append(e.localScan.Scopes, g.own.scope)
		if len(g.own.vips) == 0 && !g.own.whole { // the election has not told them yet
			e.localScan.Void = true
		}
	}
}

// endLocal ends a reading that was complete.
func (e *Engine) endLocal(policies scope.Local) {
	if e.localScan.Void {
		return // what was known stands
	}
	e.local = e.localScan.Found
	e.local.Policies = policies.Policies
	if e.local.Example == "" {
		e.local.Example = policies.Example
	}
}
