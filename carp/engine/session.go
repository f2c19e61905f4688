package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// session is a connected client.
type session struct {
	name    string
	prepare bool
	groups  map[*group]bool // subscribed
}

// request is one that a machine will answer.
type request struct{ peer, id uint64 }

// output is something for a client (to not 0) or for the log.
type output struct {
	to      uint64
	message api.Message
	level   slog.Level
	text    string
	args    []any
}

// pump hands messages to the server and lines to the log, so that neither can
// hold up the engine's thread.
func (e *Engine) pump(ctx context.Context) {
	defer e.flush(ctx)
	for {
		e.flush(ctx)
		select {
		case <-ctx.Done():
			return
		case <-e.queues.out.wake:
		}
	}
}

func (e *Engine) flush(ctx context.Context) {
	for _, o := range e.queues.out.take() {
		if o.to == 0 {
			e.log.Log(ctx, o.level, o.text, o.args...)
		} else if s := e.server.Load(); s != nil {
			s.Send(o.to, o.message)
		}
	}
}

// say logs without waiting for the log.
func (e *Engine) say(level slog.Level, text string, args ...any) {
	if !e.log.Enabled(context.Background(), level) {
		return
	}
	e.queues.out.put(output{level: level, text: text, args: args})
}

// Request implements api.Handler.
func (e *Engine) Request(p api.Peer, r api.Request) {
	e.post(func(now time.Duration) {
		if err := e.serve(now, p, r); err != nil {
			e.queues.out.put(output{to: p.ID, message: api.Message{ID: r.ID, Error: err.Error()}})
		}
	})
}

// Gone implements api.Handler.
func (e *Engine) Gone(p api.Peer) {
	e.post(func(now time.Duration) {
		delete(e.thread.sessions, p.ID)
		for _, g := range e.groups {
			e.step(g, now, carp.Event{Kind: carp.EvGone, Client: p.ID})
		}
	})
}

// serve carries out a request. It has been answered, or will be by the machine,
// unless an error is returned.
func (e *Engine) serve(now time.Duration, p api.Peer, r api.Request) error {
	s := e.thread.sessions[p.ID]
	if s == nil {
		s = &session{groups: make(map[*group]bool)}
		e.thread.sessions[p.ID] = s
	}
	done := func() error {
		e.queues.out.put(output{to: p.ID, message: api.Message{ID: r.ID}})
		return nil
	}
	switch r.Verb {
	case api.VerbHello:
		// The name decides whether a required client is there, so only those
		// who may change things have one.
		if p.Trusted {
			s.name, s.prepare = r.Name, r.Prepare
		}
		return done()
	case api.VerbSubscribe:
		if err := e.subscribe(now, p, s, r); err != nil {
			return err
		}
		return done()
	case api.VerbStatus:
		m := api.Message{ID: r.ID, Groups: []api.GroupState{}, Clock: e.thread.clock.report(now)}
		for _, g := range e.groups {
			m.Groups = append(m.Groups, e.state(g, now))
		}
		e.queues.out.put(output{to: p.ID, message: m})
		return nil
	case api.VerbFreeze:
		return e.serveFreeze(now, p, r)
	case api.VerbReload:
		return e.serveReload(p, r)
	case api.VerbAnnounce:
		if r.Group == "" {
			for _, g := range e.groups {
				e.step(g, now, carp.Event{Kind: carp.EvAnnounce})
			}
			return done()
		}
	}
	return e.serveGroup(now, p, s, r, done)
}

// serveGroup carries out a request about one group.
func (e *Engine) serveGroup(now time.Duration, p api.Peer, s *session, r api.Request, done func() error) error {
	ev := carp.Event{Client: p.ID, Term: r.Term, Reason: r.Reason,
		Hold: time.Duration(max(r.HoldMS, 0)) * time.Millisecond}
	answered := false // by the machine
	switch r.Verb {
	case api.VerbPrepared:
		ev.Kind = carp.EvPrepared
	case api.VerbTerm:
		ev.Kind, answered = carp.EvTerm, true
	case api.VerbReady:
		if r.Ready == nil {
			return fmt.Errorf("ready: report is missing")
		}
		ev.Kind, ev.Ready = carp.EvReady, carp.Ready(*r.Ready)
	case api.VerbResign:
		ev.Kind, answered = carp.EvResign, true
	case api.VerbHoldBack:
		ev.Kind, answered = carp.EvHoldBack, true
	case api.VerbTakeover:
		ev.Kind, answered = carp.EvTakeover, true
		if g := e.find(r.Group); g != nil && r.SilentMS > 0 {
			g.silent = now - time.Duration(r.SilentMS)*time.Millisecond
		}
	case api.VerbAnnounce:
		ev.Kind, answered = carp.EvAnnounce, true
	case api.VerbDemote:
		if r.Demotion == nil {
			return fmt.Errorf("demote: demotion is missing")
		}
		ev.Kind, ev.Demotion, answered = carp.EvDemote, demotion(now, p, s, *r.Demotion), true
	case api.VerbUndemote:
		ev.Kind, answered = carp.EvUndemote, true
		if r.Demotion != nil {
			ev.Demotion.ID = r.Demotion.ID
		}
	default:
		return fmt.Errorf("unknown verb %s", strconv.Quote(r.Verb))
	}
	g := e.find(r.Group)
	if g == nil {
		return fmt.Errorf("no such group: %s", r.Group)
	}
	if (ev.Kind == carp.EvPrepared || ev.Kind == carp.EvReady) && !s.groups[g] {
		return fmt.Errorf("%s: hello and subscribe come first", r.Verb)
	}
	if !answered {
		e.step(g, now, ev)
		return done()
	}
	e.thread.lastReq++
	ev.Request = e.thread.lastReq
	e.thread.requests[ev.Request] = request{p.ID, r.ID}
	e.step(g, now, ev)
	return nil
}

// serveFreeze freezes one group or all; the reply comes when all is in place.
func (e *Engine) serveFreeze(now time.Duration, p api.Peer, r api.Request) error {
	groups := e.groups
	if r.Group != "" {
		g := e.find(r.Group)
		if g == nil {
			return fmt.Errorf("no such group: %s", r.Group)
		}
		groups = []*group{g}
	}
	left, failed := len(groups), error(nil)
	for _, g := range groups {
		e.freeze(g, now, time.Duration(max(r.HoldMS, 0))*time.Millisecond, func(err error) {
			failed = errors.Join(failed, err)
			if left--; left > 0 {
				return
			}
			m := api.Message{ID: r.ID}
			if failed != nil {
				m.Error = failed.Error()
			}
			e.queues.out.put(output{to: p.ID, message: m})
		})
	}
	return nil
}

// serveReload reloads without holding up the engine's thread.
func (e *Engine) serveReload(p api.Peer, r api.Request) error {
	if e.load == nil {
		return errors.New("reload: this carpd has no configuration file")
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), reloadLimit)
		defer cancel()
		m := api.Message{ID: r.ID}
		cfg, err := e.load()
		if err == nil {
			err = e.Reload(ctx, cfg)
		}
		if err != nil {
			m.Error = err.Error()
			e.say(slog.LevelError, "reload refused, nothing changed", "err", err)
		} else {
			e.say(slog.LevelInfo, "reloaded")
		}
		e.queues.out.put(output{to: p.ID, message: m})
	}()
	return nil
}

// reloadLimit is for reading files and changing settings.
const reloadLimit = 4 * time.Second

func demotion(now time.Duration, p api.Peer, s *session, d api.Demotion) carp.Demotion {
	out := carp.Demotion{ID: d.ID, By: d.By, Reason: d.Reason}
	if out.ID == "" {
		out.ID = cmp.Or(s.name, "uid "+strconv.FormatUint(uint64(p.UID), 10))
	}
	if d.Hold != api.HoldPersistent {
		out.Client = p.ID
	}
	if d.TTLMS > 0 {
		out.Expires = now + time.Duration(d.TTLMS)*time.Millisecond
	}
	return out
}

func (e *Engine) find(name string) *group {
	for _, g := range e.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// meant returns the group that a client means: by its name, or by that of one of its
// instances, as operators do.
func (e *Engine) meant(name string) (*group, error) {
	g := e.find(name)
	at := slices.IndexFunc(e.routers, func(r *router) bool { return r.Instance == name })
	switch {
	case g == nil && at < 0:
		return nil, fmt.Errorf("no such group: %s", name)
	case g == nil:
		return e.routers[at].group, nil
	case at >= 0 && e.routers[at].group != g:
		return nil, fmt.Errorf("%s is ambiguous: it is a group, and an instance of group %s", name,
			e.routers[at].group.name)
	}
	return g, nil
}

// trackHolder stands for a client that never leaves, so that `undemote`, which
// takes back what people did, leaves tracks alone.
const trackHolder = math.MaxUint64

// Track sets a demotion of this daemon itself, by 0 withdraws it. Safe for
// concurrent use.
func (e *Engine) Track(group, id string, by int, reason string) {
	e.post(func(now time.Duration) {
		g := e.find(group)
		if g == nil {
			return
		}
		ev := carp.Event{Kind: carp.EvDemote, Demotion: carp.Demotion{ID: id, By: by, Reason: reason,
			Client: trackHolder}}
		if by == 0 {
			ev.Kind = carp.EvUndemote
		}
		e.step(g, now, ev)
	})
}

// Witness tells a group what is known of its witness, see track.WitnessSink. Safe
// for concurrent use.
func (e *Engine) Witness(group string, reachable bool, sent time.Duration) {
	e.post(func(now time.Duration) {
		if g := e.find(group); g != nil {
			e.step(g, now, carp.Event{Kind: carp.EvWitness, Witness: reachable, Proof: sent})
		}
	})
}
