package carp

import "time"

// Reconfigure changes the settings of a running group without a change of
// state: those of cfg, whose routers must be the ones that the group has, in
// the same order. What a new setting means for the machine takes effect with
// its next event.
//
// A master whose interval changes advertises at once, so that peers which learn
// it (VRRPv3) do so before the old rhythm would be missed.
func (g *Group) Reconfigure(now time.Duration, cfg GroupConfig) []Action {
	g.acts = g.acts[:0]
	if len(cfg.Routers) != len(g.routers) || g.step.phase == phaseStopped {
		return g.acts
	}
	g.cfg = cfg
	for i, r := range g.routers {
		old := r.cfg
		r.cfg = cfg.Routers[i]
		if old.Interval == r.cfg.Interval && old.Proto == r.cfg.Proto {
			if r.state == Master && old != r.cfg {
				g.readvertise(now, i)
			}
			continue
		}
		switch {
		case r.state == Master:
			r.learned = r.cfg.Interval
			g.readvertise(now, i)
		case !r.from.IsValid() || r.cfg.Proto != VRRP3:
			// Nothing was learned from a master: the own setting counts.
			r.learned = r.cfg.Interval
			if r.state == Backup && !r.expired {
				r.downAt = now + r.Down()
			}
		}
	}
	g.demote(now)
	return g.acts
}

// readvertise advertises out of turn and begins the rhythm anew.
func (g *Group) readvertise(now time.Duration, i int) {
	// By the new interval the latest advertisement may be long ago.
	g.adverts.sentAt[i] = now
	g.router(now, i, RouterEvent{Kind: RouterSay})
}

// Readvertise advertises out of turn, where the group is master.
func (g *Group) Readvertise(now time.Duration) []Action {
	g.acts = g.acts[:0]
	for i := range g.routers {
		g.router(now, i, RouterEvent{Kind: RouterSay})
	}
	return g.acts
}
