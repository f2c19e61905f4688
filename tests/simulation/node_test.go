package simulation

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/carp"
	"sasyncd/kernel/kerneltest"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/engine"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

const (
	groupName = "carp1"
	clientID  = 1
	addTime   = 3 * time.Millisecond // VIPs and fence, in a real kernel
	leaseTime = 2 * time.Second
	// margin is what two seconds of the traffic need, so that a standby that does
	// not take the counters of an SA is behind it soon.
	margin     = 100
	queueLimit = 4096
)

var vips = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// node is one gateway. Its mutex guards what the model of its kernel's network
// side shows to the traffic.
type node struct {
	s   *sim
	i   int
	log *slog.Logger

	kernel *kerneltest.Kernel // as sasyncd writes it
	tables *tables            // as it reads it
	ike    *kerneltest.Kernel // as the IKE daemon sees it

	mu     sync.Mutex
	fenced bool
	lease  time.Time
	term   uint64 // survives a restart of carpd
	// prepared is the highest term for which sasyncd has said that it is.
	prepared uint64

	elect  chan carp.Event
	stopC  context.CancelFunc
	doneC  chan struct{}
	engine *engine.Engine
	events chan engine.ElectorEvent
	// What sasyncd was told last, and whether it was a standby before it became
	// MASTER.
	role      wire.Role
	inherited bool
	peers     *peers
	stopS     context.CancelFunc
	doneS     chan struct{}
	boots     uint64
	public    carp.State
	demotion  int // as carpd has told
	unwilling bool
	// inSync is what sasyncd has told the election since its last change of role,
	// sent the last numbers that left, since sasyncd started.
	inSync bool
	sent   map[sadb.SAKey]uint64

	prefer bool // when-split prefer-traffic
	// seen are the hints of a history that has any.
	seen atomic.Pointer[sighting]

	static *static // with static keys
}

func (n *node) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(n.i + 1)}) }

func (n *node) since() time.Duration { return time.Since(n.s.start) + time.Second }

// sends reports whether packets leave this node from a virtual IP now.
func (n *node) sends() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.fenced && time.Now().Before(n.lease)
}

// startCarpd starts the election. Like the real one it sets the fence first.
func (n *node) startCarpd() {
	n.mu.Lock()
	n.fenced = true
	term := n.term
	n.mu.Unlock()
	rc := carp.RouterConfig{Proto: carp.VRRP3, ID: 1, Priority: uint8(200 - 10*n.i), Interval: 250 * time.Millisecond}
	g := carp.NewGroup(carp.GroupConfig{Name: groupName, Require: []string{"sasyncd"}, AloneAfter: 10 * time.Second,
		PrepareTimeout: 2 * time.Second, PreferTraffic: n.prefer, Routers: []carp.RouterConfig{rc}}, n.since(), term)
	ctx, cancel := context.WithCancel(context.Background())
	elect := make(chan carp.Event, queueLimit)
	n.stopC, n.doneC = cancel, make(chan struct{})
	n.mu.Lock()
	n.elect, n.public, n.demotion, n.unwilling, n.prepared = elect, carp.Init, 0, false, 0
	n.mu.Unlock()
	go n.runCarpd(ctx, g, elect, n.doneC)
	n.tell(carp.Event{Kind: carp.EvUp, Src: n.addr()})
	if n.engine != nil {
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
	case carp.ActFence, carp.ActAcquire, carp.ActRelease:
		n.mu.Lock()
		prepared := n.prepared
		n.mu.Unlock()
		if a.Kind == carp.ActAcquire && prepared < a.Term {
			n.s.t.Errorf("I11: seed %d: node %d takes the VIPs in term %d, sasyncd was prepared for %d", n.s.seed, n.i,
				a.Term, prepared)
		}
		ops <- a
	case carp.ActRenew:
		n.mu.Lock()
		n.lease = time.Now().Add(leaseTime)
		n.mu.Unlock()
		n.tell(carp.Event{Kind: carp.EvRenewed, Proof: n.since()})
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
				n.mu.Lock()
				n.fenced = true
				n.mu.Unlock()
			}
			select {
			case <-time.After(addTime):
			case <-ctx.Done():
				return
			}
			if a.Kind == carp.ActAcquire {
				n.mu.Lock()
				n.fenced, n.lease = false, time.Now().Add(leaseTime)
				n.mu.Unlock()
			}
			n.tell(carp.Event{Kind: carp.EvDone, Op: a.Op})
		}
	}
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

// fence is sasyncd's part of keeping a node silent.
func (n *node) fence(context.Context, []netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fenced = true
	return nil
}

// powerCut ends both daemons and all sending. The tables stay, as if the
// node's links had been cut at the same moment.
func (n *node) powerCut() {
	_ = n.fence(context.Background(), nil)
	n.killCarpd()
	n.killSasyncd()
}

// killCarpd is SIGKILL: fence and VIPs stay as they are, the lease runs out.
func (n *node) killCarpd() {
	if !n.electing() {
		return
	}
	n.stopC()
	<-n.doneC
	n.mu.Lock()
	n.elect = nil
	n.mu.Unlock()
	n.deliver(engine.ElectorEvent{Kind: engine.ElectorLost, Reason: "killed"})
}

func (n *node) electing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.elect != nil
}

// startSasyncd starts the engine.
func (n *node) startSasyncd() {
	n.boots++
	n.mu.Lock()
	n.events, n.role = make(chan engine.ElectorEvent, queueLimit), wire.RoleInit
	n.mu.Unlock()
	n.peers = &peers{events: make(chan engine.PeerEvent, queueLimit)}
	m := sadb.DefaultMargin()
	m.ESN, m.Legacy = margin, margin
	ctx, cancel := context.WithCancel(context.Background())
	var keys engine.Keying
	if n.static != nil {
		keys = n.static.start(ctx, n)
	}
	n.engine = engine.New(engine.Config{
		Node: wire.NodeID{byte(n.i + 1)}, Nonce: n.boots, Peers: len(n.s.nodes) - 1,
		Groups: []engine.GroupConfig{{Name: groupName}}, Margin: m,
		Interval: time.Second, Audit: 2 * time.Second, Sweep: true, ForwardFlush: true, Log: n.log, Fence: n.fence,
		Keying: keys, Hints: n.hints,
		Imported: func(sa *sadb.SA) bool { return xfrm.IsOurs(sa.Tag) },
	}, n.tables, n.peers, n)
	n.stopS, n.doneS = cancel, make(chan struct{})
	e, done := n.engine, n.doneS
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			n.s.t.Errorf("node %d: %v", n.i, err)
		}
	}()
	if n.electing() {
		n.join()
	}
}

// killSasyncd ends the engine; its sessions break.
func (n *node) killSasyncd() {
	if n.engine == nil {
		return
	}
	// Before its connections end: what dies does not notice, and tells carpd nothing.
	n.stopS()
	<-n.doneS
	n.s.cutAll(n.i)
	n.engine = nil
	n.mu.Lock()
	n.events, n.inSync = nil, false
	clear(n.sent)
	n.mu.Unlock()
	n.tell(carp.Event{Kind: carp.EvGone, Client: clientID})
}

func (n *node) deliver(ev engine.ElectorEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.events == nil {
		return
	}
	ev.Group = groupName
	if ev.Kind == engine.ElectorState {
		if ev.Role == wire.RoleMaster && n.role != wire.RoleMaster {
			n.s.masterships++
			n.inherited = n.role == wire.RoleBackup
		}
		n.inSync = n.inSync && n.role == ev.Role
		n.role = ev.Role
	}
	select {
	case n.events <- ev:
	default:
		n.s.t.Errorf("node %d: sasyncd does not read the election's events", n.i)
	}
}

// Events, Prepared, Ready, Takeover and Resign are the engine's elector.
func (n *node) Events() <-chan engine.ElectorEvent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.events
}
func (n *node) Prepared(_ string, term uint64) {
	n.mu.Lock()
	n.prepared = max(n.prepared, term)
	n.mu.Unlock()
	n.tell(carp.Event{Kind: carp.EvPrepared, Client: clientID, Term: term})
}
func (n *node) Ready(_ string, r engine.Readiness) {
	n.mu.Lock()
	n.inSync = r.InSync
	n.mu.Unlock()
	n.tell(carp.Event{Kind: carp.EvReady, Client: clientID, Term: r.Term,
		Ready: carp.Ready{InSync: r.InSync, Ahead: r.Behind, PeerReady: r.PeerReady, Traffic: r.Traffic,
			Loading:  r.Loading,
			PeerTold: r.PeerTold, PeerDemotion: r.PeerDemotion, WillingDemotion: r.WillingDemotion}})
}
func (n *node) Takeover(_ string, term uint64, _ time.Duration) {
	n.mu.Lock()
	n.prepared = max(n.prepared, term+1) // who orders it is
	n.mu.Unlock()
	n.tell(carp.Event{Kind: carp.EvTakeover, Client: clientID, Term: term})
}
func (n *node) Resign(_, why string) {
	n.tell(carp.Event{Kind: carp.EvResign, Reason: why, Hold: 5 * time.Second})
}

func (n *node) status() engine.GroupStatus {
	if n.engine == nil {
		return engine.GroupStatus{}
	}
	st, err := n.engine.Status(context.Background())
	if err != nil {
		n.s.t.Fatal(err)
	}
	return st.Groups[0]
}
