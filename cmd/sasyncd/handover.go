package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// What an order to hand over is judged by, before anything is begun.

const (
	// calmLimit is how long an order waits for a judgement that is not yes to become
	// yes: what the gateways report of each other is about a second old.
	calmLimit = 3 * time.Second
	calmEvery = 500 * time.Millisecond
)

// order is a hand-over that an operator asks for.
type order struct {
	Group string `json:"group"`
	Peer  string `json:"peer"`
	Force bool   `json:"force"` // of failover: whatever the judgement
}

// adviser judges for operators.
type adviser interface {
	// handover judges the hand-over of a group to a peer, or to any for "".
	handover(ctx context.Context, s engine.Status, group, to string) (report.Verdict, []report.Successor)
	// hostOf is the name that a peer reports of itself, "" for none.
	hostOf(s engine.Status, peer string) string
	// examined is what doctor is told.
	examined(ctx context.Context, s engine.Status) report.Doctor
}

// handover implements adviser.
func (f *facts) handover(ctx context.Context, s engine.Status, group, to string) (report.Verdict, []report.Successor) {
	own, peers := f.collect(ctx, s), f.neighbours(s)
	able := []report.Successor{}
	for _, name := range judge.Successors(f.node, own, peers, group, to) {
		able = append(able, report.Successor{Peer: name, Host: f.hostOf(s, name)})
	}
	return report.Judged(judge.Handover(f.node, own, peers, group, to)), able
}

// hostOf implements adviser.
func (f *facts) hostOf(s engine.Status, peer string) string {
	for _, p := range f.neighbours(s) {
		if p.Name == peer && p.Facts != nil {
			return p.Facts.Host
		}
	}
	return ""
}

// plan answers what failover would do.
func (k *control) plan(ctx context.Context, c *daemon.Call) (any, error) {
	var o order
	if err := c.Decode(&o); err != nil {
		return nil, err
	}
	p, err := k.planned(ctx, &o, k.eng.Status)
	return k.names.plan(p), err
}

// planned resolves an order and judges it; its groups have the engine's names. It waits a moment
// for a judgement that is not yes, unless the order is to be carried out all the same.
func (k *control) planned(ctx context.Context, o *order, look func(context.Context) (engine.Status,
	error)) (report.Plan, error) {
	to, err := k.peerNamed(o.Peer)
	if err != nil {
		return report.Plan{}, err
	}
	o.Peer = to
	for began := time.Now(); ; {
		s, err := look(ctx)
		if err != nil {
			return report.Plan{}, err
		}
		if o.Group != "" {
			if o.Group, err = k.names.find(o.Group, groupsOf(s)); err != nil {
				return report.Plan{}, err
			}
		}
		groups, err := k.mastered(s, o.Group)
		if err != nil {
			return report.Plan{}, err
		}
		out := report.Plan{Answer: report.AnswerYes, Handovers: []report.Planned{}}
		for i := range groups {
			p := k.outlook(ctx, s, &groups[i], to)
			out.Answer = worse(out.Answer, p.Check.Answer)
			out.Handovers = append(out.Handovers, p)
		}
		if out.Answer == report.AnswerYes || o.Force || time.Since(began) >= calmLimit {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return report.Plan{}, ctx.Err()
		case <-time.After(calmEvery):
		}
	}
}

// groupsOf returns the names of the groups in a status.
func groupsOf(s engine.Status) []string {
	var out []string
	for i := range s.Groups {
		out = append(out, s.Groups[i].Name)
	}
	return out
}

// worse returns the worse of two answers.
func worse(a, b string) string {
	for _, x := range []string{report.AnswerNo, report.AnswerUnknown} {
		if a == x || b == x {
			return x
		}
	}
	return report.AnswerYes
}

// mastered returns the groups of which this gateway is MASTER: the one that is named,
// or all. The error says where else to go.
func (k *control) mastered(s engine.Status, name string) (out []engine.GroupStatus, err error) {
	found := false
	for _, g := range s.Groups {
		if name != "" && g.Name != name {
			continue
		}
		found = true
		if g.Role == "MASTER" {
			out = append(out, g)
		}
	}
	switch {
	case !found && name != "":
		return nil, fmt.Errorf("no such group: %s", name)
	case len(out) == 0:
		return nil, errors.New(k.elsewhere(s, name))
	}
	return out, nil
}

// elsewhere says that this gateway is not MASTER, and on which one to run failover.
func (k *control) elsewhere(s engine.Status, name string) string {
	var list []string
	for _, g := range s.Groups {
		if name != "" && g.Name != name {
			continue
		}
		for _, p := range g.Peers {
			if p.Role == "MASTER" {
				list = append(list, fmt.Sprintf("on %s, the MASTER of %s", k.called(s, p.Peer),
					cmp.Or(k.names.shown(g.Name), "all")))
			}
		}
	}
	if len(list) == 0 {
		return "this gateway is not MASTER, and no connected peer is\n  remedy: see `sasyncctl check`"
	}
	return "this gateway is not MASTER\n  remedy: run `sasyncctl failover` " + strings.Join(list, ", or ")
}

// called names a peer for people, by its host's name where it has told that.
func (k *control) called(s engine.Status, peer string) string {
	if host := k.advise.hostOf(s, peer); host != "" && host != peer {
		return host + " (" + peer + ")"
	}
	return peer
}

// outlook says what a hand-over of one group would do.
func (k *control) outlook(ctx context.Context, s engine.Status, g *engine.GroupStatus, to string) report.Planned {
	p := report.Planned{Group: g.Name, HoldBack: []string{}}
	p.Check, p.To = k.advise.handover(ctx, s, g.Name, to)
	if f := g.LastFailover; f != nil && f.Planned && f.From != f.To {
		p.Gap, p.GapAt = &f.GapSeconds, &f.At
	}
	if d := g.Keying.Driver; d != "static" && d != "strongswan-ha" {
		p.Negotiates = g.Keying.Wanted
	}
	if to == "" {
		return p
	}
	for _, x := range g.Peers {
		if x.Peer != to {
			p.HoldBack = append(p.HoldBack, x.Peer)
		}
	}
	for _, x := range others(k.peers.Status(), k.own()) {
		if x.Session == nil {
			p.Unasked++
		}
	}
	return p
}

// refused says why an order is not begun, nil if nothing is against it.
func refused(p report.Plan) error {
	if p.Answer == report.AnswerYes {
		return nil
	}
	var b strings.Builder
	summary := "a failover would not work"
	if p.Answer == report.AnswerUnknown {
		summary = "cannot tell whether a failover would work"
	}
	b.WriteString(summary + ", nothing was begun")
	for _, h := range p.Handovers {
		for _, r := range h.Check.Reasons {
			b.WriteString("\n  " + r.Where() + r.What + "\n    remedy: " + r.Remedy)
		}
	}
	b.WriteString("\n`sasyncctl failover -f` hands over all the same, if a standby is complete")
	return errors.New(b.String())
}
