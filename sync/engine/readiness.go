package engine

import (
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// reportReadiness tells the election how fit this node is, when that changed.
func (e *Engine) reportReadiness(g *group, now time.Time) {
	r := e.hint(g, now, e.readiness(g, now))
	if g.ready.hasReported && r == g.ready.reported {
		return
	}
	if g.ready.hasReported && r.InSync != g.ready.reported.InSync {
		e.log.Info("readiness", "group", g.name, "in_sync", r.InSync, "reason", r.Reason)
	}
	changed := r.InSync != g.ready.reported.InSync || !g.ready.hasReported
	g.ready.reported, g.ready.hasReported = r, true
	e.elector.Ready(g.name, r)
	if changed {
		e.broadcast(&wire.State{GroupState: g.state()})
	}
}

func (e *Engine) readiness(g *group, now time.Time) Readiness {
	r := Readiness{Term: g.term, Loading: e.loading(g)}
	x := g.rcv.Reception()
	reachable, yielded, unable := 0, false, false
	expected := e.cfg.Peers
	if e.cfg.Expect != nil {
		expected = e.cfg.Expect()
	}
	for _, m := range e.members {
		ms := m.groups[g.name]
		if ms == nil {
			continue
		}
		reachable++
		r.Term = max(r.Term, ms.state.Term)
		if ms.state.InSync && (g.role != wire.RoleMaster || ms.out.Complete() && !e.lags(g, m, now)) {
			r.includeDemotion(m, ms, g.role)
		}
		yielded = yielded || m.hello.Node == g.split.to && ms.state.Role == wire.RoleMaster
		r.Master = r.Master || ms.state.Role == wire.RoleMaster
		switch more := ms.state.Have.Beyond(g.rcv.Pos()); {
		case ms.state.Role == wire.RoleMaster, more && ms.state.Role == wire.RoleBackup:
			r.Behind = true
		case more:
			// An interface of it is down, say: it can neither be master nor
			// tell anybody what it holds. Who waits for it waits for ever.
			unable = true
		}
	}
	switch {
	case g.role == wire.RoleMaster:
		r.InSync, r.Behind, r.Reason = true, false, "master"
		r.Traffic = g.traffic(now, e.cfg.Interval)
	case yielded:
		r.Behind, r.Reason = true, "gave way to another master that is alive"
	case !g.rcv.Adopted():
		r.Reason = "kernel not read yet"
	case g.raising != nil:
		r.Reason = "counters not raised yet beyond what another master may have used"
	case g.rcv.Unnamed() > 0 && x.Contact(g.rcv.Pos()):
		r.Reason = "the counters of some SAs are unknown"
	case g.rcv.Pos().Complete && x.Contact(g.rcv.Pos()):
		r.InSync, r.Reason = true, "follows the master"
		if lack := x.Lacks(g.rcv.Pos(), now); lack != "" {
			r.InSync, r.Reason = false, lack
		}
	case g.rcv.Pos().Complete && g.rcv.Unnamed() == 0 && !x.Missing(g.rcv.Pos()) &&
		x.LostFor(now) < replica.ContactGrace && !r.Behind:
		r.InSync, r.Reason = true, "complete when contact was lost"
	case unable:
		r.Reason = "a member that cannot be master holds more"
	case !r.Behind && reachable >= expected:
		r.InSync, r.Reason = true, "no member holds more"
	case r.Behind:
		r.Reason = "a member holds more"
	default:
		r.Reason = "not all members heard"
	}
	return r
}
