package carp

import (
	"net/netip"
	"time"
)

// contest is a time in which another master is heard while we are MASTER.
type contest struct {
	peer  netip.Addr
	since time.Duration
	last  time.Duration
	quiet time.Duration // without the other one, after which it is over
	again time.Duration // next announcement
}

func (c *contest) deadline() time.Duration {
	if !c.peer.IsValid() {
		return Never
	}
	return c.last + c.quiet
}

// contested takes note of another master. During a takeover it is the one that
// is being replaced.
func (g *Group) contested(now time.Duration, a Advert) {
	if g.step.phase != phaseMaster {
		return
	}
	c := &g.contest
	if !c.peer.IsValid() {
		*c = contest{peer: a.From, since: now}
		g.act(Action{Kind: ActContested, Peer: a.From})
	}
	c.last, c.quiet = now, g.down()
}

// insist announces our addresses again, once a second at most: the neighbours
// may have learned the other one's.
func (g *Group) insist(now time.Duration) {
	c := &g.contest
	if g.step.phase == phaseMaster && now >= c.again {
		g.act(Action{Kind: ActAnnounce})
		c.again = now + time.Second
		g.announcements.n, g.announcements.at = 0, now+time.Second
	}
}

// endContest reports that the other one has not been heard any more, or that we
// are not MASTER any more.
func (g *Group) endContest(now time.Duration) {
	if g.contest.peer.IsValid() {
		g.act(Action{Kind: ActContested, Peer: g.contest.peer, For: max(now-g.contest.since, 1)})
	}
	g.contest = contest{}
}
