package engine

import (
	"net/netip"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// takeover is the latest one from another master. at 0: none.
type takeover struct {
	at, gap time.Duration
	from    netip.Addr
	reason  string
	steps   []api.Step
}

// course is when the steps of a mastership were done, since the boot of the machine;
// 0: not. The worker notes addresses and fence in one of its own.
type course struct{ decided, prepared, addresses, fence time.Duration }

// steps returns those that came after the last sign of the master before.
func (c course) steps(sign time.Duration) []api.Step {
	var out []api.Step
	for _, s := range []struct {
		name string
		at   time.Duration
	}{{api.StepDecided, c.decided}, {api.StepPrepared, c.prepared}, {api.StepAddresses, c.addresses},
		{api.StepFence, c.fence}} {
		if s.at >= sign && s.at != 0 {
			out = append(out, api.Step{Step: s.name, After: (s.at - sign).Seconds()})
		}
	}
	return out
}

// handedFor is how old the word of a master that hands over may be when this node
// becomes MASTER because of it.
const handedFor = 5 * time.Second

// moved notes a change of the group's state. The gap of a takeover is the only
// measurement of it: everybody who shows a gap shows this one. It begins with the
// last sign of the master before: when that master was fenced, if its own word of
// it came, else its last advertisement or its resignation. Nobody can say from
// here when a master that says nothing really stopped. It ends when the addresses
// are up and the fence is open. A return of this node's own mastership is no
// takeover.
func (g *group) moved(now time.Duration, a carp.Action) {
	g.moves[a.Old][a.To]++
	if a.Old == carp.Master {
		g.ended = now
	}
	if a.To != carp.Master {
		return
	}
	gap := time.Duration(-1)
	var from netip.Addr
	for _, r := range g.machine.Snapshot(now).Routers {
		if r.Sign >= 0 && (gap < 0 || r.Sign < gap) {
			gap, from = r.Sign, r.Master
		}
	}
	if g.silent != 0 && now-g.silent < handedFor {
		gap = now - g.silent
	}
	g.silent = 0
	if gap >= 0 && (g.ended == 0 || now-gap > g.ended) {
		g.takeover = takeover{now, gap, from, a.Reason, g.course.steps(now - gap)}
	}
}

// describeMoves adds what happened, and what would.
func (g *group) describeMoves(out *api.GroupState, s *carp.Snapshot, now time.Duration) {
	for from := carp.Init; from <= carp.Master; from++ {
		for to := carp.Init; to <= carp.Master; to++ {
			if from != to {
				out.Transitions = append(out.Transitions, api.Transition{From: from.String(), To: to.String(),
					Count: g.moves[from][to]})
			}
		}
	}
	if t := g.takeover; t.at != 0 {
		out.Takeover = &api.Takeover{Reason: t.reason, From: t.from, GapMS: t.gap.Milliseconds(),
			AgeMS: (now - t.at).Milliseconds(), Steps: t.steps}
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
