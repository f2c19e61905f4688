package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sasyncd/sync/wire"
)

// A hand-over to one certain standby. The election alone would let the best of
// them win, so the others are asked to hold back for a while: a lease that ends by
// itself, held by their electors. Nothing happens unless all consent.

const (
	// holdBackFor is the lease. It ends early once the result is known.
	holdBackFor = 10 * time.Second
	// consentLimit is how long the members may take to consent.
	consentLimit = 2 * time.Second
	// readyLag is how far a standby may be behind for a planned hand-over.
	readyLag = 5.0
)

// Director is an Elector that can be told who shall be the next master. Its
// methods return at once and call done once, from any goroutine.
type Director interface {
	// HoldBack keeps this node from taking over the group for d, and from
	// preempting whoever takes over meanwhile; 0 ends that.
	HoldBack(group string, d time.Duration, reason string, done func(error))
	// Able tells why the election would not let this node take over now, if it
	// were told to; nil if it would.
	Able(group string, done func(error))
}

// Refusal says why a hand-over was not begun, and what to do.
type Refusal struct{ Peer, Reason, Remedy string }

// Error returns both.
func (r *Refusal) Error() string { return r.Peer + " " + r.Reason + "; " + r.Remedy }

// Directed is a hand-over that all members have consented to.
type Directed struct {
	Group, Peer string
	// Holding are the members that hold back. Who has no session could not be
	// asked.
	Holding []string
}

// ReadyStandby tells whether a standby of a group of which this node is MASTER
// could take over: peer if it is not empty, else any. The error is a *Refusal
// where a standby is the reason.
func (e *Engine) ReadyStandby(ctx context.Context, group, peer string) error {
	var bad error
	if err := e.do(ctx, func() { _, bad = e.successor(group, peer) }); err != nil {
		return err
	}
	return bad
}

// successor returns the member that is to take over.
func (e *Engine) successor(group, peer string) (*member, error) {
	g := e.groups[group]
	if g == nil {
		return nil, fmt.Errorf("no such group: %s", group)
	}
	if g.role != wire.RoleMaster || g.pub == nil {
		return nil, fmt.Errorf("group %s: this node is %s, not MASTER%s", group, g.role, e.masterElsewhere(g))
	}
	if peer != "" {
		m := e.find(peer)
		if m == nil {
			return nil, &Refusal{peer, "is not connected",
				"see `sasyncctl peers`, the log of both nodes, and the link between them"}
		}
		return m, e.fit(g, m)
	}
	var why error
	for _, m := range e.sorted() {
		bad := e.fit(g, m)
		if bad == nil {
			return m, nil
		}
		why = bad
	}
	if why == nil {
		why = &Refusal{"nobody", "is connected", "see `sasyncctl peers`"}
	}
	return nil, why
}

func (e *Engine) masterElsewhere(g *group) string {
	for _, m := range e.sorted() {
		if ms := m.groups[g.name]; ms != nil && ms.state.Role == wire.RoleMaster {
			return ": run this on " + m.session.Peer() + ", which is"
		}
	}
	return ""
}

// fit says why a member is not a standby that could take over, nil if it is.
func (e *Engine) fit(g *group, m *member) error {
	ms := m.groups[g.name]
	no := func(reason, remedy string) error { return &Refusal{m.session.Peer(), reason, remedy} }
	switch {
	case ms == nil:
		return no("does not have group "+g.name, "give it an `interface` of the same name, or choose another node")
	case ms.state.Role != wire.RoleBackup:
		return no("is "+ms.state.Role.String()+", not BACKUP",
			"does carpd run there, and is its interface up? See `carpctl show` there")
	case ms.out == nil:
		return no("does not follow this master", "see `sasyncctl check` there")
	case !ms.out.Complete():
		return no("is still receiving a snapshot", "wait until `sasyncctl status` shows it in sync")
	case !ms.state.InSync:
		return no("is not in sync", "see `sasyncctl check` there")
	}
	if lag := ms.out.Lag(time.Now(), g.pub).Seconds(); lag > readyLag {
		return no(fmt.Sprintf("is %.1f s behind", lag), "see the load of that node and the link to it")
	}
	return nil
}

// Direct prepares a hand-over of a group to one peer: it is asked whether it
// could take over, and all others hold back. After that the next hand-over of
// the group goes to that peer. Call Settle once the result is known.
func (e *Engine) Direct(ctx context.Context, group, peer string) (Directed, error) {
	ctx, cancel := context.WithTimeout(ctx, consentLimit)
	defer cancel()
	d := Directed{Group: group}
	type asked struct {
		name string
		*question
	}
	var all []asked
	var to wire.NodeID
	var bad error
	err := e.do(ctx, func() {
		var m *member
		if m, bad = e.successor(group, peer); bad != nil {
			return
		}
		to, d.Peer = m.hello.Node, m.session.Peer()
		for _, o := range e.sorted() {
			name := o.session.Peer()
			if o.groups[group] == nil {
				continue
			}
			if o.hello.Caps&wire.CapSuccession == 0 {
				if o == m {
					continue // its state says that it is ready
				}
				bad = &Refusal{name, "runs a version that cannot hold back",
					"upgrade it, or leave the choice to the election: `sasyncctl failover " + group + "`"}
				return
			}
			q, err := e.ask(o, func(token uint32) wire.Message {
				return &wire.Succession{Token: token, Group: group, Term: e.groups[group].term, Node: to,
					Hold: holdBackFor}
			})
			if err != nil {
				bad = fmt.Errorf("ask %s: %w", name, err)
				return
			}
			all = append(all, asked{name, q})
		}
	})
	err = errors.Join(err, bad)
	for _, a := range all {
		if err == nil {
			err = consent(ctx, a.name, a.answer)
		}
		a.done()
		if a.name != d.Peer {
			d.Holding = append(d.Holding, a.name)
		}
	}
	if err == nil {
		err = e.do(ctx, func() {
			g := e.groups[group]
			g.leaving.successor, g.leaving.successorTo = to, time.Now().Add(holdBackFor)
		})
	}
	if err != nil && len(all) > 0 {
		e.Settle(ctx, group)
	}
	return d, err
}

// consent waits for a member's answer.
func consent(ctx context.Context, peer string, answer <-chan wire.Message) error {
	select {
	case msg, ok := <-answer:
		c, right := msg.(*wire.Consent)
		switch {
		case !ok:
			return fmt.Errorf("ask %s: %w", peer, ErrPeerGone)
		case !right:
			return fmt.Errorf("%s answered with a %s message", peer, msg.Type())
		case !c.Yes:
			return &Refusal{peer, "refuses: " + c.Reason, c.Remedy}
		}
		return nil
	case <-ctx.Done():
		return &Refusal{peer, "did not answer in time", "see the load of that node and the link to it"}
	}
}

// Settle ends what Direct began: the others may take over again.
func (e *Engine) Settle(ctx context.Context, group string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	_ = e.do(ctx, func() { // fails when the engine has ended; the lease does too
		g := e.groups[group]
		if g == nil {
			return
		}
		g.leaving.successor = wire.NodeID{}
		for _, m := range e.sorted() {
			if m.groups[group] != nil && m.hello.Caps&wire.CapSuccession != 0 {
				e.send(m, &wire.Succession{Group: group, Term: g.term})
			}
		}
	})
}

const settleLimit = time.Second

// directed reports whether a hand-over is to go to somebody else than m.
func (g *group) directed(m *member, now time.Time) bool {
	return !g.leaving.successor.IsZero() && now.Before(g.leaving.successorTo) && m.hello.Node != g.leaving.successor
}

// handleSuccession answers a master that is about to hand over.
func (e *Engine) handleSuccession(ctx context.Context, m *member, msg *wire.Succession) {
	g := e.groups[msg.Group]
	director, can := e.elector.(Director)
	if msg.Hold == 0 {
		if g != nil && can && g.leaving.holdsFor == m.hello.Node {
			g.leaving.holdsFor = wire.NodeID{}
			director.HoldBack(g.name, 0, "", func(error) {})
		}
		return
	}
	say := func(reason, remedy string) {
		e.send(m, &wire.Consent{Token: msg.Token, Yes: reason == "", Reason: reason, Remedy: remedy})
	}
	later := func(remedy string) func(error) {
		return func(err error) {
			_ = e.do(ctx, func() { // fails when the engine has ended
				if e.members[m.session] != m {
					return
				}
				if err != nil {
					say(err.Error(), remedy)
				} else {
					say("", "")
				}
			})
		}
	}
	switch {
	case g == nil:
		say("group "+msg.Group+" is not configured here", "give it an `interface` of the same name")
	case !can:
		say("its election cannot be told who shall win", "leave the choice to the election: failover without `to`")
	case msg.Term < g.term:
		say("a later master is known here", "see `sasyncctl status` on all nodes")
	case msg.Node != e.cfg.Node:
		if g.role == wire.RoleMaster {
			say("it is MASTER too", "the election is split: check the links that carry the advertisements")
			return
		}
		g.leaving.holdsFor = m.hello.Node
		e.log.Info("holding back for another standby", "group", g.name, "for", msg.Hold, "master", m.session.Peer(),
			"successor", msg.Node.String())
		director.HoldBack(g.name, msg.Hold, "hand-over to another standby", later("see `carpctl show` there"))
	case g.role != wire.RoleBackup:
		say("it is "+g.role.String(), "does carpd run there, and is its interface up?")
	case g.source() != m || !g.rcv.Pos().Complete:
		say("it is not complete: "+e.readiness(g, time.Now()).Reason,
			"wait until `sasyncctl status` there shows it in sync")
	default:
		director.Able(g.name, later("see `carpctl show` there, and try again"))
	}
}
