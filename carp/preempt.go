package carp

import "time"

// lesser notes since when the group has heard of nobody but a lesser master.
func (g *Group) lesser(now time.Duration, r *Router, a Advert) {
	switch {
	case a.Priority == 0 || r.State() != Backup:
	case r.compare(a) >= 0:
		g.lesserAt = 0
	case g.lesserAt == 0:
		g.lesserAt = max(now, 1)
	}
}

// mayPreempt reports whether r may take over from a lesser master. Who handed
// over does not come back that way, and who could not take over does not try. The
// owner of the addresses preempts whatever is configured (RFC 9568 section 6.1).
func (g *Group) mayPreempt(now time.Duration, r *Router) bool {
	mode := r.cfg.Preempt
	if mode == PreemptGroup {
		mode = g.cfg.Preempt
	}
	if r.cfg.owner() && mode != PreemptInSync {
		mode = PreemptYes
	}
	switch {
	case mode != PreemptYes && mode != PreemptInSync, g.yielded, g.inhibit.blocked != "":
		return false
	case mode == PreemptInSync && !g.inSync():
		return false
	}
	return g.lesserAt != 0 && now-g.lesserAt >= g.cfg.PreemptDelay
}
