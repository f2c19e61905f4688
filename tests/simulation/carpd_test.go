package simulation

import (
	"context"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// startCarpd starts the election. Like the real one it sets the fence first.
func (n *node) startCarpd() {
	n.mu.Lock()
	n.fenced = n.foreign == nil
	term := n.term
	n.mu.Unlock()
	rc := carp.RouterConfig{Proto: carp.VRRP3, ID: 1, Priority: uint8(200 - 10*n.i), Interval: 250 * time.Millisecond}
	gc := carp.GroupConfig{Name: groupName, Require: []string{"sasyncd"}, AloneAfter: 10 * time.Second,
		PrepareTimeout: 2 * time.Second, PreferTraffic: n.prefer, Routers: []carp.RouterConfig{rc}}
	if n.foreign != nil {
		gc.Require, gc.Preempt, term = nil, carp.PreemptYes, 0
	}
	g := carp.NewGroup(gc, n.since(), term)
	ctx, cancel := context.WithCancel(context.Background())
	elect := make(chan carp.Event, queueLimit)
	n.stopC, n.doneC = cancel, make(chan struct{})
	n.mu.Lock()
	n.elect, n.public, n.demotion, n.unwilling, n.prepared = elect, carp.Init, 0, false, 0
	n.mu.Unlock()
	go n.runCarpd(ctx, g, elect, n.doneC)
	n.tell(carp.Event{Kind: carp.EvUp, Src: n.addr()})
	if n.engine != nil && n.foreign == nil {
		n.join()
	}
}

// join introduces sasyncd to carpd.
func (n *node) join() {
	n.tell(carp.Event{Kind: carp.EvClient, Client: clientID, Name: "sasyncd", Prepare: true})
	n.mu.Lock()
	role, fit := roleOf(n.public), engine.ElectorEvent{Kind: engine.ElectorFitness, Demotion: n.demotion,
		Willing: !n.unwilling}
	n.mu.Unlock()
	n.deliver(fit)
	n.deliver(engine.ElectorEvent{Kind: engine.ElectorState, Role: role, Term: n.term, VIPs: vips,
		Reason: "snapshot", PreferTraffic: n.prefer})
}

func (n *node) tell(ev carp.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.elect == nil {
		return
	}
	select {
	case n.elect <- ev:
	default:
		n.s.t.Errorf("node %d: election queue is full", n.i)
	}
}

func (n *node) runCarpd(ctx context.Context, g *carp.Group, elect <-chan carp.Event, done chan<- struct{}) {
	defer close(done)
	timer := time.NewTimer(0)
	ops := make(chan carp.Action, 16)
	go n.runOps(ctx, ops)
	hears := false // a master
	for {
		timer.Reset(max(0, g.Deadline()-n.since()))
		ev := carp.Event{Kind: carp.EvTick}
		select {
		case <-ctx.Done():
			return
		case ev = <-elect:
		default:
			select {
			case <-ctx.Done():
				return
			case ev = <-elect:
			case <-timer.C:
			}
		}
		for _, a := range slices.Clone(g.Step(n.since(), ev)) {
			n.act(g, a, ops)
		}
		if heard := g.Snapshot(n.since()).Routers[0].Heard; heard >= 0 && heard < 250*time.Millisecond != hears {
			if hears = !hears; hears {
				n.deliver(engine.ElectorEvent{Kind: engine.ElectorHeard})
			}
		}
	}
}

func (n *node) act(g *carp.Group, a carp.Action, ops chan<- carp.Action) {
	switch a.Kind {
	case carp.ActAdvert:
		n.s.advert(n, carp.Advert{From: n.addr(), Priority: a.Priority, Interval: 250 * time.Millisecond})
		n.tell(carp.Event{Kind: carp.EvSent})
		return
	case carp.ActRenew:
		n.mu.Lock()
		n.lease = time.Now().Add(leaseTime)
		n.mu.Unlock()
		n.tell(carp.Event{Kind: carp.EvRenewed, Proof: n.since()})
		return
	}
	if n.foreign != nil {
		n.foreign.acts(a, ops)
		return
	}
	switch a.Kind {
	case carp.ActFence, carp.ActAcquire, carp.ActRelease:
		n.mu.Lock()
		prepared := n.prepared
		n.mu.Unlock()
		if a.Kind == carp.ActAcquire && prepared < a.Term {
			n.s.t.Errorf("I11: seed %d: node %d takes the VIPs in term %d, sasyncd was prepared for %d", n.s.seed, n.i,
				a.Term, prepared)
		}
		ops <- a
	case carp.ActTerm:
		n.mu.Lock()
		n.term = a.Term
		n.mu.Unlock()
	case carp.ActPrepare:
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorPrepare, Group: groupName, To: roleOf(a.To), Term: a.Term,
			Reason: a.Reason})
	case carp.ActFitness:
		n.mu.Lock()
		n.demotion, n.unwilling = int(a.Demotion), a.Unwilling
		n.mu.Unlock()
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorFitness, Demotion: int(a.Demotion), Willing: !a.Unwilling})
	case carp.ActCancel:
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorCancel, Group: groupName, Term: a.Term})
	case carp.ActState:
		n.mu.Lock()
		n.public = a.To
		n.mu.Unlock()
		n.log.Info("carpd", "state", a.To.String(), "term", a.Term, "seen", g.Term(), "reason", a.Reason)
		term := g.Term()
		if a.To == carp.Master {
			term = a.Term
		}
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorState, Group: groupName, Role: roleOf(a.To), Term: term,
			VIPs: vips, Reason: a.Reason, PreferTraffic: n.prefer})
		// As sasyncd's follower of carpd does: a state says who is heard.
		if heard := g.Snapshot(n.since()).Routers[0].Heard; heard >= 0 && heard < 500*time.Millisecond {
			n.deliver(engine.ElectorEvent{Kind: engine.ElectorHeard})
		}
	}
}

// runOps does what carpd does to the kernel, one after the other.
func (n *node) runOps(ctx context.Context, ops <-chan carp.Action) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-ops:
			if a.Kind != carp.ActAcquire {
				n.silence()
			}
			select {
			case <-time.After(addTime):
			case <-ctx.Done():
				return
			}
			if a.Kind == carp.ActAcquire {
				n.mu.Lock()
				n.lease = time.Now().Add(leaseTime)
				n.fenced = n.fenced && n.foreign != nil // whose fence is the tracker's
				n.mu.Unlock()
				if n.foreign != nil {
					n.foreign.hold(true)
				}
			}
			n.tell(carp.Event{Kind: carp.EvDone, Op: a.Op})
		}
	}
}

// silence is how the election gives the virtual addresses away.
func (n *node) silence() {
	if n.foreign != nil {
		n.foreign.hold(false)
		return
	}
	_ = n.fence(context.Background(), nil)
}

func roleOf(s carp.State) wire.Role {
	switch s {
	case carp.Master:
		return wire.RoleMaster
	case carp.Backup:
		return wire.RoleBackup
	}
	return wire.RoleInit
}
