package carp

import "time"

// maxHoldBack bounds a lease to hold back: while it runs, a master that dies is
// not replaced by this node.
const maxHoldBack = 30 * time.Second

// whyHeld begins the reason why a group that holds back does not take over.
const whyHeld = "holding back: "

// lease is a promise to a client not to take over.
type lease struct {
	until  time.Duration
	client uint64
	reason string
}

// holdBack keeps the group from taking over, because its master hands over to a
// certain other member, or ends that. It does not preempt that one afterwards
// either, as if it had handed over itself.
func (g *Group) holdBack(now time.Duration, ev Event) error {
	if ev.Hold <= 0 {
		g.inhibit.held = lease{}
		return nil
	}
	if g.step.phase != phaseIdle {
		return ErrIsMaster
	}
	g.inhibit.held = lease{until: now + min(ev.Hold, maxHoldBack), client: ev.Client, reason: ev.Reason}
	g.yielded, g.fit.unwilling = true, true
	return nil
}
