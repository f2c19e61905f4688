package tracker

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sasyncd/sync/engine"
)

const (
	// OpenFor is how long the fence of an IPv6 virtual address stays open
	// without sasyncd: enough for a restart or an upgrade, and after that
	// nothing leaves from an address that the node may long have lost. IPv4
	// needs no such limit, as nothing is routed from an address that is not
	// there. In whole seconds.
	OpenFor = 30 * time.Second

	renewEvery = 5 * time.Second
	retryEvery = 200 * time.Millisecond // a fence that the kernel did not take; also the resolution of time
	eventQueue = 64
)

// Config is what an Elector must know.
type Config struct {
	Groups     []Group
	Source     Source
	Interfaces Interfaces
	// Holds reports whether the kernel has anything that ends on the addresses.
	Holds func(ctx context.Context, vips []netip.Addr) (bool, error)
	// Fence is nil with `fence no`.
	Fence Fence
	Log   *slog.Logger
}

// Elector is the engine's elector where carpd is none. Its methods are safe for
// concurrent use.
type Elector struct {
	cfg    Config
	events chan engine.ElectorEvent

	mu    sync.Mutex
	sight map[string]Observation  // by group, the latest
	calls []func(context.Context) // what the source and the engine have said; neither waits
	wake  chan struct{}

	// Of Run.
	groups map[string]*machine
	wants  map[string]bool // group whose fence is to be set (true) or cleared: not done yet
}

// New returns an elector that does nothing until Run.
func New(cfg Config) *Elector {
	e := &Elector{cfg: cfg, events: make(chan engine.ElectorEvent, eventQueue), wake: make(chan struct{}, 1),
		sight:  make(map[string]Observation),
		groups: make(map[string]*machine), wants: make(map[string]bool)}
	for _, g := range cfg.Groups {
		e.groups[g.Name] = &machine{name: g.Name, vips: g.VIPs, yields: cfg.Fence != nil, started: time.Now()}
	}
	return e
}

// Events implements engine.Elector.
func (e *Elector) Events() <-chan engine.ElectorEvent { return e.events }

// Observation returns what the tracker saw last of a group; ok is false before that.
func (e *Elector) Observation(group string) (s Observation, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok = e.sight[group]
	return s, ok
}

// Run follows the tracker until ctx ends. The fence of a master stays open for
// IPv6 as long as [OpenFor] then, for a sasyncd that comes back.
func (e *Elector) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, m := range e.groups {
		holds, err := e.cfg.Holds(ctx, m.vips)
		if err != nil {
			return err
		}
		m.empty = !holds
	}
	ended := make(chan error, 1)
	go func() {
		ended <- e.cfg.Source.Follow(ctx, func(group string, s Observation) {
			e.mu.Lock()
			e.sight[group] = s
			e.mu.Unlock()
			e.call(group, func(m *machine) []action { return m.see(time.Now(), s) })
		})
	}()
	renew, retry := time.NewTicker(renewEvery), time.NewTicker(retryEvery)
	defer renew.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			e.renew()
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				continue
			}
			return fmt.Errorf("follow the election: %w", err)
		case <-e.wake:
			for _, f := range e.take() {
				f(ctx)
			}
		case <-renew.C:
			e.renew()
		case now := <-retry.C:
			for group, m := range e.groups {
				e.fence(ctx, m)
				e.act(ctx, group, func(m *machine) []action { return m.tick(now) })
			}
		}
	}
}

// call queues a step of a group's machine for Run.
func (e *Elector) call(group string, step func(*machine) []action) {
	e.mu.Lock()
	e.calls = append(e.calls, func(ctx context.Context) { e.act(ctx, group, step) })
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Elector) take() []func(context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls
	e.calls = nil
	return calls
}

// act carries out a step of a group's machine.
func (e *Elector) act(ctx context.Context, group string, step func(*machine) []action) {
	m := e.groups[group]
	if m == nil {
		return
	}
	for _, a := range step(m) {
		switch {
		case a.fence || a.unfence:
			if e.cfg.Fence == nil {
				continue
			}
			e.wants[m.name] = a.fence
			e.fence(ctx, m)
		default:
			select {
			case e.events <- a.tell:
			case <-ctx.Done():
			}
		}
	}
}

// fence tries what is wanted of a group's fence, and forgets it when done.
func (e *Elector) fence(ctx context.Context, m *machine) {
	set, waiting := e.wants[m.name]
	if !waiting {
		return
	}
	if set {
		if err := e.cfg.Fence.Set(m.vips...); err != nil {
			e.cfg.Log.Error("setting the fence failed", "group", m.name, "err", err)
			return
		}
	} else if err := e.clear(ctx, m.vips); err != nil {
		e.cfg.Log.Error("opening the fence failed", "group", m.name, "err", err)
		return
	}
	delete(e.wants, m.name)
	e.cfg.Log.Info("fence", "group", m.name, "set", set)
}

// clear opens the fence. That of an IPv6 address hangs on an interface which is
// up: that which has the address, or any where none has it.
func (e *Elector) clear(ctx context.Context, vips []netip.Addr) error {
	v, err := look(ctx, e.cfg.Interfaces)
	if err != nil {
		return err
	}
	byLink := make(map[int][]netip.Addr)
	for _, a := range vips {
		byLink[v.link(a)] = append(byLink[v.link(a)], a)
	}
	for link, list := range byLink {
		if err := e.cfg.Fence.Clear(link, list...); err != nil {
			return err
		}
	}
	e.renew()
	return nil
}

func (e *Elector) renew() {
	if e.cfg.Fence == nil {
		return
	}
	if err := e.cfg.Fence.RenewFor(OpenFor); err != nil {
		e.cfg.Log.Error("keeping the fence open failed", "err", err)
	}
}

// Prepared implements engine.Elector.
func (e *Elector) Prepared(group string, term uint64) {
	e.call(group, func(m *machine) []action { return m.prepared(term) })
}

// Ready implements engine.Elector.
func (e *Elector) Ready(group string, r engine.Readiness) {
	e.call(group, func(m *machine) []action { return m.readiness(time.Now(), r) })
}

// Takeover implements engine.Elector. The election goes its own way.
func (e *Elector) Takeover(string, uint64, time.Duration) {}

// Resign implements engine.Elector.
func (e *Elector) Resign(group, reason string) {
	if e.cfg.Fence == nil {
		e.cfg.Log.Error("this node should give way to another master, and there is no fence with which it could",
			"group", group, "reason", reason)
	}
	e.call(group, func(m *machine) []action { return m.resign(reason) })
}

// HandOver would give mastership away.
func (e *Elector) HandOver(context.Context, string) error {
	return fmt.Errorf("the election is not ours: have the program that elects move the addresses")
}
