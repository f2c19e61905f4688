package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
	"sasyncd/sync/engine"
)

// topEvery is how often top looks.
const topEvery = time.Second

// sample is a status and when it was taken.
type sample struct {
	report.Status
	tunnels []engine.Tunnel
	at      time.Time
}

// MarshalJSON prints a status, and the tunnels beside its fields.
func (s sample) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		report.Status
		Tunnels []engine.Tunnel `json:"tunnels"`
	}{s.Status, s.tunnels})
}

// ask fills a sample. A daemon of the release before knows no tunnels.
func (s *sample) ask(ctx context.Context, c *daemon.ControlClient) error {
	if err := c.Get(ctx, "status", nil, &s.Status); err != nil {
		return err
	}
	var t report.Tunnels
	err := c.Get(ctx, "tunnels", nil, &t)
	if ce, ok := errors.AsType[*daemon.CallError](err); ok && ce.Code == daemon.CodeUnknown {
		err = nil
	}
	s.tunnels, s.at = t.Tunnels, time.Now()
	if s.tunnels == nil {
		s.tunnels = []engine.Tunnel{}
	}
	return err
}

// top shows rates and lag each second until q, Ctrl-C or the end of the daemon.
// Without a terminal it prints a frame each second, with -j a status.
func (p *program) top(ctx context.Context) error {
	out, ok := p.out.(*os.File)
	draw := func(s, before sample) error {
		for _, l := range frame(s, before) {
			if _, err := fmt.Fprintln(p.out, l); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(p.out)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case p.flags.JSON:
		draw = func(s, _ sample) error { return printJSON(p.out, s) }
	case ok && term.Is(out):
		in, _ := p.in.(*os.File)
		screen, err := term.Open(in, out)
		if err != nil {
			return fmt.Errorf("use the terminal: %w", err)
		}
		defer screen.Close()
		draw = func(s, before sample) error { return screen.Draw(frame(s, before)) }
		if in != nil && term.Is(in) {
			go quit(in, cancel)
		}
	}
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	var before sample
	for {
		var s sample
		if err := s.ask(ctx, p.client); err != nil {
			if ctx.Err() != nil {
				return nil // as asked for
			}
			return err
		}
		if err := draw(s, before); err != nil {
			return err
		}
		before = s
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// quit ends top when q is pressed, or the terminal has gone.
func quit(in io.Reader, cancel context.CancelFunc) {
	defer cancel()
	key := make([]byte, 1)
	for {
		if n, err := in.Read(key); err != nil || n == 1 && (key[0] == 'q' || key[0] == 'Q') {
			return
		}
	}
}

// rates turns totals into numbers per second; before the second sample it knows
// none.
type rates struct{ seconds float64 }

func (r rates) of(now, before uint64) string {
	if r.seconds <= 0 || now < before {
		return "-"
	}
	return count(float64(now-before) / r.seconds)
}

// frame lays out one picture for a terminal of 80 columns and 24 rows. What is
// most important comes first, as what does not fit is cut.
func frame(s, before sample) []string {
	r := rates{}
	if !before.at.IsZero() {
		r.seconds = s.at.Sub(before.at).Seconds()
	}
	c, o := s.Counts, before.Counts
	lines := []string{
		fmt.Sprintf("%s  node %.8s  %s  every second, q quits", s.Host, s.Node, s.at.Format("15:04:05")),
		fmt.Sprintf("changes/s %s sent %s received  counters/s %s  repairs %d  kernel errors %d",
			r.of(c.RecordsSent, o.RecordsSent), r.of(c.RecordsReceived, o.RecordsReceived),
			r.of(c.CountersSent, o.CountersSent), c.Repairs, c.KernelErrors),
		"",
	}
	groups := [][]string{{"GROUP", "ROLE", "FOR", "TERM", "SAS", "FLOWS", "OUT/s", "IN/s", "LEAD"}}
	links := [][]string{{"PEER", "GROUP", "STATE", "LAG s", "PKTS", "CHANGES", "CHG/s", "CTR/s", "QUEUE"}}
	for _, g := range s.Groups {
		old := groupOf(before, g.Name)
		lead := "-"
		if g.LeadPackets > 0 {
			lead = count(float64(g.LeadPackets))
		}
		groups = append(groups, []string{named(g.Name), g.Role, ago(g.Since), fmt.Sprint(g.Term), count(float64(g.SAs)),
			count(float64(g.Policies)),
			r.of(g.PacketsOut, old.PacketsOut), r.of(g.PacketsIn, old.PacketsIn), lead})
		for _, st := range g.Standbys {
			links = append(links, standbyRow(g, st, standbyOf(old, st.Peer), r))
		}
		if g.Following != "" {
			state := "follows"
			if p := g.Snapshot; p != nil {
				state = fmt.Sprintf("%d/%d", p.Done, p.Of)
			}
			links = append(links, []string{g.Following, named(g.Name), state, fmt.Sprintf("%.2f", g.CounterAge), "-",
				"-",
				r.of(c.RecordsReceived, o.RecordsReceived), "-", "-"})
		}
	}
	lines = append(append(lines, table(groups)...), "")
	lines = append(append(lines, table(links)...), "")
	if rows := busiest(s, before, r); len(rows) > 1 {
		lines = append(append(lines, table(rows)...), "")
	}
	for _, p := range s.Peers {
		if !p.Connected {
			lines = append(lines, "peer "+p.Name+" is not connected: "+p.Trouble)
		}
	}
	for _, p := range s.Check.Reasons {
		lines = append(lines, "wrong: "+p.Where()+p.What)
	}
	for _, g := range s.Groups {
		if f := g.LastFailover; f != nil {
			lines = append(lines, "last failover of "+named(g.Name)+": "+failover(f))
		}
	}
	for i := range lines {
		lines[i] = term.Clip(lines[i], columns)
	}
	return lines
}

// topTunnels is how many tunnels a picture has.
const topTunnels = 6

// busiest are the rows of the tunnels that have carried a packet last.
func busiest(s, before sample, r rates) [][]string {
	type ends struct {
		group         string
		local, remote netip.Addr
		reqid         uint32
	}
	key := func(t engine.Tunnel) ends { return ends{t.Group, t.Local, t.Remote, t.Reqid} }
	old := map[ends]engine.Tunnel{}
	for _, t := range before.tunnels {
		old[key(t)] = t
	}
	rows := [][]string{{"TUNNEL TO", "REQID", "OUT/s", "IN/s", "BYTES OUT/s", "BYTES IN/s", "LAST PACKET"}}
	for _, t := range s.tunnels[:min(topTunnels, len(s.tunnels))] {
		o, known := old[key(t)]
		x := r
		if !known {
			x = rates{}
		}
		last := "-"
		if !t.Last.IsZero() {
			last = span(s.at.Sub(t.Last)) + " ago"
		}
		rows = append(rows, []string{t.Remote.String(), fmt.Sprint(t.Reqid), x.of(t.PacketsOut, o.PacketsOut),
			x.of(t.PacketsIn, o.PacketsIn), x.of(t.BytesOut, o.BytesOut), x.of(t.BytesIn, o.BytesIn), last})
	}
	return rows
}

func standbyRow(g engine.GroupStatus, st, old engine.StandbyStatus, r rates) []string {
	state := "in sync"
	switch {
	case st.Snapshot != nil:
		state = fmt.Sprintf("%d/%d", st.Snapshot.Done, st.Snapshot.Of)
	case !st.InSync:
		state = "behind"
	}
	return []string{st.Peer, named(g.Name), state, fmt.Sprintf("%.2f", st.Lag), count(float64(st.LagPackets)),
		fmt.Sprint(st.Unacked),
		r.of(st.Records, old.Records), r.of(st.Counters, old.Counters), count(float64(st.Queued))}
}

func groupOf(s sample, name string) engine.GroupStatus {
	for _, g := range s.Groups {
		if g.Name == name {
			return g
		}
	}
	return engine.GroupStatus{}
}

func standbyOf(g engine.GroupStatus, peer string) engine.StandbyStatus {
	for _, st := range g.Standbys {
		if st.Peer == peer {
			return st
		}
	}
	return engine.StandbyStatus{}
}
