package simulation

import (
	"context"
	"log/slog"
	"net/netip"
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

	static  *static  // with static keys
	foreign *foreign // with an election that is not ours
}

func (n *node) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(n.i + 1)}) }

func (n *node) since() time.Duration { return time.Since(n.s.start) + time.Second }

// sends reports whether packets leave this node from a virtual IP now.
func (n *node) sends() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.fenced && time.Now().Before(n.lease) && (n.foreign == nil || n.foreign.holds())
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
	n.silence()
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
	if n.foreign == nil {
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorLost, Reason: "killed"})
	}
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
	var elect engine.Elector = n
	if n.foreign != nil {
		elect = n.foreign.start(ctx)
	}
	var keys engine.Keying
	if n.static != nil {
		keys = n.static.start(ctx, n)
	}
	features := n.kernel.Features()
	n.engine = engine.New(engine.Config{
		Features: &features,
		Node:     wire.NodeID{byte(n.i + 1)}, Nonce: n.boots, Peers: len(n.s.nodes) - 1,
		Groups: []engine.GroupConfig{{Name: groupName}}, Margin: m,
		Interval: time.Second, Audit: 2 * time.Second, Sweep: true, ForwardFlush: true, Log: n.log, Fence: n.fence,
		Keying: keys, Hints: n.hints,
		Imported: func(sa *sadb.SA) bool { return xfrm.IsOurs(sa.Tag) },
	}, n.tables, n.peers, elect)
	n.stopS, n.doneS = cancel, make(chan struct{})
	e, done := n.engine, n.doneS
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			n.s.t.Errorf("node %d: %v", n.i, err)
		}
	}()
	if n.electing() && n.foreign == nil {
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
