package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/show"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
)

// verbs are the requests of sasyncctl.
func verbs(e *engine.Engine, known *members.Members, resign func(ctx context.Context, group string) error, reload func(context.Context) error) map[string]daemon.Verb {
	return map[string]daemon.Verb{
		"status": {Handle: func(ctx context.Context, c *daemon.Call) error {
			s, err := e.Status(ctx)
			if err != nil {
				return err
			}
			return c.Send(s)
		}},
		"members": {Handle: func(ctx context.Context, c *daemon.Call) error {
			out := []Known{}
			for _, m := range known.Known() {
				out = append(out, Known{Node: m.Node.String(), Alive: m.Alive, Direct: m.Direct, Host: m.Claim.Host, Addrs: m.Claim.Addrs})
			}
			return c.Send(out)
		}},
		"check": {Handle: func(ctx context.Context, c *daemon.Call) error {
			s, err := e.Status(ctx)
			if err != nil {
				return err
			}
			return c.Send(Check(s))
		}},
		"show": {Handle: func(ctx context.Context, c *daemon.Call) error {
			args := struct {
				What    string `json:"what"`
				Verbose bool   `json:"verbose"`
			}{What: "all"}
			if err := c.Decode(&args); err != nil {
				return err
			}
			snap, err := e.Show(ctx)
			if err != nil {
				return err
			}
			var out []string
			switch args.What {
			case "sa":
				out = show.SAD(snap.SAs, args.Verbose)
			case "flow":
				out = show.Flows(snap.Policies, args.Verbose)
			case "all":
				var b strings.Builder
				if err := show.All(&b, snap, args.Verbose); err != nil {
					return err
				}
				out = []string{strings.TrimSuffix(b.String(), "\n")}
			default:
				return daemon.Bad("show %s: want sa, flow or all", args.What)
			}
			for _, line := range out {
				if err := c.Send(line); err != nil {
					return err
				}
			}
			return nil
		}},
		"diff": {Handle: func(ctx context.Context, c *daemon.Call) error {
			list, err := e.Diff(ctx)
			if err != nil {
				return err
			}
			return c.Send(list)
		}},
		"resync": {Changes: true, Handle: func(ctx context.Context, c *daemon.Call) error {
			return e.Resync(ctx)
		}},
		"failover": {Changes: true, Handle: func(ctx context.Context, c *daemon.Call) error {
			var args struct {
				Group string `json:"group"`
			}
			if err := c.Decode(&args); err != nil {
				return err
			}
			s, err := e.Status(ctx)
			if err != nil {
				return err
			}
			for _, g := range s.Groups {
				if args.Group != "" && g.Name != args.Group {
					continue
				}
				if g.Role != "MASTER" {
					return fmt.Errorf("group %s: this node is %s, not MASTER", g.Name, g.Role)
				}
				return resign(ctx, g.Name)
			}
			return errors.New("no such group")
		}},
		"reload": {Changes: true, Handle: func(ctx context.Context, c *daemon.Call) error { return reload(ctx) }},
	}
}

// Known is a member that gossip tells of, perhaps without a session.
type Known struct {
	Node   string   `json:"node"`
	Host   string   `json:"host"`
	Alive  bool     `json:"alive"`
	Direct bool     `json:"direct"`
	Addrs  []string `json:"addresses"`
}

// Verdict is the answer to "would a failover work now?".
type Verdict struct {
	Fit     bool      `json:"fit"`
	Summary string    `json:"summary"`
	Reasons []Problem `json:"reasons"`
}

// Problem is one reason why it would not, and what to do.
type Problem struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Check judges a status.
func Check(s engine.Status) Verdict {
	v := Verdict{Reasons: []Problem{}}
	add := func(what, remedy string) { v.Reasons = append(v.Reasons, Problem{what, remedy}) }
	if len(s.Members) == 0 {
		add("no peer is connected", "see the log of both nodes: address, port 500, shared key, firewall")
	}
	for _, g := range s.Groups {
		name := "group " + g.Name + ": "
		switch g.Role {
		case "MASTER":
			fit := 0
			for _, st := range g.Standbys {
				if st.Complete {
					fit++
				} else {
					add(name+"standby "+st.Peer+" is still receiving a snapshot", "wait for it")
				}
				if st.Lag > 5 {
					add(fmt.Sprintf("%sstandby %s is %.1f s behind", name, st.Peer, st.Lag), "check the load of that node and the sync link")
				}
			}
			if fit == 0 && len(g.Standbys) == 0 && len(s.Members) > 0 {
				add(name+"no standby follows", "see `sasyncctl status` on the peer: is its role BACKUP and its group name the same?")
			}
		case "BACKUP":
			if !g.InSync {
				add(name+"this node is not in sync: "+g.Why, "wait, or see why no peer is MASTER")
			}
		default:
			add(name+"the role is not known", "is carpd running, and is "+g.Name+" one of its instances?")
		}
		switch {
		case g.Refused > 0 && g.Keying.Driver == "strongswan-ha":
			add(fmt.Sprintf("%s%d SAs in use have not been replicated by charon", name, g.Refused), "see its log, and that of the MASTER's")
		case g.Refused > 0:
			add(fmt.Sprintf("%s%d items are refused by this kernel", name, g.Refused), "see the log: usually a missing algorithm module")
		}
		if g.Uncovered > 0 {
			add(fmt.Sprintf("%s%d SAs cannot be kept ahead of the master", name, g.Uncovered), "rekey them")
		}
		v.Reasons = append(v.Reasons, keyingProblems(g)...)
		for _, p := range g.Peers {
			if g.Role == "MASTER" && p.Role == "MASTER" {
				add(name+p.Peer+" is MASTER too", "the election is split: check the links that carry the advertisements")
			}
		}
	}
	v.Fit = len(v.Reasons) == 0
	v.Summary = "a failover would work"
	if !v.Fit {
		v.Summary = "a failover would not work"
	}
	return v
}
