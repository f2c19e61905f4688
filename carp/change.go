package carp

import "time"

// Reasons for which a group may not take over.
const (
	whyHold  = "listening after start"
	whyPause = "pausing after a resignation or a failure"

	whyTakeover = "takeover"
)

// Reasons of a prepare for MASTER that say that the master before, if there was
// one, may be alive and only not heard. In all others it has agreed.
const (
	ReasonNobody   = "no master heard" // since the start
	ReasonTimedOut = "master timed out"
)

// FenceClient is the name of the client that silences a master that is not heard.
const FenceClient = "fence"

// settle takes over if the time has come, and tells INIT from BACKUP.
func (g *Group) settle(now time.Duration) {
	why := g.obstacle(now)
	if why == "" && g.inhibit.blocked != "" && g.step.phase == phaseIdle {
		// Nodes that waited for the same thing get it at the same moment: let
		// their priorities decide who goes first.
		for i := range g.routers {
			g.router(now, i, RouterEvent{Kind: RouterRearm})
		}
	}
	g.inhibit.blocked = why
	if g.step.phase == phaseIdle && !g.stopping && why == "" && g.allExpired() && g.witnessed(now) {
		g.win(now)
	}
	if g.public == Master || g.step.phase == phaseStopped {
		return
	}
	state, reason := Backup, "interfaces up"
	for _, r := range g.routers {
		if r.State() == Init {
			state, reason = Init, "interface down"
		}
	}
	if state != g.public {
		g.tell(now, state, reason)
	}
}

// obstacle says why the group may not take over, "" if it may.
func (g *Group) obstacle(now time.Duration) string {
	switch {
	case g.step.phase == phaseIdle && g.step.done != g.step.op:
		return whyStuck
	case now < g.inhibit.holdUntil:
		return whyHold
	case now < g.inhibit.notBefore:
		return whyPause
	case now < g.inhibit.held.until:
		return whyHeld + g.inhibit.held.reason
	}
	return g.ineligible(now)
}

func (g *Group) allExpired() bool {
	for _, r := range g.routers {
		if !r.Expired() {
			return false
		}
	}
	return len(g.routers) > 0
}

// win begins a mastership: advertise first, so that others stay away.
func (g *Group) win(now time.Duration) {
	if g.step.why == "" {
		g.step.why = ReasonNobody
		for _, r := range g.routers {
			switch {
			case r.bowed:
				g.step.why = "master resigned"
			case r.cause != "" && g.step.why != "master resigned":
				g.step.why = r.cause
			case r.from.IsValid() && g.step.why == ReasonNobody:
				g.step.why = ReasonTimedOut
			}
		}
	}
	for i := range g.routers {
		g.adverts.sentAt[i] = now
		g.router(now, i, RouterEvent{Kind: RouterWin})
	}
	g.seen++
	g.term, g.yielded, g.contest, g.lesserAt, g.debt.owed = g.seen, false, contest{}, 0, false
	g.report.WillingDemotion = maxDemotion // a MASTER's client has to say it
	g.act(Action{Kind: ActTerm, Term: g.term})
	g.step.phase = phasePreparing
	g.ask(now, Master, g.cfg.PrepareTimeout)
	g.advance(now)
}

// ask sends the clients a prepare.
func (g *Group) ask(now time.Duration, to State, limit time.Duration) {
	clear(g.step.waiting)
	asked := false
	for id, c := range g.clients {
		if !c.prepare {
			continue
		}
		asked = true
		if to != Master || id != g.step.urgedBy {
			g.step.waiting[id] = true
		}
	}
	g.step.waitUntil = now + limit
	if asked {
		g.act(Action{Kind: ActPrepare, To: to, Term: g.term, For: limit, Reason: g.step.why})
	}
}

// advance goes on when no client is waited for any more.
func (g *Group) advance(now time.Duration) {
	if len(g.step.waiting) > 0 {
		return
	}
	switch g.step.phase {
	case phasePreparing:
		g.step.phase = phaseAcquiring
		g.operate(now, ActAcquire)
	case phaseHanding:
		g.lose(now, g.step.why)
	}
}

// operate starts a kernel operation; earlier ones do not count any more.
func (g *Group) operate(now time.Duration, kind ActionKind) {
	g.step.op++
	g.step.opUntil = now + operateLimit
	g.act(Action{Kind: kind, Op: g.step.op, Term: g.term})
}

// ended takes note of the end of a kernel operation.
func (g *Group) ended(now time.Duration, ev Event) {
	if ev.Op != g.step.op {
		return
	}
	g.step.done = g.step.op
	switch g.step.phase {
	case phaseAcquiring:
		if ev.Err != nil {
			g.fail(now, "addresses: "+ev.Err.Error())
			return
		}
		g.step.phase, g.fit.unwilling = phaseMaster, false
		g.announcements.n, g.announcements.at = 0, now+time.Second
		g.leased(now)
		g.undemote(now, startDemotion)
		g.tell(now, Master, g.step.why)
		g.step.why = ""
		g.settleDebt(now)
	case phaseFencing:
		// Should setting the fence have failed, the addresses go all the same.
		g.step.phase = phaseHanding
		g.ask(now, Backup, g.handLimit())
		g.advance(now)
	case phaseReleasing:
		g.lost(now)
	case phaseMaster: // continued after a restart
		if ev.Err != nil {
			g.fail(now, "addresses: "+ev.Err.Error())
		}
	}
}

// handLimit keeps the silence of a hand-over below the time after which peers
// would hold an election.
func (g *Group) handLimit() time.Duration {
	limit := handTime
	for _, r := range g.routers {
		limit = min(limit, 2*r.every())
	}
	return limit
}

// lose ends a mastership, or the attempt at one.
func (g *Group) lose(now time.Duration, why string) {
	switch g.step.phase {
	case phaseIdle, phaseReleasing, phaseStopped:
		return
	}
	for i, r := range g.routers {
		g.adverts.bow[i] = r.State() == Master
		g.router(now, i, RouterEvent{Kind: RouterDrop})
	}
	g.adverts.bowSince, g.step.why = now, why
	if (g.step.phase == phasePreparing || g.step.phase == phaseAcquiring) && g.anyPrepares() {
		g.act(Action{Kind: ActCancel, Term: g.term, Reason: why})
	}
	if g.step.phase == phasePreparing {
		g.lost(now) // no address was taken and the fence never left
		return
	}
	g.step.phase = phaseReleasing
	g.operate(now, ActRelease)
}

// anyPrepares reports whether any client takes part in changes.
func (g *Group) anyPrepares() bool {
	for _, c := range g.clients {
		if c.prepare {
			return true
		}
	}
	return false
}

// lost follows when fence and addresses are as a BACKUP's should be. Only now
// are the peers told: from here on nothing leaves from the addresses.
func (g *Group) lost(now time.Duration) {
	for i, r := range g.routers {
		if g.adverts.bow[i] && r.heardAt < g.adverts.bowSince {
			g.router(now, i, RouterEvent{Kind: RouterResign})
		}
		g.adverts.bow[i] = false
	}
	g.step.phase = phaseIdle
	if g.public == Master {
		g.tell(now, Backup, g.step.why)
	}
	g.endContest(now)
	g.step.why, g.lostAt = "", 0
	if g.stopping {
		g.stop()
	}
}

func (g *Group) stop() {
	g.step.phase = phaseStopped
	g.act(Action{Kind: ActStopped})
}

// tell publishes a state.
func (g *Group) tell(now time.Duration, to State, why string) {
	old := g.public
	g.public, g.reason, g.since = to, why, now
	g.act(Action{Kind: ActState, To: to, Old: old, Term: g.term, Reason: why})
}

// resign begins a planned change: fence first, so that the counters which the
// clients then bring over are exact.
func (g *Group) resign(now time.Duration, why string, hold time.Duration) error {
	if why == "" {
		why = "resign"
	}
	// At least a down interval for the successor, and no way back by preemption.
	until := now + g.down() + hold
	switch g.step.phase {
	case phaseMaster:
		g.step.phase, g.step.why = phaseFencing, why
		g.operate(now, ActFence)
	case phasePreparing, phaseAcquiring:
		g.lose(now, why)
	default:
		return ErrNotMaster
	}
	g.inhibit.notBefore, g.yielded, g.fit.unwilling = until, true, why != whyDemoted
	return nil
}

// takeover follows the word of the master's client: it has fenced itself, we
// need not wait for any timer.
func (g *Group) takeover(now time.Duration, term uint64) error {
	switch {
	case g.stopping:
		return ErrStopping
	case g.step.phase != phaseIdle:
		return ErrIsMaster
	case g.step.done != g.step.op:
		return ErrStuck
	case term < g.seen:
		return ErrOldTerm
	case !g.believable(term):
		return ErrHighTerm
	case g.ineligible(now) != "":
		return ErrNotEligible
	}
	for _, r := range g.routers {
		if r.State() == Init {
			return ErrRouterDown
		}
	}
	g.seen, g.debt.offered = term, noOffer // it was our successor, if we offered
	g.inhibit.holdUntil, g.inhibit.notBefore, g.inhibit.held, g.inhibit.blocked = 0, 0, lease{}, ""
	for i := range g.routers {
		g.router(now, i, RouterEvent{Kind: RouterExpire})
	}
	g.step.why = whyTakeover
	return nil
}
