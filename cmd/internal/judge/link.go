package judge

import (
	"fmt"
	"slices"
	"strings"
)

// Sight is what a member without a session says of itself by way of another. It is a
// hint, of a member that holds the key.
type Sight struct {
	Via   string  // name of the member that passes it on
	Age   float64 // seconds
	Roles []Seen  // without InSync
	// MasterOf is of which groups it is MASTER, by the names that are shown.
	MasterOf []string
}

// Sentence says where a member is seen, for people: what follows its name.
func (s *Sight) Sentence() string {
	of := ""
	if len(s.MasterOf) > 0 {
		of = " and MASTER of " + strings.Join(s.MasterOf, ", ")
	}
	return fmt.Sprintf("is alive%s, seen by way of %s %.1f s ago: the link between you is cut", of, s.Via, s.Age)
}

func (s *Sight) masterOf() (groups []string) {
	if s == nil {
		return nil
	}
	for _, r := range s.Roles {
		if r.Role == "MASTER" {
			groups = append(groups, r.Name)
		}
	}
	return groups
}

// cut is the finding about a peer that is seen by way of another. The MASTER of a group
// of this gateway cannot be judged from here.
func cut(own *Facts, p *Peer) Finding {
	f := finding(LinkCut, p.Name, "", "it "+p.Sight.Sentence())
	if slices.ContainsFunc(p.Sight.masterOf(), func(g string) bool { return own.group(g) != nil }) {
		f.Severity = Unknown
		f.Remedy = "run `sasyncctl check` on " + p.Sight.Via + "; " + f.Remedy
	}
	return f
}

// apart finds the links that are cut between peers to which this gateway has sessions.
func apart(peers []Peer) (list []Finding) {
	sees := func(a, b *Peer) bool {
		return a.Facts != nil && a.Age <= reportLimit && b.Node != "" && slices.Contains(a.Facts.Apart, b.Node)
	}
	for i := range peers {
		for j := range i {
			a, b := &peers[j], &peers[i]
			if a.Connected && b.Connected && (sees(a, b) || sees(b, a)) {
				list = append(list, finding(LinkCut, a.Name, "", "the link between it and "+b.Name+
					" is cut: one sees the other by way of another gateway only"))
			}
		}
	}
	return list
}

// elsewhere reports whether a member of which only others tell is MASTER of a group.
func elsewhere(peers []Peer, group string) bool {
	return slices.ContainsFunc(peers, func(p Peer) bool {
		return !p.Connected && slices.Contains(p.Sight.masterOf(),
			group)
	})
}
