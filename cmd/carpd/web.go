package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/engine"
	"sasyncd/carp/track"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/page"
)

// stateMessage is what the engine logs at a change of state.
const stateMessage = "state"

// board makes the status page.
type board struct {
	recorder *page.Recorder
	history  *page.History
	started  time.Time
	host     string
	status   func(context.Context) ([]api.GroupState, error)
	tracks   []track.Config
}

func newBoard() *board {
	host, err := os.Hostname()
	if err != nil {
		host = "this gateway"
	}
	return &board{recorder: page.NewRecorder(stateMessage), started: time.Now(), host: host,
		history: page.NewHistory([2]string{"advertisements heard", "/s"}, [2]string{"advertisements sent", "/s"})}
}

// web returns the listener for metrics, health and the status page.
func web(addr netip.AddrPort, config string, eng *engine.Engine, server *api.Server, b *board,
	pulse *daemon.Pulse, starts uint64, log *slog.Logger) []daemon.Task {
	b.status = daemon.Recent(eng.Status)
	alive := func() error {
		if !pulse.Alive(stuckAfter) {
			return errStuck
		}
		return nil
	}
	reg := registry(newCollector(b.status, b.tracks), starts)
	w := daemon.NewWeb(addr, log, reg, alive, b.ready)
	w.Config = config
	reg.MustRegister(daemon.NewRefusalCounts("carpd", map[string]func(func(string, uint64)){
		"control": server.Refused, "metrics": w.Refused.Each}))
	w.Handle("/{$}", page.HTML())
	w.Handle("/status.json", page.JSON(b.page))
	return []daemon.Task{w, daemon.NewTask("status page", b.run)}
}

// ready reports whether the node is MASTER or would become it.
func (b *board) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	groups, err := b.status(ctx)
	if err != nil {
		return err
	}
	if p := problems(groups); len(p) > 0 {
		return fmt.Errorf("%s", p[0].What)
	}
	return nil
}

func problems(groups []api.GroupState) []page.Problem {
	var out []page.Problem
	for i := range groups {
		switch g := &groups[i]; {
		case g.State == api.StateInit:
			out = append(out, page.Problem{What: "group " + g.Group + ": an interface or its address is missing",
				Remedy: "see `carpctl show`"})
		case g.State != api.StateMaster && g.Blocked != "":
			out = append(out, page.Problem{What: "group " + g.Group + " would not take over: " + g.Blocked,
				Remedy: "see `sasyncctl check` and `carpctl doctor`"})
		}
	}
	return out
}

// run collects what the plots show.
func (b *board) run(ctx context.Context) error {
	var in, out page.Rate
	return b.history.Run(ctx, func(ctx context.Context) ([]float64, error) {
		groups, err := b.status(ctx)
		var heard, sent uint64
		for i := range groups {
			for _, inst := range groups[i].Instances {
				for j := range inst.Routers {
					heard, sent = heard+inst.Routers[j].Received, sent+inst.Routers[j].Sent
				}
			}
		}
		now := time.Now()
		return []float64{in.Next(now, heard), out.Next(now, sent)}, err
	})
}

// page returns the status of the moment.
func (b *board) page(ctx context.Context) (page.Status, error) {
	groups, err := b.status(ctx)
	if err != nil {
		return page.Status{}, err
	}
	now := time.Now()
	out := page.Status{Program: "carpd", Version: daemon.Version("carpd"), Host: b.host, Time: now, Started: b.started,
		Problems: problems(groups), Plots: b.history.Plots(), Events: b.recorder.Events(),
		Failovers: b.recorder.Failovers()}
	out.Fit, out.Summary = len(out.Problems) == 0, "this gateway is master or would take over"
	if !out.Fit {
		out.Summary = "this gateway would not take over"
	}
	self := page.Gateway{Name: b.host, Self: true, Up: true, Roles: map[string]string{}}
	others := map[string]page.Gateway{}
	for i := range groups {
		g := &groups[i]
		self.Roles[g.Group] = strings.ToUpper(g.State)
		out.Groups = append(out.Groups, groupOf(g, now))
		measured(out.Failovers, g, now)
		for _, inst := range g.Instances {
			for j := range inst.Routers {
				r := &inst.Routers[j]
				name := inst.Name + " " + r.Family
				out.Peers = append(out.Peers, routerOf(name, r))
				// Who is heard is master; a backup is silent.
				if r.Peer.IsValid() && r.HeardMS < r.DownMS && g.State != api.StateMaster {
					others[g.Group] = page.Gateway{Name: r.Peer.String(), Up: true,
						Roles: map[string]string{g.Group: "MASTER"}}
				}
			}
		}
	}
	out.Gateways = []page.Gateway{self}
	for i := range groups {
		if gw, ok := others[groups[i].Group]; ok && !slices.ContainsFunc(out.Gateways,
			func(o page.Gateway) bool { return o.Name == gw.Name }) {
			out.Gateways = append(out.Gateways, gw)
		}
	}
	return out, nil
}

// measured adds the gap to the change that it belongs to.
func measured(list []page.Failover, g *api.GroupState, now time.Time) {
	if g.Takeover == nil {
		return
	}
	at := now.Add(-time.Duration(g.Takeover.AgeMS) * time.Millisecond)
	for i := range list {
		if f := &list[i]; f.Group == g.Group && f.To == "MASTER" && f.Time.Sub(at).Abs() < 2*time.Second {
			f.Gap = float64(g.Takeover.GapMS) / 1000
			return
		}
	}
}

func groupOf(g *api.GroupState, now time.Time) page.Group {
	out := page.Group{Name: g.Group, Role: strings.ToUpper(g.State),
		Since:  now.Add(-time.Duration(g.AgeMS) * time.Millisecond),
		Reason: g.Reason, Term: g.Term, VIPs: g.Addresses(), InSync: g.Blocked == "" || g.State == api.StateMaster,
		Why: g.Blocked}
	add := func(name, format string, v ...any) {
		out.Details = append(out.Details, page.Detail{Name: name, Value: fmt.Sprintf(format, v...)})
	}
	add("term", "%d", g.Seen)
	add("demotion", "%d", g.Demotion)
	if g.Fenced {
		add("fence", "set")
	} else {
		add("fence", "open")
	}
	if g.OutageMS >= 0 {
		add("outage if the master died", "%d ms", g.OutageMS)
	}
	if len(g.Clients) > 0 {
		add("clients", "%s", strings.Join(g.Clients, " "))
	}
	return out
}

func routerOf(name string, r *api.RouterState) page.Peer {
	out := page.Peer{Name: name, State: strings.ToUpper(r.State)}
	add := func(name, format string, v ...any) {
		out.Details = append(out.Details, page.Detail{Name: name, Value: fmt.Sprintf(format, v...)})
	}
	if r.Peer.IsValid() {
		add("heard", "%s %.1f s ago", r.Peer, float64(r.HeardMS)/1000)
	}
	add("sent", "%d", r.Sent)
	add("received", "%d", r.Received)
	for _, x := range r.Refusals {
		add(x.Kind, "%d", x.Count)
	}
	return out
}
