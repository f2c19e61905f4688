package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Denial is a routing rule of another program by which the kernel drops packets before
// it looks at the table main.
type Denial struct {
	Family string `json:"family"` // ipv4 or ipv6
	// From is the source of what it drops, not valid for any. Incoming is the interface
	// that it came in by, "" for any, which is also what the gateway itself sends.
	From     netip.Prefix `json:"from,omitzero"`
	Incoming string       `json:"incoming,omitempty"`
	Rule     string       `json:"rule"` // as `ip rule` prints it
}

// routing finds routing rules that keep a member from serving the group's VIPs.
func (m *member) routing(group string) (list []Finding) {
	g := m.group
	add := func(c Code, cause, remedy string) {
		f := finding(c, m.name, group, cause)
		f.Remedy = remedy
		list = append(list, f)
	}
	of := func(family string) (out []netip.Addr) {
		for _, a := range g.VIPs {
			if a.Is4() == (family == "ipv4") {
				out = append(out, a)
			}
		}
		return out
	}
	for _, d := range m.facts.Denials {
		vips := of(d.Family)
		hit := slices.DeleteFunc(slices.Clone(vips), func(a netip.Addr) bool {
			return d.From.IsValid() &&
				!d.From.Contains(a)
		})
		var what string
		switch {
		case (d.Incoming == "" || d.Incoming == "lo") && len(hit) > 0:
			what = "nothing leaves from " + addresses(hit)
		case len(vips) > 0 && !d.From.IsValid() && g.Carp != nil &&
			slices.ContainsFunc(g.Carp.Instances, func(in Instance) bool { return in.Interface == d.Incoming }):
			what = "what comes in by " + d.Incoming + " is dropped"
		default:
			continue
		}
		pref, _, _ := strings.Cut(d.Rule, ":")
		add(RuleDenies, fmt.Sprintf("a routing rule of another program (%s) is in the way: %s", d.Rule, what),
			"see which program adds it; "+command(d.Family)+" rule del pref "+pref+" there")
	}
	for _, family := range m.facts.Unrouted {
		if len(of(family)) > 0 {
			add(NoRules, "no routing rule of "+names[family]+" leads to a table with routes", command(family)+
				" rule add pref 32766 lookup main there")
		}
	}
	return list
}

var names = map[string]string{"ipv4": "IPv4", "ipv6": "IPv6"}

// command is iproute2's for a family.
func command(family string) string {
	if family == "ipv6" {
		return "ip -6"
	}
	return "ip"
}
