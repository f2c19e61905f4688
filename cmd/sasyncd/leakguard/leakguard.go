// Package leakguard keeps the walls of the leak guard as the policies of the kernel
// want them, remembers the policies that have gone, and mends what others change.
//
// What is dropped is decided by sync/guard, which is pure. The walls are kernel/leakguard
// (a table of nf_tables) and rules.Sink (routes). Both stay when the daemon ends: the
// guard is for the time in which something is missing.
package leakguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
)

// Filter is the exact wall.
type Filter interface {
	// Set replaces what the wall holds, in one step. A kernel that cannot have this wall is
	// errors.ErrUnsupported.
	Set(ctx context.Context, p guard.Program) error
	There(ctx context.Context) (bool, error)
	// Drops is how many packets it has dropped since it was first set.
	Drops(ctx context.Context) (uint64, error)
	// Watch tells that somebody else has changed this wall, until ctx ends.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Sink is the second wall, which needs no process and no nf_tables.
type Sink interface {
	Set(routes []guard.Route) error
	There(routes []guard.Route) (bool, error)
}

// Config is what a Guard works with.
type Config struct {
	// Path is where the selectors are kept for the next start, below a directory of
	// root's only.
	Path string
	// Policies reads the SPD, in the kernel's order. Changes tells when to do that.
	Policies func(ctx context.Context) ([]*sadb.Policy, error)
	Changes  func(ctx context.Context) (<-chan struct{}, error)
	// Filter and Sink are the walls; nil for none.
	Filter Filter
	Sink   Sink
	// Write replaces the file at Path, and returns when the disk has it.
	Write func(path string, content []byte) error
	Log   *slog.Logger
}

// State is what a Guard tells of itself.
type State struct {
	Walls      []string // that it is made of: nftables, routes
	Selectors  int      // that are required by policies of the kernel or remembered
	Remembered int      // of these, those whose policies have gone
	Drops      uint64   // packets that the table has dropped since it was first set
	Lately     uint64   // of these, those that it has dropped within [Recent]
	Repairs    uint64   // how often a wall was put back that somebody had taken down
	Trouble    string   // why a wall is not as it should be, "" if all are
	LeftOut    string   // policies that no wall is for, "" for none
}

const (
	// lookPause is the least time between two readings of the SPD. A reading takes a
	// twentieth of the time at most.
	lookPause = 100 * time.Millisecond
	lookShare = 20
	// tendEach is how often the walls and the ages of what is remembered are looked at.
	tendEach = 5 * time.Second
	// Recent is how long ago a drop may be that State tells as lately.
	Recent = 5 * time.Minute
	// dropsPause is the least time between two log lines about dropped packets.
	dropsPause = time.Minute
)

// Guard is the task. Its methods but Run are safe for concurrent use.
type Guard struct {
	cfg  Config
	book guard.Book
	// routes are what the second wall holds.
	routes    []guard.Route
	selectors int // that are required by what the book holds
	asks      chan func()
	done      chan struct{}

	state  atomic.Pointer[State]
	told   struct{ trouble, leftOut string }
	drops  uint64    // as told in the log
	logged time.Time // when
	lately recent    // drops
	failed bool      // the walls are not as wanted
}

// New returns a Guard that does nothing until Run.
func New(cfg Config) *Guard {
	g := &Guard{cfg: cfg, asks: make(chan func()), done: make(chan struct{}), failed: true}
	g.state.Store(new(State))
	return g
}

// State is what the Guard knew last. It waits for nothing.
func (g *Guard) State() State { return *g.state.Load() }

// Run serves until ctx ends. The walls stay.
func (g *Guard) Run(ctx context.Context) error {
	defer close(g.done)
	g.load()
	changes, err := g.cfg.Changes(ctx)
	if err != nil {
		return fmt.Errorf("leak guard: %w", err)
	}
	var foreign <-chan struct{}
	if g.cfg.Filter != nil {
		// What the table of before has dropped has been told.
		if n, err := g.cfg.Filter.Drops(ctx); err == nil {
			g.drops, g.lately.total = n, n
		}
		if foreign, err = g.cfg.Filter.Watch(ctx); err != nil {
			g.cfg.Log.Warn("changes of nf_tables by others are noticed late", "err", err)
		}
	}
	tend := time.NewTicker(tendEach)
	defer tend.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	var next time.Time // before that the SPD is not read again
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok && ctx.Err() == nil {
				return errors.New("leak guard: events of policies ended")
			}
			due.Reset(time.Until(next))
		case <-due.C:
			began := time.Now()
			g.look(ctx)
			next = began.Add(max(lookPause, lookShare*time.Since(began)))
		case _, ok := <-foreign:
			if !ok {
				foreign = nil
			}
			g.tend(ctx)
		case <-tend.C:
			if g.book.Expire(time.Now()) > 0 {
				g.change(ctx)
			}
			g.tend(ctx)
		case f := <-g.asks:
			f()
		}
	}
}

// load reads what the Guard of before remembered. A file that cannot be understood is
// kept beside the new one.
func (g *Guard) load() {
	book, _, err := Load(g.cfg.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		aside := g.cfg.Path + ".bad"
		err = errors.Join(err, os.Rename(g.cfg.Path, aside))
		g.cfg.Log.Error("selectors of the leak guard are lost, those of the kernel's policies hold", "file", aside,
			"err", err)
	default:
		g.book = book
	}
}

// Load reads the selectors that a Guard has kept, and whether it had a Sink.
func Load(path string) (book guard.Book, sink bool, err error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return guard.Book{}, false, err
	}
	if book, sink, err = guard.Decode(src); err != nil {
		return guard.Book{}, false, fmt.Errorf("%s: %w", path, err)
	}
	return book, sink, nil
}

// look reads the SPD, and changes the walls if they are to be others.
func (g *Guard) look(ctx context.Context) {
	policies, err := g.cfg.Policies(ctx)
	if err != nil {
		if ctx.Err() == nil {
			g.trouble(fmt.Errorf("read policies: %w", err))
			g.failed = true
		}
		return
	}
	list, left := guard.Of(policies)
	out := ""
	if left.Total() > 0 {
		out = left.String()
	}
	if out != g.told.leftOut {
		if g.told.leftOut = out; out != "" {
			g.cfg.Log.Warn("the leak guard is not for all policies", "not_for", out)
		}
	}
	if g.book.Learn(time.Now(), list) || g.failed {
		g.change(ctx)
		return
	}
	g.publish(ctx)
}

// change has the walls, then the file, hold what the book does.
func (g *Guard) change(ctx context.Context) {
	err := g.raise(ctx)
	if werr := g.cfg.Write(g.cfg.Path, guard.Encode(g.book, g.cfg.Sink != nil)); werr != nil {
		err = errors.Join(err, fmt.Errorf("keep selectors for the next start: %w", werr))
	}
	g.failed = err != nil
	g.trouble(err)
	g.publish(ctx)
}

// raise has the walls hold what the book does.
func (g *Guard) raise(ctx context.Context) error {
	list := g.book.Rules()
	g.selectors = 0
	for _, r := range list {
		if r.Require {
			g.selectors++
		}
	}
	if g.cfg.Sink != nil {
		g.routes = guard.Routes(list)
	}
	var errs []error
	if f := g.cfg.Filter; f != nil {
		err := f.Set(ctx, guard.Compile(list))
		if errors.Is(err, errors.ErrUnsupported) && g.cfg.Sink != nil {
			g.cfg.Log.Warn("the leak guard is made of routes alone", "err", err)
			g.cfg.Filter, err = nil, nil
		}
		errs = append(errs, err)
	}
	if s := g.cfg.Sink; s != nil { // that one may be unsupported too, which is no word about the filter
		errs = append(errs, s.Set(g.routes))
	}
	return errors.Join(errs...)
}

// Raise has the walls hold what a book does, and returns how many rules that are.
func Raise(ctx context.Context, cfg Config, book guard.Book) (int, error) {
	g := &Guard{cfg: cfg, book: book}
	return len(book.Rules()), g.raise(ctx)
}

// tend puts a wall back that somebody else has taken down, and counts drops.
func (g *Guard) tend(ctx context.Context) {
	gone := ""
	if f := g.cfg.Filter; f != nil {
		if there, err := f.There(ctx); err == nil && !there {
			gone = "the table of nf_tables"
		}
	}
	if s := g.cfg.Sink; s != nil {
		if there, err := s.There(g.routes); err == nil && !there {
			gone = "routes"
		}
	}
	switch {
	case g.failed: // what is not there was never put there
		g.change(ctx)
	case gone != "":
		now := g.State()
		now.Repairs++
		g.state.Store(&now)
		g.cfg.Log.Warn("somebody removed what the leak guard is made of; it is put back", "what", gone)
		g.change(ctx)
	default:
		g.publish(ctx)
	}
}

// trouble tells once what keeps the guard from being whole.
func (g *Guard) trouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == g.told.trouble:
	case text == "":
		g.cfg.Log.Info("the leak guard is whole again")
	default:
		g.cfg.Log.Error("the leak guard is not whole", "err", err)
	}
	g.told.trouble = text
}

// publish has State tell what is so now.
func (g *Guard) publish(ctx context.Context) {
	now := g.State()
	now.Selectors, now.Remembered = g.selectors, g.book.Gone()
	now.Trouble, now.LeftOut = g.told.trouble, g.told.leftOut
	now.Walls = nil
	if g.cfg.Filter != nil {
		now.Walls = append(now.Walls, "nftables")
	}
	if g.cfg.Sink != nil {
		now.Walls = append(now.Walls, "routes")
	}
	if f := g.cfg.Filter; f != nil {
		if n, err := f.Drops(ctx); err == nil {
			now.Drops = n
			now.Lately = g.lately.add(time.Now(), n)
		}
	}
	g.state.Store(&now)
	if now.Drops > g.drops && time.Since(g.logged) >= dropsPause {
		g.cfg.Log.Warn("packets would have left in plaintext: they match a policy that requires IPsec and had no SA",
			"dropped", now.Drops-g.drops, "total", now.Drops)
		g.drops, g.logged = now.Drops, time.Now()
	}
}

// ask has Run's goroutine call f.
func (g *Guard) ask(ctx context.Context, f func()) error {
	ended := make(chan struct{})
	select {
	case g.asks <- func() { defer close(ended); f() }:
		<-ended
		return nil
	case <-g.done:
		return errors.New("the leak guard has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Remembered is what is guarded without a policy.
func (g *Guard) Remembered(ctx context.Context) (list []guard.Entry, err error) {
	err = g.ask(ctx, func() { list = g.book.Remembered() })
	return list, err
}

// Forget ends the guard for what is remembered with a destination inside dst, or for all
// that is remembered where dst is not valid. It returns how many selectors that were.
func (g *Guard) Forget(ctx context.Context, dst netip.Prefix) (n int, err error) {
	err = g.ask(ctx, func() {
		if dst.IsValid() {
			n = g.book.Forget(dst)
		} else {
			n = g.book.ForgetAll()
		}
		if n > 0 {
			g.change(ctx)
		}
	})
	return n, err
}
