package judge

import (
	"fmt"
	"slices"
)

// tunnels finds out whether there is anything to take over from a MASTER, and what a
// successor would not have.
func (m *member) tunnels(group string) (list []Finding) {
	g := m.group
	none := g.SAs == 0 && g.Policies == 0
	switch {
	case g.SAs == 0 && g.Carried:
		f := finding(Emptied, m.name, group, "no SA is left of those that there were since it is MASTER: "+
			"the tables were emptied, or all tunnels have ended")
		if g.Keying.Driver == "" && g.Policies > 0 {
			// Nobody is there to negotiate what the policies ask for.
			f.Severity = Fails
			f.Remedy = "have the SAs installed again: ip xfrm state; journalctl -u sasyncd says when the tables were " +
				"flushed"
		}
		list = append(list, f)
	case none:
		list = append(list, finding(NoTunnel, m.name, group,
			"no SA and no policy involves its VIPs: there is no tunnel to take over"))
	}
	l := m.facts.Local
	if l == nil || l.SAs+l.Policies == 0 || m.master() != group {
		return list
	}
	policies := count(l.Policies, "policy")
	if l.Policies != 1 {
		policies = fmt.Sprintf("%d policies", l.Policies)
	}
	cause := fmt.Sprintf("%s and %s involve no VIP and are not replicated", count(l.SAs, "SA"), policies)
	if l.Example != "" {
		cause += ", such as " + l.Example
	}
	f := finding(NotReplicated, m.name, "", cause)
	if none {
		f.Severity = Fails // all tunnels are like this
	}
	return append(list, f)
}

// master is the first of the groups that the member is MASTER of: what is about no
// group is said once.
func (m *member) master() string {
	if i := slices.IndexFunc(m.facts.Groups, func(g Group) bool { return g.Role == "MASTER" }); i >= 0 {
		return m.facts.Groups[i].Name
	}
	return ""
}
