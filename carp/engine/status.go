package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/auth"
)

// state describes a group for clients. It runs in the engine's thread.
func (e *Engine) state(g *group, now time.Duration) api.GroupState {
	s := g.machine.Snapshot(now)
	out := api.GroupState{
		Group: s.Group, State: s.State.String(), Reason: s.Reason, AgeMS: s.Age.Milliseconds(),
		Term: s.Term, Seen: s.Seen, Fenced: s.Fenced, Blocked: s.Blocked, Held: g.whyHeld(&s), Demotion: s.Demotion,
		Instances: []api.InstanceState{}, VIPs: []api.VIP{}, WhenSplit: api.SplitContinue,
	}
	if w, ok := e.deps.Terms.(interface{ Trouble() string }); ok {
		out.StateError = w.Trouble()
	}
	switch {
	case g.cfg.Witness:
		out.WhenSplit = api.SplitWitness
	case g.cfg.PreferTraffic:
		out.WhenSplit = api.SplitPreferTraffic
	}
	for _, d := range s.Demotions {
		x := api.Demotion{ID: d.ID, By: d.By, Reason: d.Reason, Hold: api.HoldPersistent}
		if d.Client != 0 {
			x.Hold = api.HoldConnection
		}
		if d.Expires != 0 {
			x.TTLMS = (d.Expires - now).Milliseconds()
		}
		out.Demotions = append(out.Demotions, x)
	}
	for _, c := range e.thread.sessions {
		if c.groups[g] && c.name != "" {
			out.Clients = append(out.Clients, c.name)
		}
	}
	slices.Sort(out.Clients)
	g.describeMoves(&out, &s, now)
	g.repairs.describe(&out, now)
	g.describeBFD(&out, now)
	least := carp.Master
	for i, r := range g.routers {
		rs := s.Routers[i]
		if i == 0 || g.routers[i-1].Instance != r.Instance {
			least = carp.Master
			out.Instances = append(out.Instances, api.InstanceState{
				Name: r.Instance, Interface: r.Device, Virtual: r.Virtual, Protocol: r.Machine.Proto.String(),
				ID: r.Machine.ID,
			})
		}
		inst := &out.Instances[len(out.Instances)-1]
		least = min(least, rs.State)
		inst.State = least.String()
		one := api.RouterState{
			Family: "ipv4", State: rs.State.String(), Expired: rs.Expired, Priority: rs.Priority, AdvBase: rs.Base,
			AdvSkew: rs.Skew,
			DownMS:  rs.Down.Milliseconds(), Source: r.src, Peer: rs.Master,
			Sent: r.tx.Load(), Received: r.rx.Load(), Dropped: r.dropped.Load(), Repaired: r.repaired.Load(),
		}
		if r.six() {
			one.Family = "ipv6"
		}
		one.BadDigests = r.badDigest.Load()
		if r.auth.Checks() {
			one.Trailers = make(map[string]uint64, auth.Verdicts)
			for v := range auth.Verdicts {
				one.Trailers[v.String()] = r.verdicts[v].Load()
			}
		}
		if rs.Heard >= 0 {
			one.HeardMS = rs.Heard.Milliseconds()
		}
		for w, x := range r.refusals {
			if x.count > 0 {
				one.Refusals = append(one.Refusals, api.Refusal{Kind: warning(w).kind(), Peer: x.peer, Count: x.count,
					AgeMS: (now - x.last).Milliseconds(), Text: x.text})
			}
		}
		e.describeClaims(r, &one, &s, now)
		inst.Routers = append(inst.Routers, one)
		for _, a := range r.VIPs {
			out.VIPs = append(out.VIPs, api.VIP{Address: a, Interface: r.Device, Instance: r.Instance})
		}
	}
	return out
}

// Status describes all groups. Safe for concurrent use.
func (e *Engine) Status(ctx context.Context) ([]api.GroupState, error) {
	ch := make(chan []api.GroupState, 1)
	e.post(func(now time.Duration) {
		out := make([]api.GroupState, 0, len(e.groups))
		for _, g := range e.groups {
			out = append(out, e.state(g, now))
		}
		ch <- out
	})
	select {
	case out := <-ch:
		return out, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("ask election for its state: %w", ctx.Err())
	}
}

// Poke makes the engine's thread go around its loop once. Safe for concurrent
// use.
func (e *Engine) Poke() { e.post(e.thread.clock.look) }
