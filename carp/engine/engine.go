package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/auth"
	"sasyncd/carp/claims"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
)

const (
	threadPriority = 50
	workerPriority = 40
	// drainLimit bounds the packets read at once from one interface, so that a
	// flood cannot keep the timers from being looked at.
	drainLimit = 1024
)

// Deps are the parts that the engine drives. All are used from one goroutine
// each, except Log.
type Deps struct {
	Fence     Fence
	Addresses Addresses
	Announcer Announcer
	NextHops  NextHops
	Terms     Terms
	Freezer   Freezer // nil: a restart is never without a change
	Marks     Marks   // nil: forgotten at a restart
	Filter    Filter  // nil: every address accepts packets
	Hold      Hold    // nil: forwarding goes on, policies or not
	Log       *slog.Logger
}

// Engine elects. It is an api.Handler; Run does the work.
type Engine struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	groups  []*group
	routers []*router
	ports   []*port
	vips    atomic.Pointer[map[netip.Addr]bool]     // replaced, never changed
	unicast atomic.Pointer[map[string][]netip.Addr] // members by interface, so too
	again   atomic.Bool                             // the interfaces are to be looked at

	holding    holding    // see there
	interfaces interfaces // rtnetlink, but in tests

	// fenced are the groups that are to be fenced: of the worker, and before it
	// runs of who starts it.
	fenced map[*group]bool

	work  *queue[task]   // to the worker
	hops  *queue[[]int]  // interfaces whose next hops are to be kept
	out   *queue[output] // to clients and log
	terms *queue[termOf] // to the disk
	marks *markBook      // so too

	claimed claims.Book // who answers for the addresses
	asked   atomic.Pointer[[]claims.Target]

	// The engine's thread takes mu and never pollMu. Nobody may hold mu while he
	// wakes that thread: it would run at once, and then wait for somebody who has
	// no priority.
	mu     sync.Mutex
	calls  []func(now time.Duration)
	pollMu sync.RWMutex
	poll   *poller // nil while not running

	// Of the thread.
	sent     []sentAdvert
	stopped  int
	sessions map[uint64]*session
	requests map[uint64]request
	leasing  bool
	lastReq  uint64
	clock    clock
	lines    bucket // for what the network makes us write to the log
	frame    packet.Frame
	vrrp     packet.VRRP
	sendMsg  packet.VRRP
	carp     packet.CARP
	carpOut  packet.CARP
	trailer  [packet.TrailerLen]byte
	body     [16 << 10]byte
	rx       [16 << 10]byte
	tx       [16 << 10]byte

	server atomic.Pointer[api.Server]
	load   func() (Config, error)
	reload sync.Mutex
	beat   func()
	// workBeat is called by the worker.
	workBeat func()
	ready    chan struct{}
	done     chan struct{}
}

// group is a group and what belongs to it.
type group struct {
	machine *carp.Group
	name    string           // never changes, so the worker may read it too
	cfg     carp.GroupConfig // a reload replaces it
	index   int
	routers []*router
	lease   time.Duration
	latest  atomic.Uint64 // operation that was ordered

	frozenTo time.Duration // while MASTER: a restart is announced, 0 none
	adopt    uint64        // at the start: the term that was left behind
	held     bool          // nothing is forwarded from its interfaces

	contests [2]pace                                  // what was said of their beginning, and of their end
	moves    [carp.Master + 1][carp.Master + 1]uint64 // changes of state, from and to
	takeover takeover
	ended    time.Duration // when its latest mastership ended, 0 none
	silent   time.Duration // since when the master that hands over to this node has been fenced, 0 not known
	repairs  repairs
}

// router is a virtual router and what belongs to it.
type router struct {
	Router
	group     *group
	index     int // in the group
	port      *port
	up        bool
	src       netip.Addr
	multicast source // in use without Peers
	paths     []path // in use with Peers, one for each
	id        uint16 // of IPv4 packets
	checksum  packet.Checksum
	// advertised is how many of the addresses are in an advertisement.
	advertised int
	fitTold    int           // for how many the log knows it
	old        *Router       // settings before a reload, until the new ones are heard
	heard      heard         // other masters
	master     netip.Addr    // the latest of them
	masterAt   time.Duration // since when
	refusals   [warnings]refusal

	auth *auth.Auth
	carp *carpWire // CARP only

	tx, rx, dropped, repaired atomic.Uint64
	badDigest                 atomic.Uint64 // CARP
	verdicts                  [auth.Verdicts]atomic.Uint64
}

type sentAdvert struct {
	r   *router
	err error
}

type termOf struct {
	group string
	term  uint64
}

// New makes an engine. It changes nothing yet.
func New(cfg Config, deps Deps) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("check configuration of engine: %w", err)
	}
	e := &Engine{
		cfg: cfg, deps: deps, log: deps.Log,
		work: newQueue[task](), hops: newQueue[[]int](), out: newQueue[output](), terms: newQueue[termOf](), marks: newMarkBook(),
		holding:    holding{groups: make(map[*group][]string), free: make(map[string]bool)},
		fenced:     make(map[*group]bool),
		interfaces: rtnetlink{},
		sessions:   make(map[uint64]*session), requests: make(map[uint64]request),
		beat: func() {}, workBeat: func() {},
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	vips := make(map[netip.Addr]bool)
	e.vips.Store(&vips)
	for i, gc := range cfg.Groups {
		g := &group{index: i, name: gc.Name, cfg: gc, lease: carp.RouterConfig{}.Lease()}
		g.cfg.Routers = nil
		for _, rc := range cfg.Routers {
			if rc.Group != gc.Name {
				continue
			}
			r := &router{Router: rc, group: g, index: len(g.routers), port: e.port(rc.Device)}
			r.auth = auth.New(rc.Trailer)
			r.advertised = rc.fit(ethernetMTU)
			if rc.Machine.Proto == carp.CARP {
				r.carp = newCARPWire(&rc)
			}
			if rc.Checksum == ChecksumMessage {
				r.checksum = packet.ChecksumMessage
			}
			family := 0
			if rc.six() {
				family = 1
				r.port.unicast6 = r.port.unicast6 || len(rc.Peers) > 0
			} else {
				r.port.unicast4 = r.port.unicast4 || len(rc.Peers) > 0
			}
			r.port.table[family][rc.Machine.ID] = int16(len(e.routers))
			g.lease = max(g.lease, rc.Machine.Lease())
			g.cfg.Routers = append(g.cfg.Routers, rc.Machine)
			g.routers = append(g.routers, r)
			e.routers = append(e.routers, r)
			for _, a := range rc.VIPs {
				vips[a] = true
			}
		}
		e.groups = append(e.groups, g)
	}
	e.unicast.Store(peersByDevice(e.routers))
	e.aim()
	return e, nil
}

func (e *Engine) port(device string) *port {
	for _, p := range e.ports {
		if p.device == device {
			return p
		}
	}
	p := newPort(device)
	e.ports = append(e.ports, p)
	return p
}

// Attach names the server that events and replies go to, before Run.
func (e *Engine) Attach(s *api.Server) { e.server.Store(s) }

// OnBeat sets a function that is called each time around the loop, before Run.
// It must not block.
func (e *Engine) OnBeat(f func()) { e.beat = f }

// OnWork sets a function that is called whenever what changes the kernel has done
// something, and at least each second while it waits for work, before Run. It must
// not block.
func (e *Engine) OnWork(f func()) { e.workBeat = f }

// Ready is closed when the fence is set and the engine listens.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// String names the task.
func (e *Engine) String() string { return "election" }

// Run elects until ctx ends, or until Stop has ended it in an orderly way.
// Without Stop, addresses and roles are left as they are: the leases end them.
func (e *Engine) Run(ctx context.Context) error {
	// Before anything else: silence. A node that has just started is nobody's
	// master, whatever an earlier life left behind by accident.
	if err := e.silence(e.inherit(bootTime())); err != nil {
		return err
	}
	if err := e.refuseAccess(e.cfg.refused()); err != nil {
		return err
	}
	if err := e.leaseAtStart(); err != nil {
		return err
	}
	poll, err := newPoller()
	if err != nil {
		return err
	}
	e.setPoller(poll)
	end := ctx.Done()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		e.setPoller(nil)
		poll.close()
	}()
	watcher, err := newWatcher(e)
	if err != nil {
		return err
	}
	wg.Go(func() { e.runWorker(ctx) })
	wg.Go(func() { e.runHops(ctx) })
	wg.Go(func() { e.pump(ctx) })
	wg.Go(func() { e.writeTerms(ctx) })
	wg.Go(func() { e.writeMarks(ctx) })
	wg.Go(func() { watcher.run(ctx) })
	wg.Go(func() { e.watchClaims().Run(ctx) })
	defer context.AfterFunc(ctx, poll.wake)()

	result := make(chan error, 1)
	wg.Go(func() {
		// Never unlocked: the thread ends with its priority.
		runtime.LockOSThread()
		result <- e.loop(ctx, poll)
	})
	err = <-result
	close(e.done)
	if err == nil {
		<-end // after Stop: clients may still ask
	}
	return err
}

func (e *Engine) setPoller(p *poller) {
	e.pollMu.Lock()
	defer e.pollMu.Unlock()
	e.poll = p
}

// silence sets the fence and the hold and takes off what an earlier life left, of
// some groups. What that life had sent and the kernel still holds is beyond the
// fence, so it is dropped.
func (e *Engine) silence(groups []*group) error {
	var all []netip.Addr
	for _, g := range groups {
		all = append(all, g.vips()...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	if err := e.deps.Fence.Set(all...); err != nil {
		return fmt.Errorf("fence addresses before start: %w", err)
	}
	for _, g := range groups {
		e.fenced[g] = true
	}
	if err := e.hold(groups); err != nil {
		return err
	}
	for _, g := range groups {
		if err := e.deps.Addresses.Release(e.leftovers(g)); err != nil {
			return fmt.Errorf("remove addresses before start: %w", err)
		}
	}
	if e.deps.NextHops == nil {
		return nil
	}
	var indexes []int
	for _, g := range groups {
		for _, a := range e.leftovers(g) {
			if !slices.Contains(indexes, a.Index) {
				indexes = append(indexes, a.Index)
			}
		}
	}
	if err := e.deps.NextHops.Purge(indexes); err != nil {
		e.say(slog.LevelWarn, "packets of an earlier life may still be sent", "err", err)
	}
	return nil
}

// leftovers returns the addresses of a group on the interfaces that exist now.
func (e *Engine) leftovers(g *group) []vip.Address {
	var out []vip.Address
	for _, r := range g.routers {
		st, err := e.interfaces.link(r.Device)
		if err != nil {
			continue // no interface, no address on it
		}
		for _, a := range r.VIPs {
			out = append(out, r.address(a, st.index, st.mac))
		}
	}
	return out
}

// addresses returns the addresses of a group as the kernel wants them.
// Interfaces that are not there are left out. It runs in the engine's thread.
func (g *group) addresses() []vip.Address {
	var out []vip.Address
	for _, r := range g.routers {
		if r.port.index == 0 {
			continue
		}
		for _, a := range r.VIPs {
			out = append(out, r.address(a, r.port.index, r.port.mac))
		}
	}
	return out
}

// address describes a virtual address on an interface with the given MAC.
func (r *router) address(ip netip.Addr, index int, mac packet.MAC) vip.Address {
	if !r.Virtual {
		return vip.Address{IP: ip, Index: index, MAC: mac, Owner: r.owner()}
	}
	return vip.Address{IP: ip, Index: index, MAC: r.virtualMAC(), Virtual: true}
}

// loop is the engine's thread.
func (e *Engine) loop(ctx context.Context, poll *poller) error {
	if err := realtime(threadPriority); err != nil {
		e.say(slog.LevelWarn, "no real-time priority: a busy machine may delay advertisements; intervals below 100ms are not safe", "err", err)
	}
	defer func() {
		for _, p := range e.ports {
			p.close()
		}
	}()
	now := bootTime()
	for _, g := range e.groups {
		g.machine = carp.NewGroup(g.cfg, now, e.deps.Terms.Term(g.name))
	}
	e.resumeMarks()
	e.link()
	if err := e.resume(ctx, poll); err != nil {
		return err
	}
	close(e.ready)
	for {
		at := carp.Never
		for _, g := range e.groups {
			at = min(at, g.machine.Deadline())
		}
		if err := poll.wait(at); err != nil {
			return err
		}
		e.beat()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// What has arrived comes first: after a stall the master's
		// advertisements are waiting here, and a deadline judged before them
		// would make every stalled backup a master.
		e.receive(bootTime())
		e.runCalls(bootTime())
		now := bootTime()
		e.thawExpired(now)
		for _, g := range e.groups {
			if now >= g.machine.Deadline() {
				e.step(g, now, carp.Event{Kind: carp.EvTick})
			}
		}
		if e.stopped == len(e.groups) {
			return nil
		}
	}
}

// post runs f in the engine's thread, in order. Safe for concurrent use.
func (e *Engine) post(f func(now time.Duration)) {
	e.pollMu.RLock()
	defer e.pollMu.RUnlock()
	if e.poll == nil {
		return // nobody there; the caller's context will end
	}
	e.mu.Lock()
	e.calls = append(e.calls, f)
	e.mu.Unlock()
	e.poll.wake()
}

func (e *Engine) runCalls(now time.Duration) {
	e.mu.Lock()
	calls := e.calls
	e.calls = nil
	e.mu.Unlock()
	for _, f := range calls {
		f(now)
	}
}

// step gives an event to a group and carries out the actions.
func (e *Engine) step(g *group, now time.Duration, ev carp.Event) {
	e.carryOut(g, now, g.machine.Step(now, ev))
}

// carryOut does what a machine wants done.
func (e *Engine) carryOut(g *group, now time.Duration, acts []carp.Action) {
	for _, a := range acts {
		e.do(g, now, a)
	}
	// What was sent is an event in turn; it waits until here, because the
	// actions of a step are only valid until the next.
	for len(e.sent) > 0 {
		s := e.sent[len(e.sent)-1]
		e.sent = e.sent[:len(e.sent)-1]
		for _, a := range s.r.group.machine.Step(now, carp.Event{Kind: carp.EvSent, Router: s.r.index, Err: s.err}) {
			e.do(s.r.group, now, a)
		}
	}
}

// do carries out an action.
func (e *Engine) do(g *group, now time.Duration, a carp.Action) {
	switch a.Kind {
	case carp.ActAdvert:
		r := g.routers[a.Router]
		e.sent = append(e.sent, sentAdvert{r, e.send(r, a)})
	case carp.ActFence, carp.ActRelease:
		e.thaw(g)
		e.order(g, a)
	case carp.ActAcquire, carp.ActRenew, carp.ActAnnounce:
		e.order(g, a)
	case carp.ActTerm:
		e.terms.put(termOf{g.name, a.Term})
	case carp.ActReply:
		e.answer(a.Request, a.Err)
	case carp.ActStopped:
		e.stopped++
	default:
		e.tell(g, now, a)
	}
}

// Stop ends the engine in an orderly way: where it is master and a client takes
// part, by a hand-over. It returns when Run has, or with ctx.
func (e *Engine) Stop(ctx context.Context) error {
	select {
	case <-e.ready:
	default:
		return nil // nothing was taken yet
	}
	e.post(func(now time.Duration) {
		for _, g := range e.groups {
			if e.frozen(g, now) {
				e.stopped++ // as it is, for the next process
				continue
			}
			e.step(g, now, carp.Event{Kind: carp.EvStop})
		}
	})
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop election: %w", ctx.Err())
	}
}

// Cleanup sets the fence and removes the addresses, for a node whose engine is
// gone, or has not begun. What was left behind on purpose is left alone, as long
// as it may stay.
func Cleanup(cfg Config, deps Deps) error {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	e, err := New(cfg, deps)
	if err != nil {
		return err
	}
	defer e.flush(context.Background())
	rest := e.inherit(bootTime())
	if err := e.silence(rest); err != nil || len(rest) < len(e.groups) {
		return err
	}
	return errors.Join(e.refuseAccess(nil), e.lease(nil))
}

func (e *Engine) writeTerms(ctx context.Context) {
	for {
		for _, t := range e.terms.take() {
			e.deps.Terms.SetTerm(t.group, t.term)
		}
		select {
		case <-ctx.Done():
			return
		case <-e.terms.wake:
		}
	}
}
