package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/engine"
	"sasyncd/carp/filter"
	"sasyncd/carp/track"
	"sasyncd/carp/vip"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
)

const (
	drainLimit = 5 * time.Second // for an orderly stop
	stuckAfter = 5 * time.Second // the loop wakes at least at every advertisement, or when asked
	pokeEach   = time.Second
	// idleAfter is for what changes the kernel, which may have to wait for the
	// kernel. A mastership ends before; this is for a deadlock of our own.
	idleAfter = 20 * time.Second
)

// daemonUsers lists who may change things besides root and carpd's own user.
func daemonUsers() []string { return []string{"sasyncd", "_sasyncd", "carpd", "_carpd"} }

// serve runs the daemon.
func serve(file string, c *conf.Carpd, cfg engine.Config, log *slog.Logger) error {
	board := newBoard()
	if c.Metrics.IsValid() {
		board.tracks = trackConfig(c.Tracks)
		log = slog.New(board.recorder.Tee(log.Handler()))
	}
	fence, err := openFence()
	if err != nil {
		return err
	}
	defer fence.Close()
	hold, err := openHold()
	if err != nil {
		return err
	}
	defer hold.Close()
	addresses, err := vip.NewVirtual()
	if err != nil {
		return err
	}
	defer addresses.Close()
	hops, err := vip.NewNextHops()
	if err != nil {
		return err
	}
	defer hops.Close()
	announcer, err := vip.NewAnnouncer()
	if err != nil {
		return err
	}
	defer announcer.Close()
	state := daemon.OpenState(c.StateDir, "carpd", log)
	starts := state.Start()
	marks := openMarks(c.StateDir, log)
	defer marks.Close()
	eng, err := engine.New(cfg, engine.Deps{
		Fence: fence, Addresses: addresses, Announcer: announcer, NextHops: hops,
		Terms: state, Freezer: openFreezer(c.StateDir), Marks: marks, Filter: new(filter.Rules), Hold: hold, Log: log,
	})
	if err != nil {
		return err
	}
	pulse := daemon.NewPulse()
	eng.OnBeat(pulse.Beat)
	work := daemon.NewPulse()
	eng.OnWork(work.Beat)
	server := api.NewServer(eng, trusted(), log)
	eng.Attach(server)
	load := func() (engine.Config, error) { return reload(file, c, log) }
	eng.OnReload(load)

	p := daemon.Process{
		Log: log, Notify: daemon.NewNotifier(),
		Tasks: []daemon.Task{
			eng,
			newControl(c.Socket, server, eng),
			daemon.NewTask("state directory", state.Watch),
			daemon.NewTask("pulse", func(ctx context.Context) error { return poke(ctx, eng) }),
		},
		Dump: func() { dump(eng, log) },
		Reload: func(ctx context.Context) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			return eng.Reload(ctx, cfg)
		},
		Drain: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, drainLimit)
			defer cancel()
			return eng.Stop(ctx)
		},
		Alive: func() bool { return pulse.Alive(stuckAfter) && work.Alive(idleAfter) },
	}
	// What is watched for the election begins when the election does.
	watch := func(name string, run func(context.Context) error) {
		p.Tasks = append(p.Tasks, daemon.NewTask(name, func(ctx context.Context) error {
			select {
			case <-eng.Ready():
				return run(ctx)
			case <-ctx.Done():
				return nil
			}
		}))
	}
	if len(c.Tracks) > 0 {
		watch("tracks", track.New(trackConfig(c.Tracks), eng, log).Run)
	}
	for _, w := range witnessConfig(c, cfg) {
		watch("witness of "+w.Group, track.NewWitness(w, eng, log).Run)
	}
	if c.Metrics.IsValid() {
		p.Tasks = append(p.Tasks, web(c.Metrics, c.MetricsConfig, eng, server, board, pulse, starts, log)...)
	}
	if err := lockMemory(); err != nil {
		log.Warn("memory is not locked: a takeover may wait for a disk", "err", err)
	}
	keepTo(c, log)
	return p.Run(context.Background())
}

// trusted returns the users that may change things.
func trusted() []uint32 {
	ids := []uint32{uint32(os.Geteuid())}
	for _, name := range daemonUsers() {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if id, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

// control is the task that serves clients. It begins when the engine does, so
// that a client never meets a daemon that is not there yet.
type control struct {
	path   string
	server *api.Server
	eng    *engine.Engine
	ready  chan struct{}
}

func newControl(path string, server *api.Server, eng *engine.Engine) *control {
	return &control{path: path, server: server, eng: eng, ready: make(chan struct{})}
}

func (c *control) Ready() <-chan struct{} { return c.ready }
func (c *control) String() string         { return "control socket" }

func (c *control) Run(ctx context.Context) error {
	select {
	case <-c.eng.Ready():
	case <-ctx.Done():
		return nil
	}
	l, err := api.Listen(c.path)
	if err != nil {
		return err
	}
	defer l.Release()
	close(c.ready)
	return c.server.Serve(ctx, l.UnixListener)
}

// poke keeps the pulse of an idle engine beating.
func poke(ctx context.Context, eng *engine.Engine) error {
	t := time.NewTicker(pokeEach)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			eng.Poke()
		}
	}
}

// dump writes the state to the log.
func dump(eng *engine.Engine, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	groups, err := eng.Status(ctx)
	if err != nil {
		daemon.LogError(log, "state cannot be read", err)
		return
	}
	for _, g := range groups {
		log.Info("group", "name", g.Group, "state", g.State, "reason", g.Reason, "term", g.Term,
			"blocked", g.Blocked, "demotion", g.Demotion, "clients", fmt.Sprint(g.Clients))
	}
}

var errStuck = errors.New("election does not make progress")
