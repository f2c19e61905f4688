package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/page"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/tracker"
	"sasyncd/kernel/link"
	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// elector is one of the ways to learn the role.
type elector interface {
	engine.Elector
	Run(ctx context.Context) error
	// HandOver gives mastership away because an operator wants it.
	HandOver(ctx context.Context, group string) error
}

// audit is how often a standby checks its kernel.
const audit = 2 * time.Second

// build wires the daemon's parts.
func build(c *conf.Sasyncd, f daemon.Flags, h *privilegedLink, log *slog.Logger) (*daemon.Process, error) {
	board := newBoard()
	if c.Metrics.IsValid() {
		log = slog.New(board.recorder.Tee(log.Handler()))
	}
	k, err := xfrm.New(xfrm.Options{Logger: log, SkipOwn: true})
	if err != nil {
		return nil, err
	}
	fence, err := rules.OpenFence(false)
	if err != nil {
		return nil, err
	}
	links, err := link.Open(log)
	if err != nil {
		return nil, err
	}
	foreign, err := rules.OpenOthers()
	if err != nil {
		return nil, err
	}
	detour, err := rules.OpenDetour()
	if err != nil {
		return nil, err
	}
	port, err := xfrm.OpenEncapPort()
	if err != nil {
		return nil, err
	}
	watched := &encapWatch{Kernel: k}
	keys, err := keysOf(c)
	if err != nil {
		return nil, err
	}
	lns, err := listeners(context.Background(), c)
	if err != nil {
		return nil, err
	}
	state := daemon.OpenState(c.StateDir, "sasyncd", log)
	hello := &wire.Hello{Min: wire.MinVersion, Max: wire.MaxVersion, Caps: wire.Caps, Node: state.NodeID(),
		Boot: bootID(), Nonce: nonce(),
		Kernel: xfrm.Release(), BigEndian: binary.NativeEndian.Uint16([]byte{0, 1}) == 1, Arch: runtime.GOARCH}

	el, err := electorOf(c, k, links, log)
	if err != nil {
		return nil, err
	}
	var eng *engine.Engine
	find := newDiscovery(c, log)
	var found func(netip.Addr)
	if find.on {
		found = find.connected
	}
	mgr, err := peer.New(peer.Config{Keys: keys, Peers: peersOf(c), Listeners: lns, Log: log, Found: found,
		Hello: func() *wire.Hello {
			h := *hello
			h.WallUnix = time.Now().Unix()
			if eng != nil {
				h.Groups = eng.Groups()
			}
			return &h
		}})
	if err != nil {
		return nil, err
	}
	ss := newSessions(mgr)
	var names *naming
	if el, ok := el.(*carpdElector); ok {
		names = el.naming
	}
	find.status, find.set, find.own = mgr.Status, mgr.SetPeers, ownAddrs
	cfg := engineConfig(c, hello, fence, slog.New(names.log(log.Handler())))
	features := k.Features()
	cfg.Terms, cfg.Features = state, &features
	past := openFailovers(c.StateDir, log)
	cfg.Failovers = past
	cfg.Bypass = bypass(k, links, detour)
	cfg.Imported = func(sa *sadb.SA) bool { return xfrm.IsOurs(sa.Tag) }
	file := &static{reader: h.reader, state: c.StateDir, node: hello.Node, log: log}
	priv := h.privileged(c, log)
	ike, err := keyingOf(c, priv, file, log)
	if err != nil {
		return nil, err
	}
	if len(ike) > 0 {
		cfg.Keying = ike
	}
	if find.on {
		cfg.Expect = find.count
		find.seen = func() []members.Member { return ss.members.Sighted() }
	}
	cfg.Hints = func(group string) []engine.Hint { return hintsOf(ss.members.Sighted(), group) }
	eng = engine.New(cfg, watched, ss, el)
	// After the engine, of which its goroutines ask.
	if ss.members, err = members.New(members.Config{Node: hello.Node, Send: ss.gossip, Log: log,
		Claim: func() members.Claim { return claim(c, eng.Groups(), mgr.Status()) },
		Roles: func() []members.Role { return rolesOf(eng.Groups()) }}); err != nil {
		return nil, err
	}
	seen := func() []report.Seen { return seenOf(ss.members.Sighted(), mgr.Status()) }

	neighbours := func() []peer.Status { return others(mgr.Status(), ownAddrs()) }
	status := daemon.Recent(eng.Status) // for whoever reads pages

	// Everything serves from the start but the engine, which is ready once it
	// has read the kernel.
	reload := func(context.Context) error {
		err := reloadFrom(h.reader, f.Config, c, mgr, find)
		if err == nil {
			file.reload(ike)
		}
		return err
	}
	leaks, leakTasks, err := leakGuardOf(c, k, log)
	if err != nil {
		return nil, err
	}
	fs := &facts{node: hello.Node.String(), version: daemon.Version("sasyncd"), tracker: trackerName(c), log: log,
		eng:   eng,
		peers: mgr.Status, seen: seen, names: names, own: ownAddrs, setting: readSetting, state: state.Trouble,
		rules: foreign.Read, guard: leaks.state}
	if el, ok := el.(*carpdElector); ok {
		fs.carp = el.state
	}
	if el, ok := el.(*tracker.Elector); ok {
		fs.sight = el.Observation
	}
	judged := daemon.Recent(func(ctx context.Context) (report.Verdict, error) {
		s, err := status(ctx)
		if err != nil {
			return report.Verdict{}, err
		}
		return names.verdict(fs.verdict(ctx, s)), nil
	})
	reg := registry(sources{names.over(status), judged, neighbours, mgr.Counters(), xfrm.ErrorCounts, mgr.Closed,
		ss.members.Refused, leaks.state}, state.Start())
	ctl := &control{eng: eng, members: ss.members, seen: func() []report.Seen { return names.seen(seen()) }, peers: mgr,
		foundBy: find.by, elector: el, reload: reload,
		own: ownAddrs, check: fs.verdict, advise: fs, carpdSocket: carpdSocketOf(c), names: names,
		leaks: leaks}
	asked := daemon.NewControlServer(c.Socket, log, ctl.verbs())
	tasks := []daemon.Task{
		eng,
		daemon.NewTask("peers", ss.Run),
		daemon.NewTask("elector", el.Run),
		daemon.NewTask("report", fs.Run),
		daemon.NewTask("state directory", state.Watch),
		daemon.NewTask("failovers", past.run),
		daemon.NewTask("encapsulation port", watched.hold(port, restarter(c, priv), log)),
		daemon.NewTask("warm crypto", warmCrypto(log)),
		asked,
	}
	if find.on {
		tasks = append(tasks, daemon.NewTask("discovery", find.Run))
	}
	tasks = append(tasks, ike.tasks()...)
	guard, err := guardTask(log)
	if err != nil {
		return nil, err
	}
	tasks = append(tasks, guard)
	tasks = append(tasks, leakTasks...)
	tasks = append(tasks, file.tasks()...)
	if h.passed {
		tasks = append(tasks, h.task())
	}
	if c.Metrics.IsValid() {
		alive := func() error {
			if !eng.Alive(context.Background(), time.Second) {
				return fmt.Errorf("the engine does not answer")
			}
			return nil
		}
		fit := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			v, err := judged(ctx)
			if err != nil {
				return err
			}
			if !v.Fit {
				return fmt.Errorf("%s: %s", v.Summary, v.Reasons[0].Where()+v.Reasons[0].What)
			}
			return nil
		}
		board.check, board.names = fs.verdict, names
		board.status, board.sample, board.peers, board.known = status, eng.Sample, neighbours, ss.members.Known
		web := daemon.NewWeb(c.Metrics, log, reg, alive, fit)
		web.Config = c.MetricsConfig
		reg.MustRegister(daemon.NewRefusalCounts("sasyncd", map[string]func(func(string, uint64)){
			"control": asked.Refused.Each, "metrics": web.Refused.Each}))
		web.Handle("/{$}", page.HTML())
		web.Handle("/status.json", page.JSON(board.page))
		tasks = append(tasks, web, daemon.NewTask("status page", board.run))
	}
	var handOver func(context.Context) error
	if c.Lock == conf.LockNone && c.Tracker.Kind == conf.TrackCarpd { // no other can be asked
		handOver = func(ctx context.Context) error { return drain(ctx, eng, el) }
	}
	return &daemon.Process{
		Log: log, Notify: daemon.NewNotifier(), Tasks: tasks, Reload: reload, Drain: handOver,
		Dump: func() {
			if s, err := eng.Status(context.Background()); err == nil {
				log.Info("state", "status", fmt.Sprintf("%+v", s))
			}
		},
		Alive: func() bool { return eng.Alive(context.Background(), time.Second) },
	}, nil
}

func engineConfig(c *conf.Sasyncd, hello *wire.Hello, fence *rules.Fence, log *slog.Logger) engine.Config {
	cfg := engine.Config{
		Node: hello.Node, Nonce: hello.Nonce, Kernel: hello.Kernel, BigEndian: hello.BigEndian, Peers: len(c.Peers),
		Margin:   sadb.Margin{ESN: c.MarginESN, Legacy: c.Margin32, Interval: c.ReplayInterval, Detection: time.Second},
		Interval: c.ReplayInterval, Audit: audit, Sweep: c.FlushMode == conf.FlushStartup,
		Advance:      c.InboundAdvance,
		ForwardFlush: c.FlushMode != conf.FlushNever, Log: log,
	}
	for _, g := range c.Groups {
		cfg.Groups = append(cfg.Groups, engine.GroupConfig{Name: g.Interface, Whole: g.Interface == "",
			CountersOnly: g.Control.Kind == conf.ControlStrongswanHA})
	}
	if c.SkipSlave {
		for _, p := range c.Peers {
			for _, h := range p.Hosts {
				if a, err := netip.ParseAddr(h.String()); err == nil {
					cfg.Skip = append(cfg.Skip, a)
				}
			}
		}
	}
	if c.Lock == conf.LockNone {
		cfg.Fence = func(_ context.Context, vips []netip.Addr) error { return fence.Set(vips...) }
	}
	return cfg
}

// bypass keeps a backup's own addresses inside reachable: the detour first, so
// that nothing leaves outside, then the policies; and the other way round.
func bypass(k *xfrm.Kernel, links *link.Table, detour *rules.Detour) func(context.Context, []netip.Addr,
	[]*sadb.Policy) error {
	return func(ctx context.Context, vips []netip.Addr, policies []*sadb.Policy) error {
		var own []xfrm.Own
		if len(vips) > 0 {
			addrs, err := links.Addrs(ctx)
			if err != nil {
				return err
			}
			own = xfrm.FindOwn(addrs, vips, policies)
			if err := detour.Set(ctx, own...); err != nil {
				return err
			}
		}
		if err := errors.Join(k.Apply(ctx, xfrm.BypassOps(own, policies))...); err != nil {
			return err
		}
		if len(own) == 0 {
			return detour.Set(ctx)
		}
		return nil
	}
}

// drainLimit bounds how long a stop waits for a hand-over.
const drainLimit = 3 * time.Second

// drain hands over what this node is MASTER of, if a standby is complete, and
// waits for that. SAs and policies stay in the kernel.
func drain(ctx context.Context, eng *engine.Engine, el elector) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for asked := map[string]bool{}; ; {
		s, err := eng.Status(ctx)
		if err != nil {
			return err
		}
		waiting := false
		for _, g := range s.Groups {
			ready := false
			for _, st := range g.Standbys {
				ready = ready || st.Complete
			}
			if g.Role != "MASTER" || !ready {
				continue
			}
			waiting = true
			if !asked[g.Name] {
				asked[g.Name] = true
				if err := el.HandOver(ctx, g.Name); err != nil {
					return err
				}
			}
		}
		if !waiting {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("hand-over before the end: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// electorOf returns the source of roles that the configuration names.
func electorOf(c *conf.Sasyncd, k *xfrm.Kernel, links *link.Table, log *slog.Logger) (elector, error) {
	if c.Lock != conf.LockNone {
		role := wire.RoleBackup
		if c.Lock == conf.LockMaster {
			role = wire.RoleMaster
		}
		var states []engine.ElectorEvent
		for _, g := range c.Groups {
			states = append(states, engine.ElectorEvent{Kind: engine.ElectorState, Group: g.Interface, Role: role,
				Term: 1,
				VIPs: g.VIPs, Reason: "mode " + string(c.Lock)})
		}
		return newLockedElector(states), nil
	}
	if c.Tracker.Kind != conf.TrackCarpd {
		return trackerOf(c, k, links, log)
	}
	var names []string
	for _, g := range c.Groups {
		names = append(names, g.Interface)
	}
	return newCarpdElector(c.CarpdSocket, names, daemon.Version("sasyncd"), log), nil
}

func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:])
}

// bootID names this boot of the kernel; zero where /proc does not tell.
func bootID() (id wire.NodeID) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	hex := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if len(hex) == 32 {
		for i := range id {
			if _, err := fmt.Sscanf(hex[2*i:2*i+2], "%02x", &id[i]); err != nil {
				return wire.NodeID{}
			}
		}
	}
	return id
}
