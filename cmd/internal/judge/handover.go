package judge

import (
	"cmp"
	"slices"
)

// Handover judges an order to hand one group over now: to the peer that is named, or
// to any for "". It finds what [Judge] finds of this group; with a name, what is wrong
// with that peer counts even if another standby is better.
func Handover(node string, own *Facts, peers []Peer, group, to string) Verdict {
	only := *own
	only.Groups = slices.DeleteFunc(slices.Clone(own.Groups), func(g Group) bool { return g.Name != group })
	if to != "" {
		peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool {
			return p.Name != to && p.Connected && p.role(group) != "MASTER"
		})
	}
	return Judge(node, &only, peers)
}

// Successors returns the names of the peers that could take the group over, the one
// first that advertises the highest priority. to is as in [Handover].
func Successors(node string, own *Facts, peers []Peer, group, to string) []string {
	able := []*Peer{}
	for i := range peers {
		p := &peers[i]
		if !p.Connected || to != "" && p.Name != to || p.role(group) != "BACKUP" {
			continue
		}
		v := Handover(node, own, peers, group, p.Name)
		if !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Member == p.Name && f.Severity == Fails }) {
			able = append(able, p)
		}
	}
	slices.SortStableFunc(able, func(a, b *Peer) int {
		return cmp.Compare(a.Facts.group(group).rank(),
			b.Facts.group(group).rank())
	})
	names := []string{}
	for _, p := range able {
		names = append(names, p.Name)
	}
	return names
}

// role is what the peer last said that it is of a group, "" if it has not said it.
func (p *Peer) role(group string) string {
	if g := p.Facts.group(group); g != nil {
		return g.Role
	}
	for _, s := range p.Seen {
		if s.Name == group {
			return s.Role
		}
	}
	return ""
}

// lastRank is the rank of who has not told its priority.
const lastRank = 1 << 16

// rank orders standbys as the election does: the lowest is the next MASTER. One that
// has not told its priority comes last.
func (g *Group) rank() int {
	if g == nil || g.Carp == nil {
		return lastRank
	}
	best := lastRank
	for _, in := range g.Carp.Instances {
		for _, r := range in.Routers {
			rank := 255 - int(r.Priority)
			if in.Protocol == "carp" {
				rank = int(r.AdvBase)<<8 + int(r.AdvSkew)
			}
			best = min(best, rank)
		}
	}
	return best
}
