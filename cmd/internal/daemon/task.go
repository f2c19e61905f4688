package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Task is a part of a daemon that runs as long as it does.
type Task interface {
	// Run works until ctx ends and then returns nil or ctx's error. Any other
	// return ends the daemon.
	Run(ctx context.Context) error
	// Ready is closed when the task serves.
	Ready() <-chan struct{}
	// String names the task for logs.
	String() string
}

// NewTask returns a Task made of a function that is ready at once.
func NewTask(name string, run func(ctx context.Context) error) Task {
	ready := make(chan struct{})
	close(ready)
	return &task{name, run, ready}
}

type task struct {
	name  string
	run   func(ctx context.Context) error
	ready chan struct{}
}

func (t *task) Run(ctx context.Context) error { return t.run(ctx) }
func (t *task) Ready() <-chan struct{}        { return t.ready }
func (t *task) String() string                { return t.name }

// start runs the tasks in a group whose context ends with the first failure. A
// task that ends by itself is a failure: its part would be missing silently.
func start(ctx context.Context, tasks []Task) (*errgroup.Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() error {
			err := t.Run(ctx)
			switch {
			case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
				return nil
			case err == nil:
				return fmt.Errorf("run %s: ended unexpectedly", t)
			}
			return fmt.Errorf("run %s: %w", t, err)
		})
	}
	return g, ctx
}

// allReady returns a channel that is closed when all tasks are ready, or never
// if ctx ends before.
func allReady(ctx context.Context, tasks []Task) <-chan struct{} {
	ready := make(chan struct{})
	go func() {
		for _, t := range tasks {
			select {
			case <-t.Ready():
			case <-ctx.Done():
				return
			}
		}
		close(ready)
	}()
	return ready
}

// Pulse is how a loop shows that it is not stuck: it calls Beat each time
// around, and the watchdog asks Alive. Safe for concurrent use.
type Pulse struct {
	base time.Time
	last atomic.Int64 // nanoseconds since base, monotonic
}

// NewPulse returns a pulse that has just beaten.
func NewPulse() *Pulse { return &Pulse{base: time.Now()} }

// Beat records a beat.
func (p *Pulse) Beat() { p.last.Store(int64(time.Since(p.base))) }

// Alive reports whether the last beat is at most limit ago.
func (p *Pulse) Alive(limit time.Duration) bool {
	return time.Since(p.base)-time.Duration(p.last.Load()) <= limit
}
