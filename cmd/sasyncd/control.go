package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/show"
	"sasyncd/kernel/link"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/sadb"
)

// control answers sasyncctl.
type control struct {
	eng     *engine.Engine
	members *members.Members
	seen    func() []report.Seen
	foundBy func(peer string) string
	peers   interface{ Status() []peer.Status }
	elector interface {
		HandOver(ctx context.Context, group string) error
	}
	reload func(context.Context) error
	own    func() map[netip.Addr]bool
	check  func(context.Context, engine.Status) report.Verdict
	advise adviser
	// carpdSocket is where carpd answers, "" with another election.
	carpdSocket string
	names       *naming
	leaks       leakGuarded
}

// verbs are the requests of sasyncctl.
func (k *control) verbs() map[string]daemon.Verb {
	ask := func(f func(ctx context.Context, c *daemon.Call) (any, error)) daemon.Verb {
		return daemon.Verb{Handle: func(ctx context.Context, c *daemon.Call) error {
			v, err := f(ctx, c)
			if err != nil {
				return err
			}
			return c.Send(v)
		}}
	}
	return map[string]daemon.Verb{
		"status": ask(func(ctx context.Context, _ *daemon.Call) (any, error) { return k.status(ctx) }),
		"peers": ask(func(context.Context, *daemon.Call) (any, error) {
			return report.Peers{Peers: k.known(), Members: k.gossip()}, nil
		}),
		"check": ask(func(ctx context.Context, _ *daemon.Call) (any, error) {
			s, err := k.status(ctx)
			return s.Check, err
		}),
		"diff":    ask(k.diff),
		"show":    {Handle: k.show},
		"resync":  {Changes: true, Handle: k.resync},
		"doctor":  ask(k.doctor),
		"plan":    ask(k.plan),
		"last":    ask(k.last),
		"tunnels": ask(k.tunnels),
		"guard":   ask(func(ctx context.Context, _ *daemon.Call) (any, error) { return k.leaks.answer(ctx) }),
		"guard-forget": {Changes: true, Handle: ask(func(ctx context.Context, c *daemon.Call) (any, error) {
			return k.leaks.forget(ctx, c)
		}).Handle},
		"failover": {Changes: true, Handle: k.failover},
		"reload":   {Changes: true, Handle: func(ctx context.Context, _ *daemon.Call) error { return k.reload(ctx) }},
	}
}

func (k *control) status(ctx context.Context) (report.Status, error) {
	s, err := k.eng.Status(ctx)
	if err != nil {
		return report.Status{}, err
	}
	host, _ := os.Hostname() // "" where there is none
	out := report.Status{Status: k.names.status(s), Version: daemon.Version("sasyncd"), Host: host, Peers: k.known(),
		Seen: k.seen()}
	out.Check = k.names.verdict(k.check(ctx, s))
	return out, nil
}

// known is what is known of the other nodes of the configuration.
func (k *control) known() []report.Peer {
	out := []report.Peer{}
	for _, st := range others(k.peers.Status(), k.own()) {
		p := report.Peer{Name: st.Name, Addresses: []string{}, FoundBy: k.foundBy(st.Name)}
		for _, a := range st.Addrs {
			p.Addresses = append(p.Addresses, a.String())
		}
		if !st.Node.IsZero() {
			p.Node = st.Node.String()
		}
		if st.Session != nil {
			stats := st.Session.Stats()
			p.Connected, p.Since, p.Kernel, p.RTT = true, stats.Since, st.Session.Hello().Kernel, stats.RTT.Seconds()
		} else if st.Trouble != (peer.Reason{}) {
			p.Trouble = st.Trouble.Words()
		}
		out = append(out, p)
	}
	return out
}

func bareAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// ownAddrs returns the addresses of this machine; none if they cannot be read.
func ownAddrs() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	list, err := link.NodeAddrs(context.Background(), "")
	if err != nil {
		return out
	}
	for _, a := range list {
		out[bareAddr(a)] = true
	}
	return out
}

// gossip is whom gossip tells of.
func (k *control) gossip() []report.Member {
	out, seen := []report.Member{}, k.seen()
	for _, m := range k.members.Known() {
		x := report.Member{Node: m.Node.String(), Host: m.Claim.Host, Alive: m.Alive, Direct: m.Direct,
			Addresses: m.Claim.Addrs,
			Roles:     k.names.roles(m.Claim.Roles)}
		if x.Addresses == nil {
			x.Addresses = []string{}
		}
		if i := slices.IndexFunc(seen, func(s report.Seen) bool { return s.Node == x.Node }); i >= 0 {
			x.Seen = &seen[i]
			for _, r := range seen[i].Roles { // newer than the claim
				x.Roles[r.Group] = r.Role
			}
		}
		out = append(out, x)
	}
	return out
}

// peerArg are the arguments of verbs about a peer.
type peerArg struct {
	Group string `json:"group"`
	Peer  string `json:"peer"`
}

// peerNamed returns the name that the configuration has for a peer: what an
// operator gives is that name, one of its addresses, or the first 8 digits or
// more of its node id. "" stays "".
func (k *control) peerNamed(operand string) (string, error) {
	if operand == "" {
		return "", nil
	}
	var names []string
	var found []string
	addr, addrErr := netip.ParseAddr(operand)
	for _, st := range k.peers.Status() {
		names = append(names, st.Name)
		byAddr := addrErr == nil && slices.ContainsFunc(st.Addrs,
			func(a netip.AddrPort) bool { return bareAddr(a.Addr()) == bareAddr(addr) })
		byNode := len(operand) >= 8 && !st.Node.IsZero() && strings.HasPrefix(st.Node.String(),
			strings.ToLower(operand))
		if st.Name == operand || byAddr || byNode {
			found = append(found, st.Name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", daemon.Bad("%s is no peer of the configuration: want one of %s, another address of one, or at "+
			"least 8 digits of its node id", operand, strings.Join(names, ", "))
	}
	return "", daemon.Bad("%s could be %s", operand, strings.Join(found, " or "))
}

func (k *control) diff(ctx context.Context, c *daemon.Call) (any, error) {
	var args peerArg
	if err := c.Decode(&args); err != nil {
		return nil, err
	}
	name, err := k.peerNamed(args.Peer)
	if err != nil {
		return nil, err
	}
	out := report.Diff{Peer: name}
	if name == "" {
		out.Differences, err = k.eng.Diff(ctx)
	} else {
		out.Differences, err = k.eng.Compare(ctx, name)
	}
	out.Differences = k.names.differences(out.Differences)
	return out, err
}

func (k *control) show(ctx context.Context, c *daemon.Call) error {
	args := struct {
		What    string `json:"what"`
		Verbose bool   `json:"verbose"`
		Keys    bool   `json:"keys"`
		Objects bool   `json:"objects"` // report.ShowItems instead of lines
	}{What: "all"}
	if err := c.Decode(&args); err != nil {
		return err
	}
	if args.Keys && c.Peer.UID != 0 {
		return &daemon.CallError{Code: daemon.CodeDenied, Message: "keys are shown to root only"}
	}
	snap, err := k.eng.Show(ctx)
	if err != nil {
		return err
	}
	moved, err := k.eng.LastPackets(ctx)
	if err != nil {
		return err
	}
	last := make(show.Last, len(moved))
	for key, at := range moved {
		last[key] = time.Since(at)
	}
	if args.Objects {
		return showObjects(c, args.What, args.Keys, snap, last)
	}
	flows, sad, all := show.Flows, show.SAD, show.All
	if args.Keys {
		flows, sad, all = show.FlowRules, show.SARules, show.AllRules
	}
	var out []string
	switch args.What {
	case "sa":
		out = sad(snap.SAs, args.Verbose, last)
	case "flow":
		out = flows(snap.Policies, args.Verbose)
	case "all":
		var b strings.Builder
		if err := all(&b, snap, args.Verbose, last); err != nil {
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
}

// showObjects sends SAs and policies one by one.
func showObjects(c *daemon.Call, what string, keys bool, snap *sadb.Snapshot, last show.Last) error {
	if !slices.Contains([]string{"sa", "flow", "all"}, what) {
		return daemon.Bad("show %s: want sa, flow or all", what)
	}
	if what != "sa" {
		for _, f := range show.FlowObjects(snap.Policies) {
			if err := c.Send(report.ShowItem{Flow: &f}); err != nil {
				return err
			}
		}
	}
	if what != "flow" {
		for _, a := range show.SAObjects(snap.SAs, keys, last) {
			if err := c.Send(report.ShowItem{SA: &a}); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusal turns a refusal of the engine into words with a remedy.
func refusal(err error) error {
	if r, ok := errors.AsType[*engine.Refusal](err); ok {
		return fmt.Errorf("%s %s\n  remedy: %s", r.Peer, r.Reason, r.Remedy)
	}
	return err
}
