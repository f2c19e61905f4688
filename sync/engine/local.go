package engine

import (
	"sasyncd/sync/scope"
)

// beginLocal prepares for a reading.
func (e *Engine) beginLocal() {
	e.dump.localScan = scope.LocalScan{}
	for _, g := range e.order {
		e.dump.localScan.Scopes = append(e.dump.localScan.Scopes, g.own.scope)
		if len(g.own.vips) == 0 && !g.own.whole { // the election has not told them yet
			e.dump.localScan.Void = true
		}
	}
}

// endLocal ends a reading that was complete.
func (e *Engine) endLocal(r dumpResult) {
	if e.dump.localScan.Void {
		return // what was known stands
	}
	policies := r.local
	if r.known && e.dump.local.Policies > 0 {
		policies = e.dump.local
	}
	e.dump.local = e.dump.localScan.Found
	e.dump.local.Policies = policies.Policies
	if e.dump.local.Example == "" {
		e.dump.local.Example = policies.Example
	}
}
