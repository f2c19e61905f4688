package judge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Answer is the answer to "would a failover work now?".
type Answer uint8

// Answers.
const (
	Yes Answer = iota + 1
	No
	CannotTell
)

// String is the answer as a sentence.
func (a Answer) String() string {
	switch a {
	case Yes:
		return "a failover would work"
	case No:
		return "a failover would not work"
	}
	return "cannot tell whether a failover would work"
}

// Severity says what a finding means for a failover.
type Severity uint8

// Severities, the worst first.
const (
	Fails   Severity = iota + 1 // a failover would not work
	Unknown                     // it cannot be told whether it would
	Costs                       // it would work, and cost more than it has to
	Odd                         // wrong, without a consequence for a failover
)

// String names the severity for -j.
func (s Severity) String() string {
	return [...]string{"", "fails", "unknown", "costs", "odd"}[s]
}

// Finding is something that is wrong.
type Finding struct {
	Code     Code
	Severity Severity
	Group    string // "" where it is about no group alone
	Member   string // the peer's name, ThisGateway, or "" where it is about no member alone
	Cause    string
	Remedy   string
}

// Verdict is the judgement.
type Verdict struct {
	Answer   Answer
	Findings []Finding // the worst first
}

// Limits, in seconds.
const (
	lagLimit    = 5  // how far a standby may be behind
	reportLimit = 15 // how old a report may be; they come every 5 s
)

// ThisGateway is the Member of findings about the gateway that judges.
const ThisGateway = "this gateway"

// Judge decides from what this gateway and its peers report. node is this
// gateway's id.
func Judge(node string, own *Facts, peers []Peer) Verdict {
	var v Verdict
	add := func(f ...Finding) { v.Findings = append(v.Findings, f...) }
	connected := 0
	for i := range peers {
		if peers[i].Connected {
			connected++
		}
	}
	for i := range peers {
		if p := &peers[i]; !p.Connected && p.Sight != nil {
			add(cut(own, p))
		} else if !p.Connected {
			f := finding(unconnected[p.Trouble], p.Name, "", "it is not connected"+colon(p.Words))
			f.Severity = Costs
			if connected == 0 {
				f.Severity = Fails
			}
			add(f)
		}
	}
	add(apart(peers)...)
	if len(peers) == 0 {
		add(finding(NoPeer, "", "", "no peer is configured"))
	}
	if len(own.Groups) == 0 {
		add(finding(NoGroup, "", "", "no group is followed"))
	}
	add(hosts(own, peers)...)
	add(acquainted(node, peers)...)
	for i := range own.Groups {
		add(judgeGroup(node, own, &own.Groups[i], peers)...)
	}
	slices.SortStableFunc(v.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	v.Answer = Yes
	if len(v.Findings) > 0 {
		switch v.Findings[0].Severity {
		case Fails:
			v.Answer = No
		case Unknown:
			v.Answer = CannotTell
		}
	}
	return v
}

// judgeGroup finds what is wrong with one group.
func judgeGroup(node string, own *Facts, g *Group, peers []Peer) (list []Finding) {
	members := []member{{name: ThisGateway, node: node, facts: own, group: g, role: g.Role}}
	for i := range peers {
		p := &peers[i]
		if !p.Connected {
			continue
		}
		m := member{name: p.Name, node: p.Node, peer: p}
		if p.Facts != nil && p.Age <= reportLimit {
			m.facts, m.group = p.Facts, p.Facts.group(g.Name)
		}
		if m.group != nil {
			m.role = m.group.Role
		} else if i := slices.IndexFunc(p.Seen, func(s Seen) bool { return s.Name == g.Name }); i >= 0 {
			m.role = p.Seen[i].Role
		} else {
			cause := "it does not follow this group"
			if others := p.follows(); others != "" {
				cause += ", but " + others
			}
			list = append(list, finding(NotInGroup, p.Name, g.Name, cause))
			continue
		}
		members = append(members, m)
	}
	var masters, standbys []*member
	for i := range members {
		// One whose election cannot be reached says what it was last.
		if members[i].role == "MASTER" && (members[i].elects() || !slices.ContainsFunc(members,
			func(m member) bool { return m.role == "MASTER" && m.elects() })) {
			masters = append(masters, &members[i])
		} else {
			standbys = append(standbys, &members[i])
		}
	}
	var master *member
	switch len(masters) {
	case 0:
		if elsewhere(peers, g.Name) {
			break // it cannot be judged from here, as is said of its link
		}
		list = append(list, finding(NoMaster, "", g.Name, "no gateway is MASTER"))
	case 1:
		master = masters[0]
		list = append(list, serves(master, g.Name)...)
	default:
		var names []string
		for _, m := range masters {
			names = append(names, m.name)
		}
		list = append(list, finding(TwoMasters, "", g.Name, "more than one gateway is MASTER: "+
			strings.Join(names, ", ")))
	}
	list = append(list, strangers(members, g.Name, len(peers))...)
	list = append(list, hearsay(node, members, masters, g.Name, peers)...)
	list = append(list, unheard(master, standbys, g.Name)...)
	list = append(list, claims(master, members, g.Name)...)
	if len(standbys) == 0 {
		if len(masters) < 2 && len(members) > 1 || len(members) == 1 && g.Role == "MASTER" && connectedTo(peers) {
			list = append(list, finding(NoStandby, "", g.Name, "no standby follows"))
		}
		return list
	}
	return append(list, successors(master, standbys, g.Name)...)
}

// successors judges the standbys: one that could take over is enough, if no other
// would be elected before it that could not serve. What is wrong with the others makes
// a failover cost more.
func successors(master *member, standbys []*member, group string) (list []Finding) {
	best, first := Fails, lastRank+1 // of those that are best, who is elected first
	var wrong [][]Finding
	for _, m := range standbys {
		found := stands(m, master, group)
		worst := Odd
		for _, f := range found {
			worst = min(worst, f.Severity)
		}
		if worst > best {
			best, first = worst, lastRank+1
		}
		if worst == best {
			first = min(first, m.group.rank())
		}
		wrong = append(wrong, found)
	}
	for i, found := range wrong {
		wins := contends(found) && standbys[i].group.rank() <= first
		for _, f := range found {
			if f.Severity < best && !(wins && f.Severity == Fails) {
				f.Severity = Costs // another standby is better
			}
			list = append(list, f)
		}
	}
	return list
}

// outside are the codes of what keeps a standby from being elected at all, or as long
// as another one could be.
var outside = []Code{ElectorLost, NotBackup, Blocked, NotInSync, NotFollowing, Receiving}

// contends reports whether a standby with such findings would be elected all the same.
func contends(found []Finding) bool {
	return !slices.ContainsFunc(found, func(f Finding) bool {
		return f.Severity == Fails && slices.Contains(outside,
			f.Code)
	})
}

func addresses(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

func connectedTo(peers []Peer) bool {
	return slices.ContainsFunc(peers, func(p Peer) bool { return p.Connected })
}

// count is a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// colon puts a reason behind what it is the reason of.
func colon(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
