package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrKilled is what Run returns when a second SIGTERM or SIGINT cut an orderly
// stop short.
var ErrKilled = errors.New("stopped at once by a second signal")

// Process is a running daemon: its tasks, and what it does on signals. The
// functions may be nil. Those given are called one at a time each, from
// goroutines of their own, and must be safe beside the tasks.
type Process struct {
	Log    *slog.Logger
	Notify *Notifier
	Tasks  []Task
	// Reload reads the configuration again (SIGHUP): all or nothing. On an error
	// everything stays as it was.
	Reload func(ctx context.Context) error
	// Dump writes the state to the log (SIGUSR1).
	Dump func()
	// Drain ends the service in an orderly way (SIGTERM, SIGINT) while the tasks
	// still run, for example hands over. Afterwards the tasks' context ends.
	Drain func(ctx context.Context) error
	// Alive reports whether the daemon makes progress. While it does not, the
	// watchdog of the service manager is not fed.
	Alive func() bool

	signals chan os.Signal // of tests; nil: those of the operating system
}

// Run runs the tasks until ctx ends, SIGTERM or SIGINT arrives, or a task fails.
// It returns nil after an orderly stop, ErrKilled, or the first failure. After
// ErrKilled tasks may still be running; the caller exits.
func (p *Process) Run(ctx context.Context) error {
	sigs := p.signals
	if sigs == nil {
		sigs = make(chan os.Signal, 8)
		signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
		defer signal.Stop(sigs)
		// A reader of the log that goes away must not end a daemon that carries
		// traffic, as a SIGPIPE on standard error otherwise does in Go.
		signal.Ignore(syscall.SIGPIPE)
	}
	asked := ctx.Done()
	taskCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, taskCtx := start(taskCtx, p.Tasks)
	r := &running{Process: p, cancel: cancel, ended: wait(group), ready: allReady(taskCtx, p.Tasks),
		reloaded: make(chan error, 1)}
	r.watchdog()
	defer r.tick.Stop()
	for {
		select {
		case err := <-r.ended:
			if !r.stopping && err != nil {
				r.tell(p.Notify.Stopping)
			}
			return err
		case <-r.ready:
			r.ready, r.up = nil, true
			p.Log.Info("ready")
			r.tell(p.Notify.Ready)
		case <-asked:
			asked = nil
			r.stop(context.WithoutCancel(ctx), "context")
		case s := <-sigs:
			if r.signal(context.WithoutCancel(ctx), s) {
				return ErrKilled
			}
		case err := <-r.reloaded:
			r.reloadEnded(context.WithoutCancel(ctx), err)
		case <-r.tick.C:
			r.feed()
		}
	}
}

// running is the state of Run.
type running struct {
	*Process
	cancel   context.CancelFunc
	ended    <-chan error
	ready    <-chan struct{}
	reloaded chan error
	tick     *time.Ticker

	up, stopping, reloading, again, stuck bool
}

func wait(g *errgroup.Group) <-chan error {
	c := make(chan error, 1)
	go func() { c <- g.Wait() }()
	return c
}

func (r *running) tell(f func() error) {
	if err := f(); err != nil {
		r.Log.Warn("sd_notify failed", "err", err)
	}
}

// signal reacts to s and reports whether the process must end at once.
func (r *running) signal(ctx context.Context, s os.Signal) (now bool) {
	switch s {
	case syscall.SIGTERM, syscall.SIGINT:
		if r.stopping {
			return true
		}
		r.stop(ctx, s.String())
	case syscall.SIGHUP:
		r.reload(ctx)
	case syscall.SIGUSR1:
		if r.Dump != nil {
			go r.Dump()
		}
	}
	return false
}

func (r *running) stop(ctx context.Context, why string) {
	if r.stopping {
		return
	}
	r.stopping = true
	r.Log.Info("stopping", "reason", why)
	r.tell(r.Notify.Stopping)
	if r.Drain == nil {
		r.cancel()
		return
	}
	go func() {
		defer r.cancel()
		if err := r.Drain(ctx); err != nil {
			LogError(r.Log, "stop in an orderly way", err)
		}
	}()
}

// reload starts a reload, or remembers that one more is wanted.
func (r *running) reload(ctx context.Context) {
	switch {
	case r.Reload == nil || r.stopping:
	case r.reloading:
		r.again = true
	default:
		r.reloading = true
		r.tell(r.Notify.Reloading)
		go func() { r.reloaded <- r.Reload(ctx) }()
	}
}

func (r *running) reloadEnded(ctx context.Context, err error) {
	r.reloading = false
	if err != nil {
		LogError(r.Log, "reload refused, nothing changed", err)
	} else {
		r.Log.Info("reloaded")
	}
	if r.up && !r.stopping {
		r.tell(r.Notify.Ready)
	}
	if r.again {
		r.again = false
		r.reload(ctx)
	}
}

// watchdog arms the ticker; without a watchdog it never ticks.
func (r *running) watchdog() {
	every := r.Notify.WatchdogInterval()
	r.tick = time.NewTicker(max(every, time.Millisecond))
	if every == 0 {
		r.tick.Stop()
	}
}

func (r *running) feed() {
	stuck := r.Alive != nil && !r.Alive()
	if stuck != r.stuck {
		r.stuck = stuck
		if stuck {
			r.Log.Error("no progress, watchdog is not fed")
		} else {
			r.Log.Info("progress again")
		}
	}
	if !stuck {
		r.tell(r.Notify.Alive)
	}
}

// LogError logs err, one line each where it is a list of errors, as those of a
// configuration are.
func LogError(log *slog.Logger, msg string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		log.Error(msg, "err", line)
	}
}
