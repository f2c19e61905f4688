package carp

import "time"

// Times that are not configurable.
const (
	handTime     = 100 * time.Millisecond // for clients to bring counters to the successor
	failPause    = 5 * time.Second        // before trying again what did not work
	announceEach = time.Minute            // refresh neighbours that missed everything else
	leasePeriod  = time.Second            // between renewals of leases
)

// GroupConfig describes a group.
type GroupConfig struct {
	Name           string
	Preempt        Preempt       // replace a lesser master
	PreemptDelay   time.Duration // after it was first heard
	Witness        bool          // no address is taken or kept unless a witness is reachable
	PreferTraffic  bool          // of two masters the one stays to which the traffic comes
	DemoteAtStart  int           // demotion until in sync, 0 none
	StartHold      time.Duration // listen at least so long before the first election
	Require        []string      // names of clients without which no address is taken
	Fence          bool          // nor without a client of the name FenceClient
	AloneAfter     time.Duration // not in sync: take over after this time alone; negative: never
	PrepareTimeout time.Duration // clients must have prepared after it
	Routers        []RouterConfig
}

// phase is where a group is on its way. Only in phaseMaster is the fence off.
type phase uint8

const (
	phaseIdle      phase = iota // INIT or BACKUP
	phasePreparing              // advertising, clients prepare
	phaseAcquiring              // advertising, addresses are being added
	phaseMaster
	phaseFencing   // planned change: fence is being set
	phaseHanding   // planned change: clients bring counters over
	phaseReleasing // addresses are being removed
	phaseStopped
)

// Group moves its routers as one. Not for concurrent use.
type Group struct {
	cfg     GroupConfig
	routers []*Router
	acts    []Action
	ticked  time.Duration // time of the last EvTick

	step step

	public State // as told to clients
	reason string
	since  time.Duration
	term   uint64 // of our latest mastership
	seen   uint64 // highest known

	inhibit  inhibit
	yielded  bool // handed over: do not preempt the successor
	stopping bool
	lesserAt time.Duration // since when only a lesser master is heard, 0 not
	witness  witnessed

	adverts       adverts
	renewal       renewal
	announcements announcements
	contest       contest

	clients   map[uint64]*client
	aloneFrom time.Duration // since when the clients know of nobody better
	lostAt    time.Duration // MASTER: a required client is missing
	report    Ready         // latest
	fit       fit
	debt      debt
}

// step is the change of role that is under way.
type step struct {
	phase   phase
	op      uint64        // latest kernel operation
	done    uint64        // latest that has ended; after a loss it may be an earlier one
	opUntil time.Duration // by when op has to end
	why     string        // reason of the change

	waitUntil time.Duration // phasePreparing, phaseHanding
	waiting   map[uint64]bool
	// urgedBy is the client whose takeover this step is: it holds all that the old
	// master had, so it is told of the change but not waited for. A round trip
	// between two processes is a good part of a planned change.
	urgedBy uint64
}

// inhibit is what keeps a group from taking over.
type inhibit struct {
	holdUntil time.Duration // start-hold
	notBefore time.Duration // after a resignation or a failure
	held      lease         // promise not to take over
	blocked   string        // why the group may not take over; "" it may
}

// witnessed is what is known of the group's witness.
type witnessed struct {
	reachable bool
	proofAt   time.Duration // latest time at which that was certainly so
}

// adverts are the advertisements of a group's routers, by router.
type adverts struct {
	bow      []bool // has to tell its peers that it resigns
	bowSince time.Duration
	sentAt   []time.Duration // last advertisement that really left
	sends    []sendRecord
}

// announcements of the virtual addresses to neighbours.
type announcements struct {
	at time.Duration // of the next
	n  int           // how many were made
}

// fit is how fit this node is, by its demotions.
type fit struct {
	demotions ledger
	demotion  int     // their sum, as the routers have it
	unwilling bool    // see Action
	told      fitness // to clients
}

// debt is a hand-over that a MASTER owes, as it was demoted when no better peer was ready.
type debt struct {
	owed      bool
	owedAbove int // demotion before that
	offered   int // demotion of the peer to which the latest such hand-over went; noOffer
}

// NewGroup makes a group at time now, with the highest term known from before.
func NewGroup(cfg GroupConfig, now time.Duration, term uint64) *Group {
	g := &Group{
		cfg: cfg, seen: term, since: now, reason: "start",
		adverts: adverts{bow: make([]bool, len(cfg.Routers)), sentAt: make([]time.Duration, len(cfg.Routers)),
			sends: make([]sendRecord, len(cfg.Routers))},
		acts:    make([]Action, 0, 8+2*len(cfg.Routers)),
		clients: make(map[uint64]*client),
		step:    step{waiting: make(map[uint64]bool)},
		debt:    debt{offered: noOffer},
	}
	for _, rc := range cfg.Routers {
		g.routers = append(g.routers, NewRouter(rc))
	}
	if cfg.StartHold > 0 {
		g.inhibit.holdUntil, g.inhibit.blocked = now+cfg.StartHold, whyHold
	}
	if cfg.DemoteAtStart > 0 {
		g.fit.demotions.set(Demotion{ID: startDemotion, By: cfg.DemoteAtStart, Reason: "start"})
		g.demote(now)
	}
	g.fit.told = fitness{g.fit.demotion, g.fit.unwilling} // by the snapshot
	return g
}

// Name returns the name of the group.
func (g *Group) Name() string { return g.cfg.Name }

// Term returns the highest term the group knows.
func (g *Group) Term() uint64 { return g.seen }

// Deadline is the time at which the group wants an EvTick, or Never.
func (g *Group) Deadline() time.Duration {
	at := g.fit.demotions.deadline()
	if g.step.phase != phaseFencing && g.step.phase != phaseHanding && g.step.phase != phaseStopped {
		for _, r := range g.routers {
			at = min(at, r.Deadline())
		}
	}
	later := func(t time.Duration) {
		if t > g.ticked {
			at = min(at, t)
		}
	}
	switch g.step.phase {
	case phaseIdle:
		later(g.inhibit.holdUntil)
		later(g.inhibit.notBefore)
		later(g.inhibit.held.until)
		later(g.aloneAt())
	case phasePreparing, phaseHanding:
		later(g.step.waitUntil)
	case phaseMaster:
		later(g.announcements.at)
		later(g.lostDeadline())
		later(g.contest.deadline())
	}
	later(g.overdueAt())
	return at
}

// Step advances the machine. The result is valid until the next call.
func (g *Group) Step(now time.Duration, ev Event) []Action {
	g.acts = g.acts[:0]
	if g.step.phase == phaseStopped {
		return g.acts
	}
	g.stall(now)
	switch ev.Kind {
	case EvTick:
		g.tick(now)
	case EvUp:
		g.undemote(now, fault(linkDemotion, ev.Router))
		g.router(now, ev.Router, RouterEvent{Kind: RouterUp, Src: ev.Src})
	case EvDown:
		was := g.routers[ev.Router].State()
		g.router(now, ev.Router, RouterEvent{Kind: RouterDown})
		if was == Master {
			g.lose(now, "interface down")
		}
		g.setDemotion(now, Demotion{ID: fault(linkDemotion, ev.Router), By: 1, Reason: "interface down"})
	case EvAdvert:
		g.advert(now, ev)
	case EvSent:
		g.sent(now, ev.Router, ev.Err)
		if ev.Err == nil {
			g.adverts.sentAt[ev.Router] = now
			g.renew(now)
		}
	case EvDone:
		g.ended(now, ev)
	case EvRenewed:
		g.renewed(now, ev)
	case EvClient, EvGone, EvReady, EvPrepared:
		g.client(now, ev)
	case EvTerm:
		g.reply(ev, g.hear(ev.Term))
	case EvResign:
		g.reply(ev, g.resign(now, ev.Reason, ev.Hold))
	case EvHoldBack:
		g.reply(ev, g.holdBack(now, ev))
	case EvTakeover:
		if err := g.takeover(now, ev.Term); err != nil {
			g.reply(ev, err)
			break
		}
		g.reply(ev, nil)
		g.step.urgedBy = ev.Client
	case EvDemote, EvUndemote:
		g.reply(ev, g.changeDemotion(now, ev))
	case EvAnnounce:
		if g.step.phase != phaseMaster {
			g.reply(ev, ErrNotMaster)
			break
		}
		g.act(Action{Kind: ActAnnounce})
		g.reply(ev, nil)
	case EvMoved:
		if g.step.phase == phaseMaster {
			// As after a takeover: neighbours and switches have to learn.
			g.act(Action{Kind: ActAnnounce})
			g.announcements.n, g.announcements.at = 0, now+time.Second
		}
	case EvWitness:
		g.witnesses(now, ev)
	case EvStop:
		g.stopping = true
		switch {
		case g.step.phase == phaseIdle:
			g.stop()
		case g.step.phase == phaseMaster:
			_ = g.resign(now, "stopping", 0)
		case g.step.phase != phaseFencing && g.step.phase != phaseHanding:
			g.lose(now, "stopping")
		}
	}
	g.settle(now)
	g.step.urgedBy = 0
	g.tellFitness()
	return g.acts
}

// tick handles everything that is due.
func (g *Group) tick(now time.Duration) {
	g.ticked = now
	before := len(g.fit.demotions)
	g.fit.demotions.drop(func(d Demotion) bool { return d.Expires != 0 && now >= d.Expires })
	if len(g.fit.demotions) != before {
		g.demote(now)
	}
	if g.step.phase != phaseFencing && g.step.phase != phaseHanding {
		for i, r := range g.routers {
			if now >= r.Deadline() {
				g.router(now, i, RouterEvent{Kind: RouterTick})
			}
		}
	}
	g.overdue(now)
	switch g.step.phase {
	case phasePreparing:
		if now >= g.step.waitUntil {
			g.fail(now, "clients did not prepare in time")
		}
	case phaseHanding:
		if now >= g.step.waitUntil {
			g.lose(now, g.step.why)
		}
	case phaseMaster:
		if now >= g.announcements.at {
			g.announce(now)
		}
		if now >= g.contest.deadline() {
			g.endContest(now)
		}
		if now >= g.lostDeadline() {
			_ = g.resign(now, "required client lost, a peer is ready", 0)
		}
	}
}

// advert hands an advertisement to its router.
func (g *Group) advert(now time.Duration, ev Event) {
	if (g.step.phase == phaseFencing || g.step.phase == phaseHanding) && ev.Advert.Priority > 0 {
		// The successor is there. Whatever its priority, we are leaving.
		g.lose(now, g.step.why)
	}
	if g.step.phase != phaseMaster && ev.Advert.Priority > 0 {
		g.debt.offered = noOffer // there was a successor
	}
	r := g.routers[ev.Router]
	g.lesser(now, r, ev.Advert)
	r.preempt = g.mayPreempt(now, r)
	g.weigh(now, r, ev.Advert)
	g.router(now, ev.Router, RouterEvent{Kind: RouterAdvert, Advert: ev.Advert})
}

// router steps router i and takes over its actions.
func (g *Group) router(now time.Duration, i int, ev RouterEvent) {
	for _, a := range g.routers[i].Step(now, ev) {
		switch a.Kind {
		case RouterSend:
			g.act(Action{Kind: ActAdvert, Router: i, Priority: a.Priority, Base: a.Base, Skew: a.Skew,
				Demotion: a.Demotion})
		case RouterYielded:
			g.contested(now, a.Advert)
			why := "better master"
			if give := g.routers[i].give; give != "" {
				why, g.yielded, g.fit.unwilling = give, true, true // no way back by preemption
			}
			g.lose(now, why)
		case RouterContested:
			g.contested(now, a.Advert)
			g.insist(now)
		}
	}
}

// stall steps down when no advertisement has left for so long that a peer may
// have taken over: the process was stopped, starved, or cannot send.
func (g *Group) stall(now time.Duration) {
	if g.step.phase != phasePreparing && g.step.phase != phaseAcquiring && g.step.phase != phaseMaster {
		return
	}
	for i, r := range g.routers {
		late := now - g.adverts.sentAt[i]
		if r.State() == Master && late > r.stale() {
			g.act(Action{Kind: ActStall, Router: i, For: late})
			// Who cannot send would come back by preemption, and fail again.
			g.yielded, g.fit.unwilling = g.yielded || g.adverts.sends[i].failed, true
			g.lose(now, "stall")
			return
		}
	}
}

// announce tells the neighbours, and again 1 s and 5 s after the takeover.
func (g *Group) announce(now time.Duration) {
	g.act(Action{Kind: ActAnnounce})
	switch g.announcements.n++; g.announcements.n {
	case 1:
		g.announcements.at = now + 4*time.Second
	default:
		g.announcements.at = now + announceEach
	}
}

func (g *Group) act(a Action) { g.acts = append(g.acts, a) }

func (g *Group) reply(ev Event, err error) {
	if ev.Request != 0 {
		g.act(Action{Kind: ActReply, Request: ev.Request, Err: err})
	}
}

// down is the longest down interval of the routers.
func (g *Group) down() time.Duration {
	var d time.Duration
	for _, r := range g.routers {
		d = max(d, r.Down())
	}
	return d
}
