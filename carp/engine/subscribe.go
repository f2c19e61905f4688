package engine

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// subscribe sends snapshots and makes a named client one of its groups.
func (e *Engine) subscribe(now time.Duration, p api.Peer, s *session, r api.Request) error {
	var want []*group
	for _, name := range r.Groups {
		g, err := e.meant(name)
		if err != nil {
			return err
		}
		want = append(want, g)
	}
	for _, name := range r.Instances {
		at := slices.IndexFunc(e.routers, func(r *router) bool { return r.Instance == name })
		if at < 0 {
			return fmt.Errorf("no such instance: %s", name)
		}
		want = append(want, e.routers[at].group)
	}
	if len(r.Groups)+len(r.Instances) == 0 {
		want = e.groups
	}
	for _, g := range want {
		if s.groups[g] {
			continue
		}
		s.groups[g] = true
		e.queues.out.put(output{to: p.ID, message: e.snapshot(g, now)})
		if e.frozen(g, now) {
			e.queues.out.put(output{to: p.ID, message: api.Message{Event: api.EventFreeze, Group: g.name,
				ForMS: ceilMS(g.frozenTo - now)}})
		}
		if s.name != "" {
			e.step(g, now, carp.Event{Kind: carp.EvClient, Client: p.ID, Name: s.name, Prepare: s.prepare})
		}
	}
	return nil
}

// snapshot is what a client learns of a group without a change.
func (e *Engine) snapshot(g *group, now time.Duration) api.Message {
	st, s := e.state(g, now), g.machine.Snapshot(now)
	return api.Message{
		Event: api.EventState, Group: g.name, Snapshot: true, State: &st,
		Old: st.State, To: st.State, Term: st.Term, Reason: st.Reason,
		Fitness: &api.Fitness{Demotion: s.Demotion, Willing: !s.Unwilling},
	}
}

// answer sends the reply that a machine gave.
func (e *Engine) answer(id uint64, err error) {
	r, ok := e.thread.requests[id]
	if !ok {
		return
	}
	delete(e.thread.requests, id)
	m := api.Message{ID: r.id}
	if err != nil {
		m.Error = err.Error()
	}
	e.queues.out.put(output{to: r.peer, message: m})
}

// tell turns an action into an event for clients and a line of the log.
func (e *Engine) tell(g *group, now time.Duration, a carp.Action) {
	name := g.name
	m := api.Message{Group: name, Term: a.Term, Reason: a.Reason, ForMS: ceilMS(a.For)}
	onlyPreparing := false
	switch a.Kind {
	case carp.ActState:
		g.moved(now, a)
		st := e.state(g, now)
		m.Event, m.State, m.Old, m.To = api.EventState, &st, a.Old.String(), a.To.String()
		for _, r := range g.routers {
			r.heard = heard{} // who is master from now on is news
		}
		e.say(slog.LevelInfo, "state", "group", name, "from", m.Old, "to", m.To, "reason", a.Reason, "term", a.Term)
	case carp.ActPrepare:
		m.Event, m.To, onlyPreparing = api.EventPrepare, a.To.String(), true
	case carp.ActCancel:
		m.Event, onlyPreparing = api.EventCancel, true
		e.say(slog.LevelWarn, "takeover cancelled", "group", name, "reason", a.Reason, "term", a.Term)
	case carp.ActContested:
		said := &g.contests[0]
		if a.For != 0 {
			said = &g.contests[1]
		}
		if !said.may(now, a.Peer, heardSaid, &e.thread.lines) {
			return // somebody who comes and goes could bring it about at will
		}
		m.Event, m.Peer = api.EventContested, a.Peer
		e.say(slog.LevelWarn, "mastership contested", "group", name, "peer", a.Peer, "for", a.For)
	case carp.ActStall:
		m.Event = api.EventStall
		e.say(slog.LevelError, "advertisement late", "group", name, "instance", g.routers[a.Router].Instance,
			"late", a.For)
	case carp.ActFitness:
		m.Event, m.Fitness = api.EventFitness, &api.Fitness{Demotion: int(a.Demotion), Willing: !a.Unwilling}
	default:
		return
	}
	e.broadcast(g, m, onlyPreparing)
}

func (e *Engine) broadcast(g *group, m api.Message, onlyPreparing bool) {
	for id, s := range e.thread.sessions {
		if s.groups[g] && (s.prepare || !onlyPreparing) {
			e.queues.out.put(output{to: id, message: m})
		}
	}
}

func ceilMS(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
