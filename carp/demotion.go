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
	rec, failed := &g.adverts.sends[router], err != nil
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
	if id != "" && !g.fit.demotions.has(id) {
		return ErrUnknown
	}
	g.fit.demotions.drop(func(d Demotion) bool { return d.ID == id || id == "" && d.Client == 0 && !automatic(d.ID) })
	g.demote(now)
	return nil
}

// setDemotion puts a demotion in, or replaces the one with the same id.
func (g *Group) setDemotion(now time.Duration, d Demotion) {
	g.fit.demotions.set(d)
	g.demote(now)
}

// undemote takes a demotion out, if it is there.
func (g *Group) undemote(now time.Duration, id string) {
	if g.fit.demotions.has(id) {
		g.fit.demotions.drop(func(d Demotion) bool { return d.ID == id })
		g.demote(now)
	}
}

// demote passes the sum of the demotions on to the routers. A MASTER that rises
// in it does not make its peers wait: with a better peer known to be ready it
// resigns, otherwise it advertises at once, so that a better one can take over,
// and resigns when such a peer becomes ready.
func (g *Group) demote(now time.Duration) {
	n, before := g.fit.demotions.sum(), g.fit.demotion
	g.fit.demotion = n
	for _, r := range g.routers {
		r.demotion = n
	}
	switch {
	case n <= before:
		g.debt.owed = g.debt.owed && n > g.debt.owedAbove
	case g.step.phase == phaseMaster && g.outdone():
		g.giveWay(now)
	case g.step.phase == phaseMaster || g.step.phase == phasePreparing || g.step.phase == phaseAcquiring:
		if !g.debt.owed {
			g.debt.owed, g.debt.owedAbove = true, before
		}
		for i := range g.routers {
			g.router(now, i, RouterEvent{Kind: RouterSay})
		}
	}
}

// outdone reports whether a peer is ready that is less demoted: among equals
// nothing is won. A peer whose demotion nobody has told is taken for such a one.
func (g *Group) outdone() bool {
	return g.report.PeerReady && (!g.report.PeerTold || g.report.PeerDemotion < g.fit.demotion)
}

// settleDebt resigns for a rise to which no better peer was ready when it came.
//
// Without a rise it does so as well, however the group came to be MASTER, where
// the peers' demotions are known: else one that had taken over from a node that
// was worse would stay when that one is well again. But not in favour of one that
// gave mastership up for another reason, which would be undone, and not again
// where the last attempt found no successor, unless there is a better one now.
// Both sides compare strictly and each knows the other's latest word, so they do
// not hand over to each other in turn.
func (g *Group) settleDebt(now time.Duration) {
	if g.step.phase != phaseMaster {
		return
	}
	p := &g.report
	if g.debt.owed && g.outdone() || p.PeerReady && p.PeerTold && p.WillingDemotion < min(g.fit.demotion,
		g.debt.offered) {
		g.giveWay(now)
	}
}

// giveWay hands over because of the demotion.
func (g *Group) giveWay(now time.Duration) {
	g.debt.offered = noOffer
	if g.report.PeerTold {
		g.debt.offered = g.report.PeerDemotion
	}
	_ = g.resign(now, whyDemoted, 0) // cannot fail: we are master
}

// noOffer is beyond any demotion.
const noOffer = maxDemotion + 1

// fitness is what members learn through the clients of how fit we are.
type fitness struct {
	demotion  int
	unwilling bool
}

// tellFitness tells the clients what has changed since it was told.
func (g *Group) tellFitness() {
	if f := (fitness{g.fit.demotion, g.fit.unwilling}); f != g.fit.told {
		g.fit.told = f
		g.act(Action{Kind: ActFitness, Demotion: uint8(f.demotion), Unwilling: f.unwilling})
	}
}
