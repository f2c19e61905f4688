package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// rolesOf is what this node is, for the members to which there is no session.
func rolesOf(groups []wire.GroupState) (out []members.Role) {
	for i := range groups {
		g := &groups[i]
		out = append(out, members.Role{Group: g.Name, Role: g.Role.String(), Term: g.Term})
	}
	return out
}

// claim is what this node tells the other members about itself.
func claim(c *conf.Sasyncd, groups []wire.GroupState, peers []peer.Status) members.Claim {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	out := members.Claim{Host: host, Addrs: reachedAt(listenAddrs(c), peers), Roles: make(map[string]string)}
	for i := range groups {
		out.Roles[groups[i].Name] = groups[i].Role.String()
	}
	return out
}

// reachedAt returns where this node can be reached: what it listens on, and for a port
// on all addresses those of its ends of the sessions.
func reachedAt(listen []string, peers []peer.Status) (out []string) {
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, at := range listen {
		host, port, err := net.SplitHostPort(at)
		if a, bad := netip.ParseAddr(host); err != nil || host != "" && (bad != nil || !a.IsUnspecified()) {
			add(at)
			continue
		}
		for i := range peers {
			if s := peers[i].Session; s != nil {
				if a := bareAddr(s.Stats().Local.Addr()); a.IsValid() && !a.IsLinkLocalUnicast() {
					add(net.JoinHostPort(a.String(), port))
				}
			}
		}
	}
	return out
}

// hintsOf returns what members without a session say of a group.
func hintsOf(list []members.Member, group string) (out []engine.Hint) {
	for i := range list {
		for _, r := range list[i].Seen.Roles {
			if r.Group == group {
				out = append(out, engine.Hint{Node: list[i].Node, Role: roleNamed(r.Role),
					Age: time.Since(list[i].Seen.At)})
			}
		}
	}
	return out
}

func roleNamed(s string) wire.Role {
	for _, r := range []wire.Role{wire.RoleMaster, wire.RoleBackup} {
		if r.String() == s {
			return r
		}
	}
	return wire.RoleInit
}

// seenOf names the members without a session, and who tells of them, by the
// configuration.
func seenOf(list []members.Member, peers []peer.Status) []report.Seen {
	out := []report.Seen{}
	for i := range list {
		x := &list[i]
		s := report.Seen{Node: x.Node.String(), Host: x.Claim.Host, Via: x.Seen.Via.String(),
			Age:  max(time.Since(x.Seen.At).Seconds(), 0),
			Peer: peerOf(x, peers), Roles: []report.SeenRole{}}
		for j := range peers {
			if peers[j].Node == x.Seen.Via {
				s.Via = peers[j].Name
			}
		}
		for _, r := range x.Seen.Roles {
			s.Roles = append(s.Roles, report.SeenRole{Group: r.Group, Role: r.Role, Term: r.Term})
		}
		out = append(out, s)
	}
	return out
}

// peerOf returns the name of the peer that a member without a session is, by its id of
// an earlier session, or by an address that it says it has; "" if none, or several,
// could be.
func peerOf(m *members.Member, peers []peer.Status) string {
	var found []string
	for i := range peers {
		p := &peers[i]
		switch {
		case p.Node == m.Node:
			return p.Name
		case p.Session != nil || !p.Node.IsZero():
		case slices.ContainsFunc(p.Addrs, func(a netip.AddrPort) bool {
			return slices.Contains(m.Claim.Addrs, netip.AddrPortFrom(bareAddr(a.Addr()), a.Port()).String())
		}):
			found = append(found, p.Name)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return ""
}

// sightOf is the judgement's part of what is seen of a peer, nil for nothing.
func sightOf(name string, list []report.Seen, names *naming) *judge.Sight {
	i := slices.IndexFunc(list, func(s report.Seen) bool { return s.Peer == name })
	if i < 0 {
		return nil
	}
	s := &list[i]
	out := &judge.Sight{Via: s.Via, Age: s.Age}
	for _, r := range s.Roles {
		out.Roles = append(out.Roles, judge.Seen{Name: r.Group, Role: r.Role})
		if r.Role == wire.RoleMaster.String() {
			out.MasterOf = append(out.MasterOf, names.shown(r.Group))
		}
	}
	return out
}
