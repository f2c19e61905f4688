package carp

import (
	"net/netip"
	"time"
)

// inFlight is how long an advertisement can be on its way, or wait to be read.
const inFlight = 100 * time.Millisecond

// RouterConfig describes one virtual router: an instance in one family.
type RouterConfig struct {
	Proto    Proto
	ID       uint8         // 1..255
	Priority uint8         // VRRP: 1..255; 255 is never lowered by demotion
	Interval time.Duration // between advertisements, undemoted
	Preempt  Preempt       // of this router; the group's if PreemptGroup

	Base, Skew uint8 // CARP: seconds and 1/256 s, see CARPRouter
	Dialect    Dialect
}

// owner reports whether the virtual addresses are the node's own (VRRP).
func (c *RouterConfig) owner() bool { return c.Proto != CARP && c.Priority == 255 }

// Advert is what the machine needs to know of an advertisement.
type Advert struct {
	From     netip.Addr
	To       netip.Addr // our address as the sender knows it; invalid: the router's own
	Priority uint8      // 0: the sender resigns; in CARP not 0 otherwise
	Interval time.Duration

	Base, Skew, Demotion uint8 // CARP, as sent
	Signed               bool  // with a key that only nodes of ours have
}

// RouterEventKind says what happened to a router.
type RouterEventKind uint8

// The events of a router.
const (
	RouterUp     RouterEventKind = iota // interface and source address are there
	RouterDown                          // they are gone
	RouterAdvert                        // a valid advertisement of another node
	RouterTick                          // time has passed
	RouterWin                           // the group takes over
	RouterExpire                        // the master is known to be gone: do not wait for the timer
	RouterDrop                          // the group steps down: be silent
	RouterResign                        // tell the peers not to wait for their timers
	RouterRearm                         // wait again, for the skew time only
	RouterSay                           // Master: advertise now
	RouterListen                        // what was heard, and what was not, is out of date
)

// RouterEvent is an event of a router. Src is set with RouterUp, Advert with
// RouterAdvert.
type RouterEvent struct {
	Kind   RouterEventKind
	Src    netip.Addr
	Advert Advert
}

// RouterActionKind says what a router wants done, or tells the group.
type RouterActionKind uint8

// The actions of a router.
const (
	RouterSend      RouterActionKind = iota // send an advertisement with Priority
	RouterExpired                           // the down timer ran out
	RouterYielded                           // a better master exists; was Master, is Backup
	RouterContested                         // another master exists that is not better
)

// RouterAction is an action of a router. RouterSend with Priority 0 resigns;
// Base, Skew and Demotion are of CARP.
type RouterAction struct {
	Kind                 RouterActionKind
	Priority             uint8
	Base, Skew, Demotion uint8
	Advert               Advert
}

// Router is the election machine of one virtual router. A router does not
// become Master by itself: when its down timer runs out it says so and waits
// for RouterWin, because the group moves as one. Not for concurrent use.
type Router struct {
	cfg      RouterConfig
	preempt  bool   // set by the group before each advertisement
	stay     bool   // so too: Master, do not yield yet to a better one
	give     string // so too: Master, why to yield to a lesser one, "" not to
	demotion int

	state    State
	expired  bool          // Backup: the down timer ran out
	src      netip.Addr    // own source address
	learned  time.Duration // interval of the master (VRRPv3)
	downAt   time.Duration // Backup, not expired
	advertAt time.Duration // Master
	answered int           // Master: out of turn since the last advertisement that was due
	heardAt  time.Duration // last advertisement of a master; 0 none yet
	signAt   time.Duration // heardAt, or when that master resigned
	restAt   time.Duration // since when it counts that none is heard
	from     netip.Addr    // who sent it
	prio     uint8         // with which priority
	bowed    bool          // it resigned
	cause    string        // why it is being replaced, "" it is not
	tie      netip.Addr    // CARP: an equal one to whom we yielded
	tieAt    time.Duration // when
	insistTo time.Duration // CARP: until when we do not yield to equals
	deafTo   time.Duration // until when what it sent before it fell silent is ignored

	acts [3]RouterAction
}

// NewRouter makes a router in Init.
func NewRouter(cfg RouterConfig) *Router {
	return &Router{cfg: cfg, learned: cfg.Interval}
}

// State returns the state.
func (r *Router) State() State { return r.state }

// Expired reports whether the router would take over.
func (r *Router) Expired() bool { return r.state == Backup && r.expired }

// Priority is the priority that the router advertises: demotion lowers it, but
// not below 1, as 0 would mean to resign. In CARP, which has none, it is 1.
func (r *Router) Priority() uint8 {
	switch {
	case r.cfg.Proto == CARP:
		return 1
	case r.cfg.Priority == 255:
		return 255
	}
	return uint8(max(1, int(r.cfg.Priority)-r.demotion))
}

// Deadline is the time at which the router wants a RouterTick, or Never.
func (r *Router) Deadline() time.Duration {
	switch {
	case r.state == Backup && !r.expired:
		return r.downAt
	case r.state == Master:
		return r.advertAt
	}
	return Never
}

// Step advances the machine. The result is valid until the next call.
func (r *Router) Step(now time.Duration, ev RouterEvent) []RouterAction {
	out := r.acts[:0]
	switch ev.Kind {
	case RouterUp:
		r.src = ev.Src
		if r.state == Init {
			r.rest(now)
		}
	case RouterDown:
		r.state, r.expired = Init, false
	case RouterAdvert:
		return r.advert(now, ev.Advert, out)
	case RouterTick:
		return r.tick(now, out)
	case RouterWin:
		if r.state == Backup {
			r.state, r.expired, r.answered = Master, false, 0
			r.learned, r.cause = r.cfg.Interval, ""
			r.insist(now)
			out = r.now(now, out)
		}
	case RouterExpire:
		if r.state == Backup {
			r.expired, r.deafTo = true, now+min(inFlight, r.learned)
		}
	case RouterDrop:
		if r.state == Master {
			r.rest(now)
		}
	case RouterResign:
		if r.state == Backup {
			out = append(out, r.leave())
		}
	case RouterRearm:
		if r.state == Backup && r.expired {
			r.expired, r.downAt = false, now+r.Skew()
		}
	case RouterSay:
		if r.state == Master {
			out = r.now(now, out)
		}
	case RouterListen:
		if r.state == Backup {
			r.bowed, r.cause = false, ""
			r.rest(now)
		}
	}
	return out
}

// rest enters Backup with a full down interval ahead.
func (r *Router) rest(now time.Duration) {
	r.state, r.expired, r.restAt = Backup, false, now
	r.downAt = now + r.Down()
}

func (r *Router) tick(now time.Duration, out []RouterAction) []RouterAction {
	switch {
	case r.state == Backup && !r.expired && now >= r.downAt:
		r.expired = true
		out = append(out, RouterAction{Kind: RouterExpired})
	case r.state == Master && now >= r.advertAt:
		// Keep the rhythm, but do not catch up on what was missed.
		if r.advertAt += r.every(); r.advertAt <= now {
			r.advertAt = now + r.every()
		}
		r.answered = 0
		out = append(out, r.say())
	}
	return out
}

func (r *Router) advert(now time.Duration, a Advert, out []RouterAction) []RouterAction {
	if a.From == r.src {
		return out // our own, from a loop in the network
	}
	switch r.state {
	case Backup:
		switch {
		case a.Priority == 0:
			// Only the node we follow can resign. The parting words of one
			// that lost against it must not start an election.
			if !r.expired && (!r.from.IsValid() || a.From == r.from) {
				r.downAt, r.bowed, r.signAt = min(r.downAt, now+r.leaveTime()), true, now
			}
		case r.replaces(a) != "":
			r.heardAt, r.signAt, r.cause = now, now, r.replaces(a)
			if !r.expired {
				r.downAt = min(r.downAt, now+r.leaveTime())
			}
		case !r.preempt || r.compare(a) >= 0:
			r.follow(now, a)
		default:
			// A lesser master that we mean to replace: the timer runs on.
			r.heardAt, r.signAt = now, now
		}
	case Master:
		yields, stays := r.yields(now, a)
		switch {
		case a.Priority == 0:
			out = r.answer(now, out)
		case now < r.deafTo && a.From == r.from:
			// Sent before it was fenced in our favour.
		case yields && r.stay:
			// Without an answer, or the two would answer each other for ever.
			out = append(out, RouterAction{Kind: RouterContested, Advert: a})
		case yields || r.give != "":
			if yields && stays {
				// A last word, so that the better one learns that there were
				// two and tells the neighbours again whom to follow.
				out = append(out, r.say())
			}
			r.state = Backup
			r.follow(now, a)
			r.downAt += r.tieTime(a)
			if yields && !stays {
				r.tie, r.tieAt = a.From, now
			}
			out = append(out, RouterAction{Kind: RouterYielded, Advert: a})
		default:
			// RFC 9568 6.4.3: answer at once, so that the other one yields
			// and bridges learn the right port again.
			out = r.answer(now, out)
			out = append(out, RouterAction{Kind: RouterContested, Advert: a})
		}
	}
	return out
}

// follow accepts a as the advertisement of the master.
func (r *Router) follow(now time.Duration, a Advert) {
	r.from, r.prio, r.heardAt, r.signAt = a.From, a.Priority, now, now
	r.expired, r.bowed, r.cause = false, false, ""
	r.learn(a)
	r.downAt = now + r.Down()
}

// maxAnswers is how often a master answers between two advertisements that are
// due. Nodes that agree need two or three.
const maxAnswers = 8

// answer advertises out of turn, and bounds that: a flood is not answered by a
// flood.
func (r *Router) answer(now time.Duration, out []RouterAction) []RouterAction {
	if r.answered >= maxAnswers {
		return out
	}
	r.answered++
	return r.now(now, out)
}

// now advertises out of turn.
func (r *Router) now(now time.Duration, out []RouterAction) []RouterAction {
	r.advertAt = now + r.every()
	return append(out, r.say())
}
