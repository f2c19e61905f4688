package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/leakguard"
	nft "sasyncd/kernel/leakguard"
	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/guard"
)

// Verbs about the leak guard, for its unit and for the package's removal.
const (
	verbGuardLoad   = "guard-load"   // raise the walls that the last sasyncd kept
	verbGuardRemove = "guard-remove" // take the walls down; what is kept stays
)

// guardFile is where the leak guard keeps its selectors, in the state directory.
const guardFile = "guard.json"

// walls are those of the leak guard that a configuration wants; nil for each other.
type walls struct {
	filter *nft.Filter
	sink   *rules.Sink
}

// openWalls opens the walls that are wanted, and takes the others down. Where the kernel
// cannot have the table and it is not asked for by its name, the error is no failure: lacks
// says why, and there is no filter.
func openWalls(ctx context.Context, want conf.Guard) (w walls, lacks, err error) {
	w.filter, err = nft.New()
	if err == nil && (want == conf.GuardNo || want == conf.GuardRoutes) {
		err = errors.Join(w.filter.Remove(ctx), w.filter.Close())
		w.filter = nil
	} else if err == nil {
		if err = w.filter.Supported(ctx); err != nil {
			err = errors.Join(err, w.filter.Close())
		}
	}
	if errors.Is(err, nft.ErrUnsupported) && want != conf.GuardNFTables {
		w.filter, lacks, err = nil, err, nil
	}
	if err != nil {
		return walls{}, nil, err
	}
	if w.sink, err = rules.OpenSink(); err == nil && want != conf.GuardYes && want != conf.GuardRoutes {
		err = errors.Join(w.sink.Remove(), w.sink.Close())
		w.sink = nil
	}
	if err != nil {
		return walls{}, nil, errors.Join(err, w.close())
	}
	return w, lacks, nil
}

// none reports whether there is no wall.
func (w walls) none() bool { return w.filter == nil && w.sink == nil }

func (w walls) close() error {
	var errs []error
	if w.filter != nil {
		errs = append(errs, w.filter.Close())
	}
	if w.sink != nil {
		errs = append(errs, w.sink.Close())
	}
	return errors.Join(errs...)
}

// table is the wall of nf_tables as the leak guard uses it.
type table struct{ *nft.Filter }

// Set implements leakguard.Filter.
func (t table) Set(ctx context.Context, p guard.Program) error {
	// Where packets wait for their SA they have none yet in the forward hook.
	err := t.Filter.Set(ctx, p, nft.Own{NoEarly: readSetting("net/core/xfrm_larval_drop") == "0"})
	if errors.Is(err, nft.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// config has the walls as a Guard takes them: an interface is nil where a wall is.
func (w walls) config(path string, log *slog.Logger) leakguard.Config {
	cfg := leakguard.Config{Path: path, Log: log,
		Write: func(path string, content []byte) error { return daemon.ReplaceFile(path, content, true) }}
	if w.filter != nil {
		cfg.Filter = table{w.filter}
	}
	if w.sink != nil {
		cfg.Sink = w.sink
	}
	return cfg
}

// leakGuarded is the leak guard of this process.
type leakGuarded struct {
	guard *leakguard.Guard // nil where there is none
	// why is the reason where there should be one: broken says that the kernel could have
	// it.
	why    string
	broken bool
}

// leakGuardOf returns the leak guard of a configuration, and its task.
func leakGuardOf(c *conf.Sasyncd, k *xfrm.Kernel, log *slog.Logger) (leakGuarded, []daemon.Task, error) {
	path := filepath.Join(c.StateDir, guardFile)
	w, lacks, err := openWalls(context.Background(), c.Guard)
	if c.Guard == conf.GuardNo {
		// Who wants no guard gets a daemon all the same.
		if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		if err != nil {
			log.Warn("a leak guard of before may still be there", "err", err)
		}
		return leakGuarded{}, nil, nil
	}
	switch {
	case err != nil && c.Guard == conf.GuardAuto: // nobody has asked for more than is there
		log.Error("there is no leak guard", "err", err)
		return leakGuarded{why: err.Error(), broken: true}, nil, nil
	case err != nil:
		return leakGuarded{}, nil, err
	case w.none():
		log.Info("there is no leak guard", "reason", lacks)
		return leakGuarded{why: lacks.Error()}, nil, nil
	case lacks != nil && c.Guard == conf.GuardYes:
		log.Warn("the leak guard is made of routes alone", "err", lacks)
	}
	cfg := w.config(path, log)
	cfg.Policies, cfg.Changes = k.Policies, k.WatchPolicies
	g := leakguard.New(cfg)
	task := daemon.NewTask("leak guard", func(ctx context.Context) error {
		return errors.Join(g.Run(ctx), w.close())
	})
	return leakGuarded{guard: g}, []daemon.Task{task}, nil
}

// state is for the metrics and the judgement.
func (l leakGuarded) state() (leakguard.State, bool) {
	if l.guard == nil {
		return leakguard.State{Trouble: l.why}, l.broken
	}
	return l.guard.State(), true
}

// answer is for sasyncctl guard.
func (l leakGuarded) answer(ctx context.Context) (report.Guard, error) {
	out := report.Guard{Walls: []string{}, Gone: []report.Gone{}, Trouble: l.why}
	if l.guard == nil {
		return out, nil
	}
	gone, err := l.guard.Remembered(ctx)
	if err != nil {
		return out, err
	}
	for _, e := range gone {
		out.Gone = append(out.Gone, report.Gone{Selector: e.Rule.String(), Until: e.Seen.Add(guard.Keep)})
	}
	s := l.guard.State()
	out.Selectors, out.Remembered, out.Dropped, out.Repairs = s.Selectors, s.Remembered, s.Drops, s.Repairs
	out.Trouble, out.LeftOut, out.Walls = s.Trouble, s.LeftOut, append(out.Walls, s.Walls...)
	return out, nil
}

// forget is for sasyncctl guard forget.
func (l leakGuarded) forget(ctx context.Context, c *daemon.Call) (report.Guard, error) {
	var args struct {
		Destination string `json:"destination"` // a prefix, or "all"
	}
	if err := c.Decode(&args); err != nil {
		return report.Guard{}, err
	}
	if l.guard == nil {
		return report.Guard{}, daemon.Bad("there is no leak guard: see guard of sasyncd.conf(5)")
	}
	dst, err := prefixOrAll(args.Destination)
	if err != nil {
		return report.Guard{}, err
	}
	n, err := l.guard.Forget(ctx, dst)
	if err != nil {
		return report.Guard{}, err
	}
	out, err := l.answer(ctx)
	out.Forgotten = n
	return out, err
}

// prefixOrAll reads what is to be forgotten; an invalid prefix stands for all.
func prefixOrAll(text string) (netip.Prefix, error) {
	if text == "all" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, daemon.Bad("%s: want a network such as 10.2.0.0/16, an address, or all", text)
	}
	return p.Masked(), nil
}

// serveLeakGuard does what one of the verbs asks for.
func serveLeakGuard(f daemon.Flags, log *slog.Logger) error {
	ctx := context.Background()
	if f.Args[0] == verbGuardRemove {
		_, _, err := openWalls(ctx, conf.GuardNo)
		return err
	}
	// At boot nobody opens root's configuration for the daemon's user. The file is there
	// only where a guard is wanted, and the daemon takes down a wall that is not.
	dir := conf.DefaultSasyncdState
	if c, err := conf.LoadSasyncd(f.Config); err == nil {
		dir = c.StateDir
	}
	path := filepath.Join(dir, guardFile)
	book, routes, err := leakguard.Load(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	want := conf.GuardAuto
	if routes {
		want = conf.GuardYes
	}
	w, lacks, err := openWalls(ctx, want)
	if err != nil {
		return err
	}
	defer w.close()
	if w.none() {
		log.Info("there is no leak guard", "reason", lacks)
		return nil
	}
	n, err := leakguard.Raise(ctx, w.config(path, log), book)
	if err == nil {
		log.Info("the leak guard is set", "rules", n)
	}
	return err
}
