package carp

import "time"

// Who does kernel operations may fail, or not answer: the kernel is busy with
// something else, or the runner has an error. A MASTER that has no addresses any
// more, or never got them, must not go on advertising.
const (
	operateLimit = 5 * time.Second        // for addresses to be taken or released; IPv6 may need 3 s
	renewLimit   = 3 * time.Second        // for an answer to a renewal
	renewAgain   = 200 * time.Millisecond // after a renewal that failed
	leaseSlack   = 100 * time.Millisecond // the kernel counts leases from a moment later, in whole seconds
)

const whyStuck = "an operation of the kernel has not ended"

// renewal is what a MASTER knows of the leases of its addresses.
type renewal struct {
	due     time.Duration // from when on an advertisement that leaves renews
	ordered time.Duration // since when an answer is waited for, 0: for none
	again   time.Duration // one has failed: when it is tried again, 0: none has
	good    time.Duration // when the latest one that succeeded was ordered
	why     string        // why the latest one failed
}

// Lease is how long the addresses of a router stay without renewal. It ends
// before a peer's down interval does for intervals from 1 s on; below, whole
// seconds are what the kernel offers. CARP takes over three times advbase after
// the last advertisement, so advskew adds nothing there but the time to renew.
func (c RouterConfig) Lease() time.Duration {
	if c.Proto == CARP {
		return max(2*time.Second, (c.Interval+500*time.Millisecond).Truncate(time.Second)+time.Second)
	}
	return max(2*time.Second, 2*c.Interval)
}

// lease is that of the group's addresses: the longest of its routers.
func (g *Group) lease() time.Duration {
	d := RouterConfig{}.Lease()
	for _, r := range g.routers {
		d = max(d, r.cfg.Lease())
	}
	return d
}

// leased begins a mastership's renewals: the addresses were just taken.
func (g *Group) leased(now time.Duration) {
	g.renewal = renewal{due: now + leasePeriod/2, good: now}
}

// renew keeps the leases alive, as long as the peers really hear us.
func (g *Group) renew(now time.Duration) {
	if g.step.phase != phaseMaster || g.step.done != g.step.op || now < g.renewal.due || g.renewal.ordered != 0 ||
		g.renewal.again != 0 {
		return
	}
	shortest := Never
	for i, r := range g.routers {
		if now-g.adverts.sentAt[i] > r.every()*3/2 {
			return
		}
		shortest = min(shortest, r.every())
	}
	g.orderRenewal(now)
	// Half an interval early, so that the advertisement nearest to the period
	// renews, not the one after it.
	g.renewal.due = now + max(leasePeriod/2, leasePeriod-shortest/2)
}

func (g *Group) orderRenewal(now time.Duration) {
	g.act(Action{Kind: ActRenew})
	g.renewal.ordered, g.renewal.again = now, 0
}

// renewed takes the answer to a renewal.
func (g *Group) renewed(now time.Duration, ev Event) {
	r := &g.renewal
	if g.step.phase != phaseMaster || ev.Proof < r.good {
		return // of an earlier mastership
	}
	r.ordered = 0
	if ev.Err == nil {
		r.good, r.again = ev.Proof, 0
		return
	}
	r.again, r.why = now+renewAgain, ev.Err.Error()
	if r.again >= r.good+g.lease()-leaseSlack {
		g.fail(now, "leases cannot be renewed: "+r.why)
	}
}

// overdue ends what the kernel, or who asks it, does not answer in time.
func (g *Group) overdue(now time.Duration) {
	switch g.step.phase {
	case phaseAcquiring:
		if now >= g.step.opUntil {
			g.fail(now, "addresses: "+whyStuck)
		}
	case phaseFencing:
		if now >= g.step.opUntil {
			g.lose(now, g.step.why)
		}
	case phaseReleasing:
		// The leases have ended what could not be released, and the peers' timers have
		// run out: to resign now would only disturb who has taken over.
		if now >= g.step.opUntil {
			clear(g.adverts.bow)
			g.lost(now)
		}
	case phaseMaster:
		switch r := &g.renewal; {
		case g.step.done != g.step.op && now >= g.step.opUntil: // continued after a restart
			g.fail(now, "addresses: "+whyStuck)
		case r.ordered != 0 && now >= r.ordered+renewLimit:
			g.fail(now, "leases are not renewed: "+whyStuck)
		case r.again != 0 && now >= r.again:
			g.orderRenewal(now)
		}
	}
}

// overdueAt is when overdue has something to do, or Never.
func (g *Group) overdueAt() time.Duration {
	at := Never
	switch g.step.phase {
	case phaseAcquiring, phaseFencing, phaseReleasing:
		at = g.step.opUntil
	case phaseMaster:
		if g.step.done != g.step.op {
			at = g.step.opUntil
		}
		if g.renewal.ordered != 0 {
			at = min(at, g.renewal.ordered+renewLimit)
		}
		if g.renewal.again != 0 {
			at = min(at, g.renewal.again)
		}
	}
	return at
}

// fail ends a mastership, or the attempt at one, that this node cannot keep up. It
// does not come back before failPause, nor by preemption of who takes over.
func (g *Group) fail(now time.Duration, why string) {
	g.inhibit.notBefore, g.fit.unwilling = now+failPause, true
	g.lose(now, why)
}
