package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/page"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
)

// roleMessage is what the engine logs at a change of role.
const roleMessage = "role"

// board makes the status page.
type board struct {
	recorder *page.Recorder
	history  *page.History
	started  time.Time
	host     string

	status func(context.Context) (engine.Status, error)
	sample func(context.Context) (engine.Sample, error)
	peers  func() []peer.Status
	known  func() []members.Member
	check  func(context.Context, engine.Status) report.Verdict
	names  *naming
}

func newBoard() *board {
	host, err := os.Hostname()
	if err != nil {
		host = "this gateway"
	}
	return &board{recorder: page.NewRecorder(roleMessage), started: time.Now(), host: host,
		history: page.NewHistory([2]string{"lag", "s"}, [2]string{"counter updates", "/s"}, [2]string{"changes", "/s"})}
}

// run collects what the plots show.
func (b *board) run(ctx context.Context) error {
	var counters, records page.Rate
	return b.history.Run(ctx, func(ctx context.Context) ([]float64, error) {
		s, err := b.sample(ctx)
		now := time.Now()
		return []float64{max(s.Lag, 0), counters.Next(now, s.CountersIn+s.CountersOut), records.Next(now, s.Records)},
			err
	})
}

// page returns the status of the moment.
func (b *board) page(ctx context.Context) (page.Status, error) {
	s, err := b.status(ctx)
	if err != nil {
		return page.Status{}, err
	}
	verdict := b.names.verdict(b.check(ctx, s))
	s = b.names.status(s)
	out := page.Status{Program: "sasyncd", Version: daemon.Version("sasyncd"), Host: b.host, Time: time.Now(),
		Started: b.started,
		Fit:     verdict.Fit, Summary: verdict.Summary, Problems: []page.Problem{}, Groups: []page.Group{},
		Peers: []page.Peer{},
		Plots: b.history.Plots(), Events: b.recorder.Events(), Failovers: b.recorder.Failovers()}
	for _, p := range verdict.Reasons {
		out.Problems = append(out.Problems, page.Problem{What: p.Where() + p.What, Remedy: p.Remedy})
	}
	self := page.Gateway{Name: b.host, Self: true, Up: true, Roles: map[string]string{}}
	for i := range s.Groups {
		g := &s.Groups[i]
		self.Roles[g.Name] = g.Role
		out.Groups = append(out.Groups, groupOf(g))
		measured(out.Failovers, g)
	}
	out.Gateways = append(out.Gateways, self)
	for _, p := range b.peers() {
		gw, line := b.peer(p, &s)
		out.Gateways, out.Peers = append(out.Gateways, gw), append(out.Peers, line)
	}
	return out, nil
}

// measured adds the gap of the last failover to the change of role on this node
// that it belongs to: to MASTER, or away from it. The other node's word, and so the
// failover, is later than the end of one's own mastership.
func measured(list []page.Failover, g *engine.GroupStatus) {
	last := g.LastFailover
	if last == nil {
		return
	}
	for i := range list {
		f := &list[i]
		if f.Group == g.Name && (f.To == "MASTER") == (last.To == engine.ThisNode) &&
			last.At.Sub(f.Time).Abs() < 2*time.Second {
			f.Gap = last.GapSeconds
			return
		}
	}
}

func groupOf(g *engine.GroupStatus) page.Group {
	out := page.Group{Name: g.Name, Role: g.Role, Since: g.Since, Reason: g.Reason, Term: g.Term, VIPs: g.VIPs,
		InSync: g.InSync, Why: g.Why}
	add := func(name, format string, v ...any) {
		out.Details = append(out.Details, page.Detail{Name: name, Value: fmt.Sprintf(format, v...)})
	}
	add("SAs", "%d", g.SAs)
	add("policies", "%d", g.Policies)
	add("term", "%d", g.Term)
	if g.From != "" {
		add("counters of", "%.1f s ago", g.CounterAge)
		if g.HasLead {
			add("margin", "%d packets", g.Lead)
		}
	}
	for _, x := range []struct {
		name string
		n    int
	}{{"refused", g.Refused}, {"uncovered", g.Uncovered}, {"offloaded", g.Offloaded}, {"held deletions", g.Held}} {
		if x.n > 0 {
			add(x.name, "%d", x.n)
		}
	}
	if g.Keying.Driver != "" {
		add("IKE", "%s %s", g.Keying.Driver, g.Keying.State)
	}
	return out
}

// peer describes one, as a box and as a line.
func (b *board) peer(p peer.Status, s *engine.Status) (page.Gateway, page.Peer) {
	gw := page.Gateway{Name: p.Name, Up: p.Session != nil, Roles: map[string]string{}}
	for _, m := range b.known() {
		if m.Node == p.Node && m.Claim.Host != "" {
			gw.Name = m.Claim.Host
		}
	}
	line := page.Peer{Name: p.Name, State: "connected"}
	if p.Session == nil {
		line.State = "no session: " + p.Trouble.Words()
	}
	add := func(name, format string, v ...any) {
		line.Details = append(line.Details, page.Detail{Name: name, Value: fmt.Sprintf(format, v...)})
	}
	for i := range s.Groups {
		for _, x := range s.Groups[i].Peers {
			if x.Peer == p.Name && gw.Up {
				gw.Roles[s.Groups[i].Name] = x.Role
			}
		}
		for _, st := range s.Groups[i].Standbys {
			if st.Peer == p.Name {
				add(s.Groups[i].Name+": lag", "%.2f s", st.Lag)
				add("unconfirmed", "%d", st.Unacked)
			}
		}
	}
	for _, m := range s.Members {
		if m.Peer == p.Name {
			add("kernel", "%s", m.Kernel)
			add("session for", "%s", time.Since(m.Since).Round(time.Second))
		}
	}
	add("received", "%d KiB", p.In>>10)
	add("sent", "%d KiB", p.Out>>10)
	return gw, line
}
