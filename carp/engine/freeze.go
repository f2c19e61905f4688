package engine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/link"
	"sasyncd/kernel/dump"
)

// A restart without a change of state goes in three steps. Freeze makes the
// addresses' leases as long as the restart may take, writes down which
// mastership is being left, tells the clients so that they do not fence when
// the connection drops, and advertises an interval that makes VRRPv3 peers wait
// as long. The end of the process then leaves everything as it is. The next
// process listens, and if nobody else is master and nobody has set the fence,
// goes on in the same term.

// Limits of a freeze.
const (
	minFreeze = time.Second
	maxFreeze = 2 * time.Minute
)

// frozen reports whether g may be left as it is.
func (e *Engine) frozen(g *group, now time.Duration) bool {
	return g.frozenTo > now && !g.machine.Snapshot(now).Fenced
}

// freeze prepares a restart within limit; done is called in the engine's thread
// when everything is in place.
func (e *Engine) freeze(g *group, now, limit time.Duration, done func(error)) {
	s := g.machine.Snapshot(now)
	switch {
	case e.deps.Freezer == nil:
		done(fmt.Errorf("freeze: this carpd has no state directory"))
		return
	case s.Fenced && s.State != carp.Master:
		done(nil) // a backup has nothing to lose
		return
	case s.Fenced:
		done(fmt.Errorf("freeze: group %s is changing its state", g.name))
		return
	}
	limit = min(max(limit, minFreeze), maxFreeze)
	g.frozenTo = now + limit
	e.leaseAgain()
	t := e.task(g, carp.Action{Kind: carp.ActRenew})
	t.do = func() error {
		err := e.deps.Fence.Renew(t.lease)
		if err == nil {
			err = e.deps.Addresses.Renew(t.vips, t.lease)
		}
		if err == nil {
			err = e.deps.Freezer.Freeze(g.name, s.Term, now+limit)
		}
		e.post(func(now time.Duration) {
			if err == nil && e.frozen(g, now) {
				e.broadcast(g, api.Message{Event: api.EventFreeze, Group: g.name, ForMS: ceilMS(g.frozenTo - now)},
					false)
				e.say(slog.LevelInfo, "frozen", "group", g.name, "for", limit)
				e.advertiseAll(g)
			}
			done(err)
		})
		return err
	}
	e.queues.work.put(t)
}

// advertiseAll repeats the advertisements of a master.
func (e *Engine) advertiseAll(g *group) {
	now := link.BootTime()
	e.carryOut(g, now, g.machine.Readvertise(now))
}

// thaw ends a freeze.
func (e *Engine) thaw(g *group) {
	if g.frozenTo == 0 {
		return
	}
	g.frozenTo = 0
	e.leaseAgain()
	e.queues.work.put(task{group: g, do: func() error { return e.deps.Freezer.Thaw(g.name) }})
}

// thawExpired ends the freezes that no restart followed.
func (e *Engine) thawExpired(now time.Duration) {
	for _, g := range e.groups {
		if g.frozenTo != 0 && now >= g.frozenTo {
			e.say(slog.LevelWarn, "the freeze expired without a restart", "group", g.name)
			e.thaw(g)
			e.advertiseAll(g)
		}
	}
}

// interval is the one to advertise: while frozen, one that makes a peer which
// learns it wait for the restart.
func (r *router) interval(now time.Duration) time.Duration {
	own := r.Machine.Interval
	if r.group.frozenTo == 0 || r.Machine.Proto != carp.VRRP3 {
		return own
	}
	const unit, most = 10 * time.Millisecond, 40950 * time.Millisecond
	third := ((r.group.frozenTo-now)/3 + unit - 1) / unit * unit
	return min(max(own, third), most)
}

// inherit finds out what an earlier process left behind on purpose, and returns
// the groups for which that is nothing.
func (e *Engine) inherit(now time.Duration) []*group {
	var rest []*group
	for _, g := range e.groups {
		if e.deps.Freezer != nil {
			term, until := e.deps.Freezer.Frozen(g.name)
			closed, err := true, error(nil)
			if until > now {
				closed, err = e.deps.Fence.Closed(g.vips()...)
			}
			if err == nil && !closed && e.present(g) {
				g.adopt = term
				continue
			}
		}
		rest = append(rest, g)
	}
	return rest
}

// present reports whether all addresses of a group are on the node: after a
// reboot they are not, whatever is written down.
func (e *Engine) present(g *group) bool {
	have, err := e.deps.Addresses.Present()
	if err != nil && !dump.Interrupted(err) { // a torn list that has them all is as good
		return false
	}
	for _, a := range g.vips() {
		if !have[a] {
			return false
		}
	}
	return true
}

// resume listens, and then goes on as master where an earlier process was.
func (e *Engine) resume(ctx context.Context, poll *link.Poller) error {
	if !slices.ContainsFunc(e.groups, func(g *group) bool { return g.adopt != 0 }) {
		return nil
	}
	var listen time.Duration
	for _, r := range e.routers {
		if r.group.adopt != 0 {
			// Another master is heard within its interval.
			listen = max(listen, r.Machine.Interval*5/4)
		}
	}
	for until := link.BootTime() + listen; link.BootTime() < until; {
		if err := poll.Wait(until); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.receive(link.BootTime())
		e.runCalls(link.BootTime())
	}
	for _, g := range e.groups {
		if g.adopt == 0 {
			continue
		}
		now := link.BootTime()
		term := g.adopt
		g.adopt = 0
		_, until := e.deps.Freezer.Frozen(g.name)
		closed, err := e.deps.Fence.Closed(g.vips()...)
		ok := err == nil && !closed && now < until
		if ok {
			var acts []carp.Action
			if acts, ok = g.machine.Adopt(now, term); ok {
				e.say(slog.LevelInfo, "mastership continued after a restart", "group", g.name, "term", term)
				e.carryOut(g, now, acts)
			}
		}
		if !ok {
			e.say(slog.LevelWarn, "mastership not continued after a restart", "group", g.name, "fenced", closed,
				"expired", now >= until)
			e.order(g, carp.Action{Kind: carp.ActRelease})
		}
		e.queues.work.put(task{group: g, do: func() error { return e.deps.Freezer.Thaw(g.name) }})
	}
	e.leaseAgain()
	return nil
}
