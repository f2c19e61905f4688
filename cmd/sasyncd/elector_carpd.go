package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sasyncd/carp/api"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// carpdElector follows carpd. A group of the engine bears the name of the
// instance that sasyncd.conf follows; carpd speaks of the group that moves the
// instance.
type carpdElector struct {
	client *api.Client
	log    *slog.Logger
	names  []string // instances followed
	naming *naming
	events chan engine.ElectorEvent

	mu     sync.Mutex
	groups map[string]string // instance -> group of carpd
	ready  map[string]engine.Readiness
	// reporting are the names of which a report waits. However often the readiness
	// changes, as that of a peer may, carpd is told the last one.
	reporting map[string]bool

	answers, reports, questions lane

	// Of Run: until when carpd may be away for a restart, and the words of its
	// connection's end that wait for that.
	frozenTo time.Time
	lost     string
}

var _ engine.Director = (*carpdElector)(nil)

// lane is what is said to carpd one after the other. A request waits for its reply,
// up to 5 s, so that one which the election waits for has a lane without questions.
type lane struct {
	wake chan struct{}

	mu    sync.Mutex
	calls []func(context.Context) error
}

func newLane() lane { return lane{wake: make(chan struct{}, 1)} }

// Names that the two daemons know each other by.
const clientName = "sasyncd"

func newCarpdElector(socket string, instances []string, version string, log *slog.Logger) *carpdElector {
	return &carpdElector{
		client: api.NewClient(api.ClientConfig{Socket: socket, Name: clientName, Version: version,
			Instances: instances, Prepare: true, Log: log}),
		log: log, names: instances, naming: newNaming(instances),
		events: make(chan engine.ElectorEvent, 64),
		groups: make(map[string]string),
		ready:  make(map[string]engine.Readiness),

		reporting: make(map[string]bool),

		answers: newLane(), reports: newLane(), questions: newLane(),
	}
}

// Events implements engine.Elector.
func (e *carpdElector) Events() <-chan engine.ElectorEvent { return e.events }

// Run follows carpd until ctx ends.
func (e *carpdElector) Run(ctx context.Context) error {
	for _, l := range []*lane{&e.answers, &e.reports, &e.questions} {
		go l.speak(ctx, e.log)
	}
	go func() { _ = e.client.Run(ctx) }()
	limit := time.NewTimer(0)
	defer limit.Stop()
	for {
		select {
		case m, ok := <-e.client.Events():
			if !ok {
				return ctx.Err()
			}
			e.message(ctx, m)
			if e.lost != "" {
				limit.Reset(time.Until(e.frozenTo))
			}
		case <-limit.C:
			if e.lost != "" {
				e.gone(ctx, e.lost)
			}
		}
	}
}

// gone tells that the elector is lost.
func (e *carpdElector) gone(ctx context.Context, reason string) {
	e.lost, e.frozenTo = "", time.Time{}
	for _, name := range e.names {
		e.deliver(ctx, engine.ElectorEvent{Kind: engine.ElectorLost, Group: name, Reason: reason})
	}
}

func (e *carpdElector) message(ctx context.Context, m api.Message) {
	switch m.Event {
	case api.EventDisconnected:
		if time.Now().Before(e.frozenTo) {
			// carpd is being restarted and has left everything as it is. If it
			// does not come back in time, it is as if it had died.
			e.lost = m.Reason
			return
		}
		e.gone(ctx, m.Reason)
	case api.EventFreeze:
		e.frozenTo = time.Now().Add(m.For())
		e.log.Info("carpd is about to be restarted", "group", m.Group, "within", m.For())
	case api.EventConnected:
		e.lost, e.frozenTo = "", time.Time{}
	case api.EventState:
		for _, name := range e.names {
			if !m.State.HasInstance(name) {
				continue
			}
			e.mu.Lock()
			e.groups[name] = m.State.Group
			e.naming.learn(name, m.State)
			if _, ok := e.ready[name]; ok && m.Snapshot {
				e.report(name) // reports end with their connection
			}
			e.mu.Unlock()
			if m.Snapshot {
				f := m.Fitness
				if f == nil { // an older carpd does not tell
					f = &api.Fitness{Willing: true}
				}
				e.fitness(ctx, name, f)
			}
			term := m.State.Seen
			if m.State.State == api.StateMaster {
				term = m.State.Term
			}
			gap, steps, measured := gapOf(m.State)
			e.deliver(ctx, engine.ElectorEvent{Kind: engine.ElectorState, Group: name, Role: roleOf(m.State.State),
				Term: term, VIPs: m.State.Addresses(), Reason: m.State.Reason,
				PreferTraffic: m.State.WhenSplit == api.SplitPreferTraffic, Gap: gap, Steps: steps,
				Measured: measured})
			if hearsMaster(m.State) { // the event may have been before our time, or before we gave way
				e.deliver(ctx, engine.ElectorEvent{Kind: engine.ElectorHeard, Group: name})
			}
		}
	case api.EventPrepare, api.EventCancel:
		kind := engine.ElectorPrepare
		if m.Event == api.EventCancel {
			kind = engine.ElectorCancel
		}
		for _, name := range e.of(m.Group) {
			e.deliver(ctx, engine.ElectorEvent{Kind: kind, Group: name, To: roleOf(m.To), Term: m.Term,
				Reason: m.Reason})
		}
	case api.EventPeer:
		for _, name := range e.of(m.Group) {
			e.deliver(ctx, engine.ElectorEvent{Kind: engine.ElectorHeard, Group: name})
		}
	case api.EventFitness:
		if m.Fitness == nil {
			return
		}
		for _, name := range e.of(m.Group) {
			e.fitness(ctx, name, m.Fitness)
		}
	case api.EventContested:
		e.log.Error("mastership is contested on the wire", "group", m.Group, "peer", m.Peer, "for", m.For())
	case api.EventStall:
		e.log.Error("carpd was stalled", "group", m.Group, "for", m.For())
	}
}

func (e *carpdElector) fitness(ctx context.Context, name string, f *api.Fitness) {
	e.deliver(ctx, engine.ElectorEvent{Kind: engine.ElectorFitness, Group: name, Demotion: f.Demotion,
		Willing: f.Willing})
}

// hearsMaster reports whether advertisements of another master arrive.
func hearsMaster(g *api.GroupState) bool {
	for _, i := range g.Instances {
		for _, r := range i.Routers {
			if r.Peer.IsValid() && r.HeardMS < r.DownMS {
				return true
			}
		}
	}
	return false
}

// state asks carpd about the group that moves an instance. The error is why carpd
// cannot be reached, or what it lacks.
func (e *carpdElector) state(ctx context.Context, instance string) (*api.GroupState, error) {
	m, err := e.client.Call(ctx, api.Request{Verb: api.VerbStatus})
	if err != nil {
		return nil, err
	}
	for i := range m.Groups {
		if m.Groups[i].HasInstance(instance) {
			return &m.Groups[i], nil
		}
	}
	return nil, fmt.Errorf("carpd has no instance %s", instance)
}

// of returns the instances that a group of carpd moves.
func (e *carpdElector) of(group string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, name := range e.names {
		if e.groups[name] == group {
			out = append(out, name)
		}
	}
	return out
}

func roleOf(s string) wire.Role {
	switch s {
	case api.StateMaster:
		return wire.RoleMaster
	case api.StateBackup:
		return wire.RoleBackup
	}
	return wire.RoleInit
}

func (e *carpdElector) deliver(ctx context.Context, ev engine.ElectorEvent) {
	select {
	case e.events <- ev:
	case <-ctx.Done():
	}
}

// Prepared implements engine.Elector.
func (e *carpdElector) Prepared(name string, term uint64) {
	e.ask(name, func(ctx context.Context, group string) error { return e.client.Prepared(ctx, group, term) })
}

// Takeover implements engine.Elector.
func (e *carpdElector) Takeover(name string, term uint64, silent time.Duration) {
	e.ask(name, func(ctx context.Context, group string) error { return e.client.Takeover(ctx, group, term, silent) })
}

// Resign implements engine.Elector.
func (e *carpdElector) Resign(name, reason string) {
	e.ask(name, func(ctx context.Context, group string) error { return e.client.Resign(ctx, group, reason, splitHold) })
}

// HandOver gives mastership away; the reply of carpd says whether it began.
func (e *carpdElector) HandOver(ctx context.Context, name string) error {
	e.mu.Lock()
	group := e.groups[name]
	e.mu.Unlock()
	if group == "" {
		return fmt.Errorf("carpd has not said which of its groups moves %s", name)
	}
	return e.client.Resign(ctx, group, "operator", 0)
}

// HoldBack implements engine.Director.
func (e *carpdElector) HoldBack(name string, d time.Duration, reason string, done func(error)) {
	e.direct(name, done, func(ctx context.Context, group string) error {
		return e.client.HoldBack(ctx, group, reason,
			d)
	})
}

// Able implements engine.Director: carpd must be BACKUP, undemoted, and without
// a reason of its own not to take over.
func (e *carpdElector) Able(name string, done func(error)) {
	e.direct(name, done, func(ctx context.Context, group string) error {
		g, err := e.client.Status(ctx, group)
		switch {
		case err != nil:
			return err
		case g.State != api.StateBackup:
			return fmt.Errorf("carpd is %s in group %s", strings.ToUpper(g.State), group)
		case g.Blocked != "":
			return fmt.Errorf("carpd would not take over: %s", g.Blocked)
		case g.Demotion != 0:
			var why []string
			for _, d := range g.Demotions {
				why = append(why, d.ID)
			}
			return fmt.Errorf("carpd is demoted by %d (%s): it would not stay master", g.Demotion,
				strings.Join(why, ", "))
		}
		return nil
	})
}

// direct asks carpd about the group that moves an instance.
func (e *carpdElector) direct(name string, done func(error), f func(context.Context, string) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	group := e.groups[name]
	if group == "" {
		go done(fmt.Errorf("carpd has not said which of its groups moves %s", name))
		return
	}
	e.questions.add(func(ctx context.Context) error {
		done(f(ctx, group))
		return nil
	})
}

// splitHold is how long a node that yielded in a split does not contend.
const splitHold = 5 * time.Second

// Ready implements engine.Elector.
func (e *carpdElector) Ready(name string, r engine.Readiness) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ready[name] = r
	if e.groups[name] != "" {
		e.report(name)
	}
}

// report has carpd told how ready a group is then, unless that is about to happen.
// The caller holds the lock.
func (e *carpdElector) report(name string) {
	if e.reporting[name] {
		return
	}
	e.reporting[name] = true
	e.reports.add(func(ctx context.Context) error {
		e.mu.Lock()
		delete(e.reporting, name)
		group, r := e.groups[name], e.ready[name]
		e.mu.Unlock()
		return e.client.Ready(ctx, group, api.Ready{InSync: r.InSync, Ahead: r.Behind, PeerReady: r.PeerReady,
			Traffic: r.Traffic,
			Loading: r.Loading, PeerTold: r.PeerTold, PeerDemotion: r.PeerDemotion, WillingDemotion: r.WillingDemotion},
			r.Term)
	})
}

func (e *carpdElector) ask(name string, f func(context.Context, string) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	group := e.groups[name]
	if group == "" {
		return
	}
	e.answers.add(func(ctx context.Context) error { return f(ctx, group) })
}

// add queues a request; the engine never waits for carpd.
func (l *lane) add(f func(context.Context) error) {
	l.mu.Lock()
	l.calls = append(l.calls, f)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) speak(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		l.mu.Lock()
		calls := l.calls
		l.calls = nil
		l.mu.Unlock()
		for _, f := range calls {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				log.Warn("request to carpd failed", "err", err)
			}
		}
	}
}
