package engine

import (
	"context"
	"log/slog"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/link"
)

type sentAdvert struct {
	r   *router
	err error
}

func (e *Engine) setPoller(p *link.Poller) {
	e.pollMu.Lock()
	defer e.pollMu.Unlock()
	e.poll = p
}

// loop is the engine's thread.
func (e *Engine) loop(ctx context.Context, poll *link.Poller) error {
	if err := realtime(threadPriority); err != nil {
		e.say(slog.LevelWarn, "no real-time priority: a busy machine may delay advertisements; intervals below 100ms "+
			"are not safe", "err", err)
	}
	defer func() {
		for _, p := range e.ports {
			p.Close()
		}
	}()
	now := link.BootTime()
	for _, g := range e.groups {
		g.machine = carp.NewGroup(g.cfg, now, e.deps.Terms.Term(g.name))
	}
	e.resumeMarks()
	e.lookAtLinks()
	if err := e.resume(ctx, poll); err != nil {
		return err
	}
	close(e.ready)
	for {
		at := carp.Never
		for _, g := range e.groups {
			at = min(at, g.machine.Deadline())
		}
		if err := poll.Wait(at); err != nil {
			return err
		}
		e.beats.thread()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// What has arrived comes first: after a stall the master's
		// advertisements are waiting here, and a deadline judged before them
		// would make every stalled backup a master.
		e.receive(link.BootTime())
		e.runCalls(link.BootTime())
		now := link.BootTime()
		e.thawExpired(now)
		for _, g := range e.groups {
			if now >= g.machine.Deadline() {
				e.step(g, now, carp.Event{Kind: carp.EvTick})
			}
		}
		if e.thread.stopped == len(e.groups) {
			return nil
		}
	}
}

// post runs f in the engine's thread, in order. Safe for concurrent use.
func (e *Engine) post(f func(now time.Duration)) {
	e.pollMu.RLock()
	defer e.pollMu.RUnlock()
	if e.poll == nil {
		return // nobody there; the caller's context will end
	}
	e.mu.Lock()
	e.calls = append(e.calls, f)
	e.mu.Unlock()
	e.poll.Wake()
}

func (e *Engine) runCalls(now time.Duration) {
	e.mu.Lock()
	calls := e.calls
	e.calls = nil
	e.mu.Unlock()
	for _, f := range calls {
		f(now)
	}
}

// step gives an event to a group and carries out the actions.
func (e *Engine) step(g *group, now time.Duration, ev carp.Event) {
	e.carryOut(g, now, g.machine.Step(now, ev))
}

// carryOut does what a machine wants done.
func (e *Engine) carryOut(g *group, now time.Duration, acts []carp.Action) {
	for _, a := range acts {
		e.do(g, now, a)
	}
	// What was sent is an event in turn; it waits until here, because the
	// actions of a step are only valid until the next.
	for len(e.thread.sent) > 0 {
		s := e.thread.sent[len(e.thread.sent)-1]
		e.thread.sent = e.thread.sent[:len(e.thread.sent)-1]
		for _, a := range s.r.group.machine.Step(now, carp.Event{Kind: carp.EvSent, Router: s.r.index, Err: s.err}) {
			e.do(s.r.group, now, a)
		}
	}
}

// do carries out an action.
func (e *Engine) do(g *group, now time.Duration, a carp.Action) {
	switch a.Kind {
	case carp.ActAdvert:
		r := g.routers[a.Router]
		e.thread.sent = append(e.thread.sent, sentAdvert{r, e.send(r, a)})
	case carp.ActFence, carp.ActRelease:
		e.thaw(g)
		e.order(g, a)
	case carp.ActAcquire:
		g.course.prepared = now
		e.order(g, a)
	case carp.ActRenew, carp.ActAnnounce:
		e.order(g, a)
	case carp.ActTerm:
		g.course = course{decided: now}
		e.queues.terms.put(termOf{g.name, a.Term})
	case carp.ActReply:
		e.answer(a.Request, a.Err)
	case carp.ActStopped:
		e.thread.stopped++
	default:
		e.tell(g, now, a)
	}
}
