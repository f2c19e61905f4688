package engine

import (
	"time"

	"sasyncd/sync/wire"
)

// Hint is what a member to which this node has no session says of a group, by way of
// another member. Whoever holds the key can say anything, and who passes it on can
// change it.
type Hint struct {
	Node wire.NodeID
	Role Role
	Age  time.Duration // since it came
}

// Limits of hints.
const (
	hintFresh = 5 * time.Second // an older hint counts for nothing; one comes every second
	hintLimit = time.Hour       // hints delay no takeover for longer
)

// hinted is what one group has made of hints.
//
// I18: a hint may delay a takeover of a node that is not in sync, and never hastens
// one. The delay ends hintFresh after the last hint, and hintLimit after the first:
// neither a stale hint nor one that is not true keeps a group without a MASTER for
// ever. The time counts until this node is in sync, or hears from a better member
// itself.
type hinted struct {
	since time.Time // when the first hint came, zero for none
	over  bool      // hintLimit has passed
}

// delay decides whether a node with readiness r, which is made without hints, is to
// wait for a MASTER that only hints tell of.
func (h *hinted) delay(now time.Time, r Readiness, own wire.NodeID, list []Hint,
	connected func(wire.NodeID) bool) bool {
	if r.InSync || r.Behind {
		*h = hinted{}
		return false
	}
	for _, x := range list {
		if x.Role != wire.RoleMaster || x.Age < 0 || x.Age > hintFresh || x.Node == own || connected(x.Node) {
			continue
		}
		if h.since.IsZero() {
			h.since = now
		}
		h.over = h.over || now.Sub(h.since) >= hintLimit
		return !h.over
	}
	return false
}

// hint lets hints delay what a readiness allows.
func (e *Engine) hint(g *group, now time.Time, r Readiness) Readiness {
	if e.cfg.Hints == nil {
		return r
	}
	was := g.ready.hints
	connected := func(id wire.NodeID) bool {
		for _, m := range e.members {
			if m.hello.Node == id && m.groups[g.name] != nil {
				return true
			}
		}
		return false
	}
	var list []Hint
	if !r.InSync && !r.Behind { // nearly never, so they are not asked for each time
		list = e.cfg.Hints(g.name)
	}
	if g.ready.hints.delay(now, r, e.cfg.Node, list, connected) {
		r.Behind, r.Reason = true, "a member without a session is MASTER, as another passes on"
	}
	switch {
	case was.since.IsZero() && !g.ready.hints.since.IsZero():
		e.log.Warn("not taking over alone: a member without a session says by way of another that it is MASTER",
			"group", g.name)
	case !was.over && g.ready.hints.over:
		e.log.Warn("waiting no longer for a MASTER that only others have told of for an hour", "group", g.name)
	}
	return r
}
