package engine

import (
	"context"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// fitness is how fit a node's election holds it to be MASTER of a group.
type fitness struct {
	known    bool
	demotion int
	willing  bool // see wire.Fitness
}

// setFitness notes what the own election says, and tells the members.
func (e *Engine) setFitness(g *group, demotion int, willing bool) {
	f := fitness{known: true, demotion: min(max(demotion, 0), wire.MaxDemotion), willing: willing}
	if f == g.fit {
		return
	}
	g.fit = f
	for _, m := range e.sorted() {
		e.tellFitness(m, g)
	}
}

// tellFitness tells a member, if it would understand and there is something to
// tell: one that has not heard from us takes us for no better than itself.
func (e *Engine) tellFitness(m *member, g *group) {
	if g.fit.known && m.tellsFitness() {
		e.send(m, &wire.Fitness{Group: g.name, Demotion: g.fit.demotion, Willing: g.fit.willing})
	}
}

func (m *member) tellsFitness() bool { return m.hello.Caps&wire.CapFitness != 0 }

// memberFitness notes what a member says of itself.
func (e *Engine) memberFitness(m *member, msg *wire.Fitness) {
	g := e.groups[msg.Group]
	if g == nil || m.groups[g.name] == nil {
		return
	}
	m.groups[g.name].fit = fitness{known: true, demotion: msg.Demotion, willing: msg.Willing}
	e.reportReadiness(g, time.Now())
}

// includeDemotion adds a member that could take over to what the election is told of their
// demotions. Only a MASTER may hand over merely because of them; what a standby
// has told may be acted on when it has just become MASTER, and its members are
// not complete.
func (r *Readiness) includeDemotion(m *member, ms *membership, role Role) {
	if !r.PeerReady {
		r.PeerReady, r.PeerTold = true, true
		r.PeerDemotion, r.WillingDemotion = wire.MaxDemotion, wire.MaxDemotion
	}
	switch {
	case !m.tellsFitness():
		r.PeerTold = false
	default:
		r.PeerDemotion = min(r.PeerDemotion, ms.fit.demotion)
		if ms.fit.willing && role == wire.RoleMaster && ms.state.Role == wire.RoleBackup {
			r.WillingDemotion = min(r.WillingDemotion, ms.fit.demotion)
		}
	}
}

// Succession tells for each group which peers could take it over, by name, the one first
// that the election would choose. A MASTER hands over to the first that holds everything.
// A group that is not named has no order.
func (e *Engine) Succession(ctx context.Context, order map[string][]string) error {
	return e.do(ctx, func() {
		for _, g := range e.order {
			g.leaving.order = order[g.name]
		}
	})
}

// serving leaves out who holds everything and could not serve, unless there is no other.
func (g *group) serving(members []*member) []*member {
	serves := func(m *member) bool { return slices.Contains(g.leaving.order, m.session.Peer()) }
	if !slices.ContainsFunc(members, serves) {
		return members
	}
	return slices.DeleteFunc(members, func(m *member) bool { return !serves(m) })
}

// place is where a standby stands among those to which a MASTER may hand over.
type place struct {
	rank  int
	order int // in the order of the election
}

func (p place) before(o place) bool {
	return p.rank < o.rank || p.rank == o.rank && p.order < o.order
}

func (g *group) place(m *member) place {
	return place{g.rank(m.groups[g.name]), max(0, slices.Index(g.leaving.order, m.session.Peer()))}
}

// rank orders the standbys to which a MASTER may hand over, the least first:
// one that is less demoted and willing is what a demoted MASTER looks for.
func (g *group) rank(ms *membership) int {
	if ms.fit.willing && ms.fit.demotion < g.fit.demotion {
		return ms.fit.demotion
	}
	return 1 + wire.MaxDemotion + ms.fit.demotion
}
