package engine

import (
	"net/netip"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// takeover is the latest change to MASTER from another node. at 0: none.
type takeover struct {
	at, gap time.Duration
	from    netip.Addr
	reason  string
}

// moved notes a change of the group's state. The gap of a takeover is counted
// from the last advertisement of the master before: nobody can say from here
// when that master really stopped.
func (g *group) moved(now time.Duration, a carp.Action) {
	g.moves[a.Old][a.To]++
	if a.To != carp.Master {
		return
	}
	gap := time.Duration(-1)
	var from netip.Addr
	for _, r := range g.machine.Snapshot(now).Routers {
		if r.Heard >= 0 && (gap < 0 || r.Heard < gap) {
			gap, from = r.Heard, r.Master
		}
	}
	if gap >= 0 {
		g.takeover = takeover{now, gap, from, a.Reason}
	}
}

// describeMoves adds what happened, and what would.
func (g *group) describeMoves(out *api.GroupState, s *carp.Snapshot, now time.Duration) {
	for from := carp.Init; from <= carp.Master; from++ {
		for to := carp.Init; to <= carp.Master; to++ {
			if from != to {
				out.Transitions = append(out.Transitions, api.Transition{From: from.String(), To: to.String(), Count: g.moves[from][to]})
			}
		}
	}
	if t := g.takeover; t.at != 0 {
		out.Takeover = &api.Takeover{Reason: t.reason, From: t.from, GapMS: t.gap.Milliseconds(), AgeMS: (now - t.at).Milliseconds()}
	}
	out.OutageMS = outage(s)
}

// outage predicts for how long nobody would be MASTER. The group takes over
// when the last of its routers has waited; what comes after that is constant
// work of a few milliseconds.
func outage(s *carp.Snapshot) int64 {
	if s.Blocked != "" || s.State == carp.Init {
		return -1
	}
	var down time.Duration
	for _, r := range s.Routers {
		down = max(down, r.Down)
	}
	return down.Milliseconds()
}
