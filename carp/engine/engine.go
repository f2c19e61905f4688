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
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
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

	holding    holding     // see there
	interfaces link.Reader // link.Kernel, but in tests

	// fenced are the groups that are to be fenced: of the worker, and before it
	// runs of who starts it.
	fenced map[*group]bool

	queues queues
	marks  *markBook // to the disk
	claims claimed

	// The engine's thread takes mu and never pollMu. Nobody may hold mu while he
	// wakes that thread: it would run at once, and then wait for somebody who has
	// no priority.
	mu     sync.Mutex
	calls  []func(now time.Duration)
	pollMu sync.RWMutex
	poll   *link.Poller // nil while not running

	thread thread

	server atomic.Pointer[api.Server]
	load   func() (Config, error)
	reload sync.Mutex
	beats  beats
	ready  chan struct{}
	done   chan struct{}
}

// queues lead from the engine's thread to those that may wait.
type queues struct {
	work  *queue[task]   // to the worker
	hops  *queue[[]int]  // interfaces whose next hops are to be kept
	out   *queue[output] // to clients and log
	terms *queue[termOf] // to the disk
}

// claimed is who answers for the virtual addresses.
type claimed struct {
	book  claims.Book
	asked atomic.Pointer[[]claims.Target]
}

// beats are called by the engine's thread and by the worker, as signs of life.
type beats struct{ thread, worker func() }

// thread is what belongs to the engine's thread alone.
type thread struct {
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
		queues: queues{work: newQueue[task](), hops: newQueue[[]int](), out: newQueue[output](),
			terms: newQueue[termOf]()},
		marks:      newMarkBook(),
		holding:    holding{groups: make(map[*group][]string), free: make(map[string]bool)},
		fenced:     make(map[*group]bool),
		interfaces: link.Kernel{},
		thread:     thread{sessions: make(map[uint64]*session), requests: make(map[uint64]request)},
		beats:      beats{thread: func() {}, worker: func() {}},
		ready:      make(chan struct{}), done: make(chan struct{}),
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
				r.port.Unicast6 = r.port.Unicast6 || len(rc.Peers) > 0
			} else {
				r.port.Unicast4 = r.port.Unicast4 || len(rc.Peers) > 0
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
		if p.Device == device {
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
func (e *Engine) OnBeat(f func()) { e.beats.thread = f }

// OnWork sets a function that is called whenever what changes the kernel has done
// something, and at least each second while it waits for work, before Run. It must
// not block.
func (e *Engine) OnWork(f func()) { e.beats.worker = f }

// Ready is closed when the fence is set and the engine listens.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// String names the task.
func (e *Engine) String() string { return "election" }

// Run elects until ctx ends, or until Stop has ended it in an orderly way.
// Without Stop, addresses and roles are left as they are: the leases end them.
func (e *Engine) Run(ctx context.Context) error {
	// Before anything else: silence. A node that has just started is nobody's
	// master, whatever an earlier life left behind by accident.
	if err := e.silence(e.inherit(link.BootTime())); err != nil {
		return err
	}
	if err := e.refuseAccess(e.cfg.refused()); err != nil {
		return err
	}
	if err := e.leaseAtStart(); err != nil {
		return err
	}
	poll, err := link.NewPoller()
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
		poll.Close()
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
	defer context.AfterFunc(ctx, poll.Wake)()

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
		e.say(slog.LevelWarn, "cannot flush packets queued by the previous process", "err", err)
	}
	return nil
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
				e.thread.stopped++ // as it is, for the next process
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
	rest := e.inherit(link.BootTime())
	if err := e.silence(rest); err != nil || len(rest) < len(e.groups) {
		return err
	}
	return errors.Join(e.refuseAccess(nil), e.lease(nil))
}

func (e *Engine) writeTerms(ctx context.Context) {
	for {
		for _, t := range e.queues.terms.take() {
			e.deps.Terms.SetTerm(t.group, t.term)
		}
		select {
		case <-ctx.Done():
			return
		case <-e.queues.terms.wake:
		}
	}
}
