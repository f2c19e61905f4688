package carp

import "time"

// Adopt continues the mastership of a term that an earlier process on this node
// left behind on purpose, its addresses still in the kernel and its fence off.
// The caller has listened: if a router heard a master, is not up, or the group
// has moved otherwise, the answer is no, and the caller removes the addresses.
//
// The group was never away for its neighbours and its clients, so there is no
// new term and nothing to prepare.
func (g *Group) Adopt(now time.Duration, term uint64) ([]Action, bool) {
	g.acts = g.acts[:0]
	if g.step.phase != phaseIdle || term == 0 || term < g.seen || len(g.routers) == 0 {
		return nil, false
	}
	for _, r := range g.routers {
		if r.State() != Backup || r.from.IsValid() {
			return nil, false
		}
	}
	g.term, g.seen = term, term
	g.inhibit.holdUntil, g.inhibit.notBefore, g.inhibit.blocked, g.yielded = 0, 0, "", false
	for i := range g.routers {
		g.adverts.sentAt[i] = now
		g.router(now, i, RouterEvent{Kind: RouterExpire})
		g.router(now, i, RouterEvent{Kind: RouterWin})
	}
	g.step.phase = phaseMaster
	g.announcements.n, g.announcements.at = 0, now+time.Second
	g.leased(now)
	g.undemote(now, startDemotion)
	// The kernel has them; this renews what has a lease.
	g.operate(now, ActAcquire)
	g.tell(now, Master, "restart")
	g.tellFitness()
	return g.acts, true
}
