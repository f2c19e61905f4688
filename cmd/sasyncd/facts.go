package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/leakguard"
	"sasyncd/cmd/sasyncd/tracker"
	"sasyncd/kernel/rules"
	"sasyncd/sync/engine"
	"sasyncd/sync/peer"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// Times of reports.
const (
	factsEvery = time.Second      // how often the facts are collected
	factsLimit = time.Second      // how long carpd may take to tell its part
	fullEvery  = 15 * time.Second // how often what takes time for each SA is counted
)

// facts collects what this gateway knows of itself, tells it to the peers, and
// judges what all have told.
type facts struct {
	node    string
	version string
	tracker string
	log     *slog.Logger
	eng     interface {
		Glance(context.Context) (engine.Status, error)
		Status(context.Context) (engine.Status, error)
		Report(context.Context, []byte) error
		Succession(ctx context.Context, order map[string][]string) error
	}
	// carp asks carpd about the group that moves an instance; nil with another
	// election. Its error is why carpd cannot be reached.
	carp  func(ctx context.Context, instance string) (*api.GroupState, error)
	peers func() []peer.Status
	seen  func() []report.Seen
	names *naming
	own   func() map[netip.Addr]bool
	// sight tells what another tracker saw last of a group; nil with carpd.
	sight   func(group string) (tracker.Observation, bool)
	repairs repairs
	host    hostFacts
	// state is why the state directory cannot be written, "" if it can.
	state func() string
	// guard is what the leak guard says of itself, if there is one.
	guard func() (leakguard.State, bool)
	// rules reads what the routing rules of other programs do.
	rules func(context.Context) (rules.Rules, error)
	// setting reads a file below /proc/sys, "" if that is not possible.
	setting func(name string) string

	cut, silent once // for Run
}

// readSetting reads a file below /proc/sys.
func readSetting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Run tells the members until ctx ends.
func (f *facts) Run(ctx context.Context) error {
	tick := time.NewTicker(factsEvery)
	defer tick.Stop()
	var full time.Time
	var counted map[string]engine.GroupStatus
	for {
		look := f.eng.Glance
		if time.Since(full) >= fullEvery {
			look, full = f.eng.Status, time.Now()
			counted = nil
		}
		s, err := look(ctx)
		if err == nil {
			if counted == nil {
				counted = make(map[string]engine.GroupStatus)
				for _, g := range s.Groups {
					counted[g.Name] = g
				}
			}
			for i := range s.Groups {
				g := &s.Groups[i]
				c := counted[g.Name]
				g.Refused, g.Unlike, g.Uncovered, g.Reduced = c.Refused, c.Unlike, c.Uncovered, c.Reduced
			}
			err = f.tell(ctx, s)
		}
		f.failing(ctx, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (f *facts) tell(ctx context.Context, s engine.Status) error {
	mine := f.collect(ctx, s)
	mine.Clock = f.host.clock(mine.Clock)
	b, err := f.encode(mine)
	if err != nil {
		return err
	}
	return errors.Join(f.eng.Report(ctx, b), f.eng.Succession(ctx, f.succession(s, mine)))
}

// succession tells for each group of which this gateway is MASTER in which order its
// standbys could take over. Of one standby there is nothing to tell.
func (f *facts) succession(s engine.Status, mine *judge.Facts) map[string][]string {
	order := make(map[string][]string)
	var peers []judge.Peer
	for _, g := range s.Groups {
		standbys := 0
		for _, p := range g.Peers {
			if p.Role == "BACKUP" {
				standbys++
			}
		}
		if g.Role != "MASTER" || standbys < 2 {
			continue
		}
		if peers == nil {
			peers = f.neighbours(s)
		}
		order[g.Name] = judge.Successors(f.node, mine, peers, g.Name, "")
	}
	return order
}

// verdict judges a status of this gateway beside what the peers have reported.
func (f *facts) verdict(ctx context.Context, s engine.Status) report.Verdict {
	return report.Judged(judge.Judge(f.node, f.collect(ctx, s), f.neighbours(s)))
}

// collect returns what this gateway knows of itself.
func (f *facts) collect(ctx context.Context, s engine.Status) *judge.Facts {
	host, _ := os.Hostname() // "" where there is none
	out := &judge.Facts{Host: host, Version: f.version, Tracker: f.tracker, Forward4: f.flag("net/ipv4/ip_forward"),
		Forward6: f.flag("net/ipv6/conf/all/forwarding"), Clock: time.Now().Unix(), StateError: f.state(),
		Groups: []judge.Group{}}
	if s, on := f.guard(); on {
		out.GuardError, out.GuardDropped = s.Trouble, s.Lately
	}
	for _, x := range f.seen() {
		out.Apart = append(out.Apart, x.Node)
	}
	if r, err := f.rules(ctx); err == nil { // else it is not told
		tellRules(r, out)
	}
	own := f.own()
	if l := s.Local; l != (scope.Local{}) {
		out.Local = &judge.Local{SAs: l.SAs, Policies: l.Policies, Example: l.Example}
	}
	out.Peers = f.acquaintances(own)
	for i := range s.Groups {
		g := &s.Groups[i]
		x := judge.Group{Name: g.Name, Role: g.Role, Reason: g.Reason, InSync: g.InSync, Why: g.Why,
			VIPs: slices.Clone(g.VIPs),
			SAs:  g.SAs, Policies: g.Policies, Refused: g.Refused, Unlike: g.Unlike, Uncovered: g.Uncovered,
			Offloaded: g.Offloaded, Reduced: g.Reduced, Carried: g.HadSAs || g.PacketsOut+g.PacketsIn > 0,
			Keying: judge.Keying{Driver: g.Keying.Driver, State: g.Keying.State, Error: g.Keying.Error,
				Lint:   g.Keying.Lint,
				Absent: g.Keying.Absent, Version: g.Keying.Version, Probed: g.Keying.Probed,
				ProbeError: g.Keying.ProbeError}}
		slices.SortFunc(x.VIPs, netip.Addr.Compare)
		if x.Role != wire.RoleMaster.String() {
			if n := nodeOf(s, g.Following); n != "" || g.Following == "" {
				x.Following = &n
			}
		}
		for _, o := range g.Peers {
			if n := nodeOf(s, o.Peer); n != "" {
				x.Others = append(x.Others, judge.Other{Node: n, Role: o.Role})
			}
		}
		for _, st := range g.Standbys {
			x.Standbys = append(x.Standbys, judge.Standby{Node: nodeOf(s, st.Peer), Complete: st.Complete, Lag: st.Lag})
		}
		if f.carp != nil {
			f.election(ctx, &x, own)
		} else {
			f.otherElection(&x, own, time.Since(g.Since))
		}
		out.Groups = append(out.Groups, x)
	}
	out.Settings = f.host.settings(out, f.setting, time.Now())
	return out
}

// election adds what carpd says of a group.
func (f *facts) election(ctx context.Context, g *judge.Group, own map[netip.Addr]bool) {
	ctx, cancel := context.WithTimeout(ctx, factsLimit)
	defer cancel()
	state, err := f.carp(ctx, g.Name)
	if err != nil {
		g.Elector = err.Error()
		return
	}
	g.Carp = carpOf(state)
	g.Carp.Repairs = f.repairs.recent(state, time.Now())
	if g.Role == wire.RoleInit.String() {
		for _, in := range state.Instances {
			if f.absent(in.Interface) {
				g.Reason = fmt.Sprintf("interface %s of instance %s does not exist", in.Interface, in.Name)
			}
		}
	}
	if g.Role == wire.RoleMaster.String() && len(own) > 0 {
		for _, a := range g.VIPs {
			if !own[bareAddr(a)] {
				g.Missing = append(g.Missing, a)
			}
		}
	}
}

// absent reports whether an interface does not exist: it has no settings, and others have.
func (f *facts) absent(device string) bool {
	return f.setting("net/ipv4/ip_forward") != "" && f.setting("net/ipv4/conf/"+device+"/forwarding") == ""
}

// flag reads a setting of the kernel that is on or off; nil if it cannot be read.
func (f *facts) flag(name string) *bool {
	switch v := f.setting(name); v {
	case "":
		return nil
	default:
		on := v != "0"
		return &on
	}
}

// neighbours is what is known of the peers.
func (f *facts) neighbours(s engine.Status) (out []judge.Peer) {
	seen := f.seen()
	for _, st := range others(f.peers(), f.own()) {
		p := judge.Peer{Name: st.Name, Connected: st.Session != nil}
		if !st.Node.IsZero() {
			p.Node = st.Node.String()
		}
		if !p.Connected {
			p.Sight = sightOf(st.Name, seen, f.names)
			p.Trouble = st.Trouble.Trouble()
			if st.Trouble != (peer.Reason{}) {
				p.Words = st.Trouble.Words()
			}
		}
		if i := slices.IndexFunc(s.Members, func(m engine.MemberStatus) bool { return m.Peer == st.Name }); i >= 0 {
			m := &s.Members[i]
			p.Node, p.Tells, p.Age = m.Node, m.Tells, m.ReportAge
			if m.Report != nil {
				x := new(judge.Facts)
				if err := json.Unmarshal(m.Report, x); err == nil {
					p.Facts = x
				}
			}
		}
		for _, g := range s.Groups {
			for _, x := range g.Peers {
				if x.Peer == st.Name {
					p.Seen = append(p.Seen, judge.Seen{Name: g.Name, Role: x.Role, InSync: x.InSync})
				}
			}
		}
		out = append(out, p)
	}
	return out
}

// nodeOf is the node id of a connected peer.
func nodeOf(s engine.Status, name string) string {
	if i := slices.IndexFunc(s.Members, func(m engine.MemberStatus) bool { return m.Peer == name }); i >= 0 {
		return s.Members[i].Node
	}
	return ""
}

// trackerName is the election that is followed, for the report.
func trackerName(c *conf.Sasyncd) string {
	if c.Lock != conf.LockNone {
		return "locked"
	}
	return string(c.Tracker.Kind)
}
