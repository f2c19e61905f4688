package keying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of the calls to a driver.
const (
	passiveLimit = 10 * time.Second
	activeLimit  = 5 * time.Minute
	probeLimit   = 5 * time.Second
	probeEvery   = 30 * time.Second
	probeAgain   = 2 * time.Second // after a probe that failed
)

// Runner carries out the orders of a group on its driver. Its methods are safe
// for concurrent use and return at once; the work is done by Run.
type Runner struct {
	name   string
	driver Driver
	log    *slog.Logger

	mu      sync.Mutex
	queue   []Event
	wake    chan struct{}
	waiters map[int]func(error)
	waiter  int
	ended   bool
	status  Status
	vips    []netip.Addr
	failed  bool // the last probe
}

// Status is what a user sees of a group's IKE daemon.
type Status struct {
	Driver string  `json:"driver"`
	State  string  `json:"state"`
	Term   uint64  `json:"term"`
	Error  string  `json:"error,omitempty"` // why the order in force is not carried out
	Last   Outcome `json:"tunnels"`         // of the plan in force
	// Seconds that the last promotion took until all tunnels were up, 0 if there was none.
	PromoteSeconds float64 `json:"promote_seconds,omitempty"`
	Restarts       int     `json:"restarts"` // of the daemon, as far as they were noticed
	Info           Info    `json:"daemon"`   // as the last probe that succeeded found it
	Absent         bool    `json:"absent"`   // it did not run at the last probe
	// Probed: some probe has succeeded, or found that the daemon does not run. ProbeError
	// is why two in a row have failed since: what Info says may be old.
	Probed     bool   `json:"probed"`
	ProbeError string `json:"probe_error,omitempty"`
}

// NewRunner returns a runner that has no order yet; name is the group's, for logs.
func NewRunner(name string, d Driver, log *slog.Logger) *Runner {
	return &Runner{name: name, driver: d, log: log.With("group", name, "driver", d.Name()),
		wake: make(chan struct{}, 1), waiters: make(map[int]func(error)),
		status: Status{Driver: d.Name(), State: Boot.String()}}
}

// String names the task.
func (r *Runner) String() string { return "keying " + r.name }

// Passive orders the daemon to be silent. done, which may be nil, is called
// once, from another goroutine, when no IKE packet can leave any more, or with
// the reason why that is not sure. It is called at the latest when Run ends.
func (r *Runner) Passive(h PassiveOrder, done func(error)) {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		if done != nil {
			go done(context.Canceled)
		}
		return
	}
	id := 0
	if done != nil {
		r.waiter++
		id = r.waiter
		r.waiters[id] = done
	}
	r.mu.Unlock()
	r.post(Event{Kind: EventPassive, PassiveOrder: h, Waiter: id})
}

// Active orders the daemon to negotiate the plan's tunnels.
func (r *Runner) Active(p Plan) {
	p.VIPs = slices.Clone(p.VIPs)
	slices.SortFunc(p.VIPs, netip.Addr.Compare)
	r.mu.Lock()
	r.vips = p.VIPs
	r.mu.Unlock()
	r.post(Event{Kind: EventActive, Plan: p})
}

// Repeat carries out the order in force once more, as after a change of what it
// depends on.
func (r *Runner) Repeat() { r.post(Event{Kind: EventBack}) }

// Status returns the current state.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Caps returns what others must take into account.
func (r *Runner) Caps() Caps { return r.driver.Caps() }

// probe asks the daemon what it is and what would harm a failover. What an earlier probe
// has found stands while probes fail: a lint that cannot be read any more is not gone.
func (r *Runner) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	r.mu.Lock()
	vips := r.vips
	r.mu.Unlock()
	info, err := r.driver.Probe(ctx, vips)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.status
	absent := errors.Is(err, ErrNotRunning)
	if err != nil && !absent {
		if s.Absent = false; r.failed {
			s.ProbeError = err.Error()
		}
		if !s.Probed {
			s.Info = info // better than nothing
		}
		r.failed = true
		return err
	}
	r.failed = false
	s.Info, s.Absent, s.Probed, s.ProbeError = info, absent, true, ""
	return nil
}

// probing keeps what Status tells about the daemon fresh.
func (r *Runner) probing(ctx context.Context) {
	for {
		wait := probeEvery
		if r.probe(ctx) != nil {
			wait = probeAgain
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (r *Runner) post(ev Event) {
	r.mu.Lock()
	r.queue = append(r.queue, ev)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends. It leaves the daemon as it is.
func (r *Runner) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer stop()
	defer r.abandon()
	run := &running{Runner: r, calls: &calls}
	calls.Go(func() { r.probing(ctx) })
	notices := r.driver.Watch(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			r.mu.Lock()
			evs := r.queue
			r.queue = nil
			r.mu.Unlock()
			for _, ev := range evs {
				run.step(ctx, ev)
			}
		case n, ok := <-notices:
			if !ok {
				notices = nil
				continue
			}
			run.notice(ctx, n)
		case <-timer.C:
			run.step(ctx, Event{Kind: EventTick})
		}
		timer.Stop()
		if d := run.machine.Deadline(); !d.IsZero() {
			timer.Reset(time.Until(d))
		}
	}
}

// abandon answers all who wait.
func (r *Runner) abandon() {
	r.mu.Lock()
	waiters := r.waiters
	r.ended = true
	r.waiters = make(map[int]func(error))
	r.mu.Unlock()
	for _, f := range waiters {
		f(context.Canceled)
	}
}

// running is the part of a Runner that only Run's goroutine sees.
type running struct {
	*Runner
	machine Machine
	calls   *sync.WaitGroup
	cancel  context.CancelFunc // of the call under way
	began   time.Time          // the promotion
	lost    bool
}

func (r *running) notice(ctx context.Context, n Notice) {
	switch n.Kind {
	case NoticeLost:
		r.lost = true
		r.log.Warn("ike daemon has gone")
		r.step(ctx, Event{Kind: EventLost})
	case NoticeBack:
		if r.lost {
			r.log.Info("ike daemon is back")
			r.mu.Lock()
			r.status.Restarts++
			r.mu.Unlock()
		}
		// Seen for the first time, it may have missed an order as well.
		r.lost = false
		r.step(ctx, Event{Kind: EventBack})
	}
}

func (r *running) step(ctx context.Context, ev Event) {
	now := time.Now()
	before := r.machine.State()
	for _, a := range r.machine.Step(now, ev) {
		r.act(ctx, a)
	}
	after := r.machine.State()
	if after != before {
		r.log.Info("keying", "from", before.String(), "to", after.String(), "term", r.machine.Term())
		switch after {
		case Activating:
			r.began = now
		case Active:
			r.mu.Lock()
			r.status.PromoteSeconds = now.Sub(r.began).Seconds()
			r.mu.Unlock()
		}
	}
	if ev.Kind == EventDone && ev.Err != nil && r.machine.Err() != nil {
		r.log.Error("ike role change failed, retrying", "state", after.String(),
			"term", r.machine.Term(), "err", ev.Err)
	}
	r.mu.Lock()
	r.status.State, r.status.Term, r.status.Error = after.String(), r.machine.Term(), ""
	if err := r.machine.Err(); err != nil {
		r.status.Error = err.Error()
	}
	r.mu.Unlock()
}

func (r *running) act(ctx context.Context, a Action) {
	switch a.Kind {
	case ActionCancel:
		r.cancel()
	case ActionAnswer:
		r.mu.Lock()
		f := r.waiters[a.Waiter]
		delete(r.waiters, a.Waiter)
		r.mu.Unlock()
		if f != nil {
			r.calls.Go(func() { f(a.Err) })
		}
	case ActionPassive:
		r.call(ctx, a.Call, passiveLimit, func(ctx context.Context) error {
			return r.driver.Passive(ctx,
				a.PassiveOrder)
		})
	case ActionActive:
		r.call(ctx, a.Call, activeLimit, func(ctx context.Context) error {
			return r.driver.Active(ctx, a.Plan, func(o Outcome) {
				r.mu.Lock()
				r.status.Last = o
				r.mu.Unlock()
			})
		})
	}
}

func (r *running) call(ctx context.Context, id int, limit time.Duration, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	r.cancel = cancel
	r.calls.Go(func() {
		defer cancel()
		err := f(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("not done within %v: %w", limit, err)
		}
		r.post(Event{Kind: EventDone, Call: id, Err: err})
	})
}
