package carp

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDemotion is the largest sum of demotions, as in carp(4).
const maxDemotion = 255

// Demotion is one reason to be a lesser master, held until it is withdrawn, its
// holder's connection ends, or it expires.
type Demotion struct {
	ID      string        // chosen by the holder, unique in the group
	By      int           // 1..255
	Reason  string        // for people
	Client  uint64        // connection that holds it, 0 none
	Expires time.Duration // 0 never
}

// ledger keeps the demotions of a group.
type ledger []Demotion

func (l *ledger) set(d Demotion) {
	l.drop(func(x Demotion) bool { return x.ID == d.ID })
	*l = append(*l, d)
}

func (l *ledger) drop(match func(Demotion) bool) {
	*l = slices.DeleteFunc(*l, match)
}

func (l ledger) has(id string) bool {
	return slices.ContainsFunc(l, func(d Demotion) bool { return d.ID == id })
}

func (l ledger) sum() int {
	n := 0
	for _, d := range l {
		n += d.By
	}
	return min(n, maxDemotion)
}

func (l ledger) deadline() time.Duration {
	at := Never
	for _, d := range l {
		if d.Expires != 0 {
			at = min(at, d.Expires)
		}
	}
	return at
}

// Ids, or beginnings of ids, of demotions that the daemon itself puts in and
// takes out.
const (
	startDemotion = "start"   // demote-at-start
	linkDemotion  = "carpdev" // an interface is down
	sendDemotion  = "send"    // advertisements cannot be sent
	TrackPrefix   = "track:"  // something that is tracked
)

// whyDemoted is the reason of who hands over because of a demotion.
const whyDemoted = "demoted, a peer is ready"

// sendLimit is the number of failures in a row that count as a fault, and of
// successes that end it, as in carp(4).
const sendLimit = 3

// fault is the id of a demotion because of router i.
func fault(what string, i int) string { return what + ":" + strconv.Itoa(i) }

// automatic reports whether the daemon itself looks after a demotion.
func automatic(id string) bool {
	if id == startDemotion || strings.HasPrefix(id, TrackPrefix) {
		return true
	}
	what, _, ok := strings.Cut(id, ":")
	return ok && (what == linkDemotion || what == sendDemotion)
}

// sendRecord counts what became of a router's advertisements.
type sendRecord struct {
	run    int // of the same outcome
	failed bool
}

// sent demotes the group when a router cannot advertise.
func (g *Group) sent(now time.Duration, router int, err error) {
	rec, failed := &g.sends[router], err != nil
	if rec.failed != failed {
		rec.failed, rec.run = failed, 0
	}
	if rec.run++; rec.run != sendLimit {
		rec.run = min(rec.run, sendLimit)
		return
	}
	if id := fault(sendDemotion, router); failed {
		g.setDemotion(now, Demotion{ID: id, By: 1, Reason: "advertisements cannot be sent"})
	} else {
		g.undemote(now, id)
	}
}

func (g *Group) changeDemotion(now time.Duration, ev Event) error {
	if ev.Kind == EvDemote {
		if ev.Demotion.By < 1 || ev.Demotion.By > maxDemotion {
			return ErrDemotion
		}
		g.setDemotion(now, ev.Demotion)
		return nil
	}
	id := ev.Demotion.ID
	if id != "" && !g.demotions.has(id) {
		return ErrUnknown
	}
	g.demotions.drop(func(d Demotion) bool { return d.ID == id || id == "" && d.Client == 0 && !automatic(d.ID) })
	g.demote(now)
	return nil
}

// setDemotion puts a demotion in, or replaces the one with the same id.
func (g *Group) setDemotion(now time.Duration, d Demotion) {
	g.demotions.set(d)
	g.demote(now)
}

// undemote takes a demotion out, if it is there.
func (g *Group) undemote(now time.Duration, id string) {
	if g.demotions.has(id) {
		g.demotions.drop(func(d Demotion) bool { return d.ID == id })
		g.demote(now)
	}
}

// demote passes the sum of the demotions on to the routers. A MASTER that rises
// in it does not make its peers wait: with a peer known to be ready it resigns,
// otherwise it advertises at once, so that a better one can take over, and
// resigns when a peer becomes ready.
func (g *Group) demote(now time.Duration) {
	n, before := g.demotions.sum(), g.demotion
	g.demotion = n
	for _, r := range g.routers {
		r.demotion = n
	}
	switch {
	case n <= before:
		g.owed = g.owed && n > g.owedAbove
	case g.phase == phaseMaster && g.peerReady:
		_ = g.resign(now, whyDemoted, 0) // cannot fail: we are master
	case g.phase == phaseMaster || g.phase == phasePreparing || g.phase == phaseAcquiring:
		if !g.owed {
			g.owed, g.owedAbove = true, before
		}
		for i := range g.routers {
			g.router(now, i, RouterEvent{Kind: RouterSay})
		}
	}
}

// settleDebt resigns once for a rise to which no peer was ready when it came.
func (g *Group) settleDebt(now time.Duration) {
	if g.owed && g.phase == phaseMaster && g.peerReady {
		_ = g.resign(now, whyDemoted, 0) // cannot fail: we are master
	}
}
