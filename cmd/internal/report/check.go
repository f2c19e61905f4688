package report

import (
	"fmt"
	"slices"
	"strings"

	"sasyncd/sync/engine"
)

// lagLimit is how many seconds a standby may be behind.
const lagLimit = 5

// Check judges a status: would a failover work now?
func Check(s engine.Status, peers []Peer) Verdict {
	v := Verdict{Reasons: []Problem{}, Warnings: []Problem{}}
	add := func(group, what, remedy string) { v.Reasons = append(v.Reasons, Problem{group, what, remedy}) }
	if len(s.Members) == 0 {
		what, remedy := "no peer is connected", unconnected("")
		if len(peers) == 1 && peers[0].Trouble != "" {
			what, remedy = what+": "+peers[0].Trouble, unconnected(peers[0].Trouble)
		}
		add("", what, remedy)
	}
	for _, p := range peers {
		if !p.Connected && (len(s.Members) > 0 || len(peers) > 1) {
			what := "peer " + p.Name + " is not connected"
			if p.Trouble != "" {
				what += ": " + p.Trouble
			}
			v.Warnings = append(v.Warnings, Problem{"", what, unconnected(p.Trouble) + "; if it is gone for good, remove it from sasyncd.conf"})
		}
	}
	for _, g := range s.Groups {
		checkGroup(s, g, func(what, remedy string) { add(g.Name, what, remedy) })
	}
	v.Fit = len(v.Reasons) == 0
	v.Summary = "a failover would work"
	if !v.Fit {
		v.Summary = "a failover would not work"
	}
	return v
}

// unconnected is what to do about a peer, by what went wrong at the last attempt.
func unconnected(trouble string) string {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(trouble, w) })
	}
	switch {
	case has("shared key"):
		return "the shared keys differ: compare `sha256sum` of the key files on both nodes"
	case has("protocol version"):
		return "upgrade the older node"
	case has("node id", "have the id", "same node"):
		return "give each node a state directory of its own"
	case has("connection refused", "shutdown"):
		return "start sasyncd there; if it runs, see its `listen on` and port"
	case has("no route", "unreachable", "timed out", "i/o timeout", "deadline"):
		return "see cable, addresses and firewall between the nodes: TCP to its port"
	}
	return "see the log of both nodes: address, port 500, shared key, firewall"
}

func checkGroup(s engine.Status, g engine.GroupStatus, add func(what, remedy string)) {
	switch g.Role {
	case "MASTER":
		for _, st := range g.Standbys {
			switch {
			case !st.Complete:
				add("standby "+st.Peer+" is still receiving a snapshot", "wait for it")
			case st.Lag > lagLimit:
				add(fmt.Sprintf("standby %s is %.1f s behind", st.Peer, st.Lag), "check the load of that node and the sync link")
			}
		}
		if len(g.Standbys) == 0 && len(s.Members) > 0 {
			add("no standby follows", "see `sasyncctl status` on the peer: is its role BACKUP and its group name the same?")
		}
	case "BACKUP":
		if !g.InSync {
			add("this node is not in sync: "+g.Why, "wait, or see why no peer is MASTER")
		}
	default:
		add("the role is not known", "is carpd running, and is "+g.Name+" one of its instances?")
	}
	refused := g.Refused
	if g.Unlike > 0 {
		what := "the master's kernel is of another release"
		if g.Role == "MASTER" {
			what = "a standby's kernel is of another release"
		} else {
			refused -= g.Unlike
		}
		add(fmt.Sprintf("%d items have attributes unknown to this version, and %s", g.Unlike, what),
			"run the same kernel release on all members, or do without what these items use")
	}
	switch {
	case refused > 0 && g.Keying.Driver == "strongswan-ha":
		add(fmt.Sprintf("%d SAs in use have not been replicated by charon", refused), "see its log, and that of the MASTER's")
	case refused > 0:
		add(fmt.Sprintf("%d items are refused by this kernel", refused), "see the log: usually a missing algorithm module")
	}
	if g.Offloaded > 0 {
		add(fmt.Sprintf("%d SAs are offloaded to a device and not replicated", g.Offloaded),
			"have the IKE daemon not offload them: hardware uses the bare sequence number as IV")
	}
	if g.Uncovered > 0 {
		add(fmt.Sprintf("%d SAs cannot be kept ahead of the master", g.Uncovered), "rekey them")
	}
	if k := g.Keying; k.Error != "" {
		add("ike daemon is "+k.State+": "+k.Error, "see the log of the ike daemon")
	}
	for _, l := range g.Keying.Lint {
		add(l[0], l[1])
	}
	for _, p := range g.Peers {
		if g.Role == "MASTER" && p.Role == "MASTER" {
			add(p.Peer+" is MASTER too", "the election is split: check the links that carry the advertisements")
		}
	}
}
