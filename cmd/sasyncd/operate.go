package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// What an operator orders and then watches.

const (
	failoverLimit = 5 * time.Second
	resyncLimit   = 10 * time.Minute // without any progress: resyncStill
	resyncStill   = 20 * time.Second
	lookEvery     = 5 * time.Millisecond
	tellEvery     = 500 * time.Millisecond
)

// step tells a line of progress.
func step[T any](c *daemon.Call, group, format string, args ...any) {
	// a client that is gone does not stop what it began
	_ = c.Send(report.Line[T]{Step: &report.Step{Group: group, Text: fmt.Sprintf(format, args...)}})
}

// failover hands over one group or all of which this node is MASTER, to a certain
// peer or to whom the election chooses, and watches. It is refused for what check
// would say, unless it is forced.
func (k *control) failover(ctx context.Context, c *daemon.Call) error {
	var o order
	if err := c.Decode(&o); err != nil {
		return err
	}
	plan, err := k.planned(ctx, &o, k.eng.Status)
	if err != nil {
		return err
	}
	if err := refused(k.names.plan(plan)); err != nil && !o.Force {
		return err
	}
	// What has begun ends even if the client goes: leases of others depend on it.
	ctx = context.WithoutCancel(ctx)
	res := report.Failover{Handovers: []report.Handover{}}
	for _, p := range plan.Handovers {
		h, err := k.handOver(ctx, c, p.Group, o.Peer)
		if err != nil {
			return refusal(err)
		}
		res.Handovers = append(res.Handovers, h)
	}
	return c.Send(report.Line[report.Failover]{Result: &res})
}

// handOver moves one group. An error means that nothing was begun.
func (k *control) handOver(ctx context.Context, c *daemon.Call, group, to string) (report.Handover, error) {
	tell := func(format string, args ...any) { step[report.Failover](c, k.names.shown(group), format, args...) }
	h := report.Handover{Group: k.names.shown(group), Holding: []string{}}
	if err := k.eng.ReadyStandby(ctx, group, to); err != nil {
		return h, err
	}
	if to != "" {
		tell("asking the others to hold back for %s", to)
		d, err := k.eng.Direct(ctx, group, to)
		if err != nil {
			return h, err
		}
		defer k.eng.Settle(ctx, group)
		h.Holding = append(h.Holding, d.Holding...)
		for _, p := range k.known() {
			if !p.Connected {
				h.Unasked++
				tell("%s is not connected and could not be asked to hold back", p.Name)
			}
		}
	}
	tell("fence, final counters, hand-over")
	began := time.Now()
	if err := k.elector.HandOver(ctx, group); err != nil {
		return h, err
	}
	g, err := k.outcome(ctx, group, began)
	if err != nil {
		return h, err
	}
	h.Took = time.Since(began).Seconds()
	if f := g.LastFailover; f != nil && f.At.After(began) {
		h.To, h.Gap = f.To, f.GapSeconds
	}
	switch {
	case h.To == "":
		h.Error = fmt.Sprintf("nobody has said within %v that it is MASTER; this node is %s: %s", failoverLimit, g.Role,
			g.Reason)
	case h.To == "this node":
		h.Error = "no other node took over, and this one is MASTER again"
	case to != "" && h.To != to:
		h.Error = fmt.Sprintf("%s took over, not %s", h.To, to)
	default:
		h.OK = true
	}
	if h.OK {
		tell("%s is MASTER, gap %.0f ms", h.To, 1000*h.Gap)
	} else {
		tell("%s", h.Error)
	}
	return h, nil
}

// outcome waits until another node is master and this one knows that it is not,
// or the limit has passed.
func (k *control) outcome(ctx context.Context, group string, began time.Time) (g engine.GroupStatus, err error) {
	for {
		s, err := k.eng.Glance(ctx)
		if err != nil {
			return g, err
		}
		i := slices.IndexFunc(s.Groups, func(g engine.GroupStatus) bool { return g.Name == group })
		if i < 0 {
			return g, errors.New("the group has gone")
		}
		g = s.Groups[i]
		if f := g.LastFailover; f != nil && f.At.After(began) && (f.To == "this node" || g.Role != "MASTER") ||
			time.Since(began) > failoverLimit {
			return g, nil
		}
		time.Sleep(lookEvery)
	}
}

// resync fetches or sends whole snapshots anew and watches them arrive.
func (k *control) resync(ctx context.Context, c *daemon.Call) error {
	var args peerArg
	if err := c.Decode(&args); err != nil {
		return err
	}
	name, err := k.peerNamed(args.Peer)
	if err != nil {
		return err
	}
	list, err := k.eng.Resync(ctx, name)
	if err != nil {
		return err
	}
	began := time.Now()
	res := report.Resync{Transfers: []report.Transfer{}}
	for _, t := range list {
		res.Transfers = append(res.Transfers, report.Transfer{Transfer: t})
	}
	moved, told := began, time.Time{}
	for left := len(list); left > 0; {
		s, err := k.eng.Glance(ctx)
		if err != nil {
			return err
		}
		tell := time.Since(told) >= tellEvery
		left = 0
		for i := range res.Transfers {
			t := &res.Transfers[i]
			if t.Complete {
				continue
			}
			p, items, gone := progress(s, t.Transfer)
			switch {
			case gone:
				return fmt.Errorf("group %s: %s is no longer there", k.names.shown(t.Group), t.Peer)
			case p == nil:
				t.Complete, t.Records, t.Seconds = true, items, time.Since(began).Seconds()
				step[report.Resync](c, k.names.shown(t.Group), "complete after %.1f s, %d SAs and policies", t.Seconds,
					items)
				continue
			case p.Done != t.Records:
				t.Records, moved = p.Done, time.Now()
			}
			left++
			if tell {
				told = time.Now()
				way := "from"
				if t.Push {
					way = "to"
				}
				step[report.Resync](c, k.names.shown(t.Group), "%s %s: %d of %d", way, t.Peer, p.Done, p.Of)
			}
		}
		if time.Since(moved) > resyncStill || time.Since(began) > resyncLimit {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	for i := range res.Transfers {
		res.Transfers[i].Group = k.names.shown(res.Transfers[i].Group)
	}
	return c.Send(report.Line[report.Resync]{Result: &res})
}

// progress tells how far a transfer has come, nil when it is complete, and how
// many items there are then.
func progress(s engine.Status, t engine.Transfer) (p *engine.Progress, items uint64, gone bool) {
	for _, g := range s.Groups {
		if g.Name != t.Group {
			continue
		}
		items = uint64(g.SAs + g.Policies)
		switch {
		case !t.Push && g.Following != t.Peer:
			return nil, 0, true
		case !t.Push && g.Complete:
			return nil, items, false
		case !t.Push && g.Snapshot != nil:
			return g.Snapshot, 0, false
		case !t.Push:
			return &engine.Progress{Peer: t.Peer}, 0, false
		}
		for _, st := range g.Standbys {
			if st.Peer == t.Peer {
				return st.Snapshot, items, false
			}
		}
	}
	return nil, 0, true
}
