package carp

import "time"

// client is a connected client of a group.
type client struct {
	name     string
	prepare  bool // takes part in changes
	reported bool
	ready    Ready
}

// client handles the events of clients.
func (g *Group) client(now time.Duration, ev Event) {
	switch ev.Kind {
	case EvClient:
		g.clients[ev.Client] = &client{name: ev.Name, prepare: ev.Prepare}
		_ = g.hear(ev.Term)
	case EvGone:
		delete(g.clients, ev.Client)
		delete(g.step.waiting, ev.Client)
		if g.inhibit.held.client == ev.Client {
			g.inhibit.held = lease{}
		}
		g.fit.demotions.drop(func(d Demotion) bool { return d.Client != 0 && d.Client == ev.Client })
		g.demote(now)
		if g.step.phase == phasePreparing && (g.missing() != "" || g.unguarded()) {
			g.fit.unwilling = true
			g.lose(now, "required client lost")
		}
		g.advance(now)
	case EvReady:
		c := g.clients[ev.Client]
		if c == nil {
			return
		}
		err := g.hear(ev.Term)
		fresh := !c.reported || c.ready.Ahead || c.ready.InSync
		c.reported, c.ready = true, ev.Ready
		g.report = ev.Ready
		if fresh && !ev.Ready.Ahead && !ev.Ready.InSync {
			g.aloneFrom = now
		}
		if ev.Ready.InSync {
			g.undemote(now, startDemotion)
		}
		g.settleDebt(now)
		g.reply(ev, err)
	case EvPrepared:
		if ev.Term == g.term {
			delete(g.step.waiting, ev.Client)
			g.advance(now)
		}
	}
	switch {
	case g.missing() == "":
		g.lostAt = 0
	case g.step.phase == phaseMaster && g.lostAt == 0:
		g.lostAt = now
	}
}

// missing names a required client that is not there.
func (g *Group) missing() string {
	for _, name := range g.cfg.Require {
		if g.live(name) == nil {
			return name
		}
	}
	return ""
}

// unguarded reports whether nobody is there to silence a master that is not
// heard. To a MASTER that makes no difference.
func (g *Group) unguarded() bool { return g.cfg.Fence && g.live(FenceClient) == nil }

func (g *Group) live(name string) *client {
	for _, c := range g.clients {
		if c.name == name {
			return c
		}
	}
	return nil
}

// ineligible says why the group may not take an address because of its
// clients or its witness, "" if it may.
func (g *Group) ineligible(now time.Duration) string {
	if g.cfg.Witness && !g.witness.reachable {
		return whyWitness
	}
	if name := g.missing(); name != "" {
		return "waiting for " + name
	}
	if g.unguarded() {
		return "waiting for " + FenceClient
	}
	if g.inSync() {
		return ""
	}
	if now >= g.aloneAt() {
		return ""
	}
	return "not in sync"
}

func (g *Group) inSync() bool {
	for _, name := range g.cfg.Require {
		if c := g.live(name); c == nil || !c.ready.InSync {
			return false
		}
	}
	return true
}

func (g *Group) loading() bool {
	for _, name := range g.cfg.Require {
		if c := g.live(name); c != nil && c.ready.Loading {
			return true
		}
	}
	return false
}

// aloneAt is the time at which a group that is not in sync may take over,
// because nobody better has been seen on the wire or by its clients.
func (g *Group) aloneAt() time.Duration {
	if g.cfg.AloneAfter < 0 || g.inSync() {
		return Never
	}
	from := g.aloneFrom
	for _, name := range g.cfg.Require {
		c := g.live(name)
		if c == nil || !c.reported || c.ready.Ahead {
			return Never
		}
	}
	for _, r := range g.routers {
		from = max(from, r.heardAt)
	}
	return from + g.cfg.AloneAfter
}

// lostLimit is the longest time for which a MASTER waits for a required client that
// it lost. The peers lost contact with it at the same moment, and count as in sync
// for 10 s from then on (sync/engine): later nobody could take over at once.
const lostLimit = 8 * time.Second

// lostDeadline is the time at which a MASTER that lost a required client hands
// over, which it does only if a peer was ready.
func (g *Group) lostDeadline() time.Duration {
	if g.lostAt == 0 || !g.report.PeerReady || g.cfg.AloneAfter < 0 {
		return Never
	}
	return g.lostAt + min(g.cfg.AloneAfter, lostLimit)
}
