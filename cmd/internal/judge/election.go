package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Kinds of refusals that are more than a refused advertisement (api.Refused names).
const (
	refusedOwn = "own"
	refusedMAC = "mac"
)

// election finds what is wrong with what carpd says of a member, in any role.
func (m *member) election(group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	g := m.group
	if g.Carp == nil {
		return nil
	}
	for _, in := range g.Carp.Instances {
		for _, r := range in.Routers {
			where := in.Name + " " + r.Family
			if r.Expired && g.Role == "BACKUP" {
				add(HearsNoMaster, where+" hears no advertisement of a MASTER on "+in.Interface)
			}
			for _, x := range r.Refusals {
				switch x.Kind {
				case refusedMAC:
					add(SameMAC, fmt.Sprintf("%v has its MAC address on %s: frames for one reach the other", x.Peer,
						in.Interface))
				case refusedOwn:
					add(SameAddress, fmt.Sprintf("%v, its own address on %s, is used by another machine: %s", x.Peer,
						in.Interface, x.Text))
				default:
					add(AdvertRefused, fmt.Sprintf("%s refuses advertisements of %v: %s", where, x.Peer, x.Text))
				}
			}
		}
	}
	for _, c := range g.Carp.Configured {
		add(VIPConfigured, fmt.Sprintf("its system has %v configured on %s: it answers for it as a BACKUP, too",
			c.Address, c.Interface))
	}
	for _, r := range g.Carp.Repairs {
		what := changed[r.Kind]
		if what == "" {
			what = "kernel state of carpd (" + r.Kind + ")"
		}
		switch {
		case r.Error != "":
			add(CannotRepair, what+" cannot be repaired: "+r.Error)
		case r.Count > 0:
			add(Repaired, fmt.Sprintf("another program changes %s: repaired %s in the last 5 minutes", what,
				count(int(r.Count), "time")))
		}
	}
	return list
}

// changed says what a kind of repair is about.
var changed = map[string]string{
	"fence": "the fence", "gate": "the IPv6 gate, which closes if carpd dies", "hold": "the rules that hold forwarding",
	"address": "the VIPs of the MASTER", "route": "the local routes of the VIPs",
	"filter": "the nftables tables of carpd",
}

// demoted compares the demotions of a standby and its MASTER.
func demoted(m, master *member, group string) []Finding {
	a, b := m.group.Carp, master.group.Carp
	if a == nil || b == nil || a.Demotion == b.Demotion {
		return nil
	}
	why := func(c *Carp) string {
		if len(c.Demotions) == 0 {
			return ""
		}
		return " (" + strings.Join(c.Demotions, ", ") + ")"
	}
	if a.Demotion > b.Demotion {
		return []Finding{finding(Demoted, m.name, group, fmt.Sprintf(
			"it is demoted by %d%s, the MASTER by %d: it would take over after a failure only, and a hand-over that "+
				"names it is refused", a.Demotion, why(a), b.Demotion))}
	}
	if !m.group.InSync || a.Blocked != "" {
		return nil // it could not take over anyway
	}
	return []Finding{finding(MasterDemoted, master.name, group, fmt.Sprintf(
		"the MASTER is demoted by %d%s, and %s by %d only", b.Demotion, why(b), m.name, a.Demotion))}
}

// strangers finds routers that advertise as MASTER with the id of an instance and are
// none of the members. Nobody is called one as long as a member has not said which
// addresses its advertisements come from. peers is how many are configured.
func strangers(members []member, group string, peers int) (list []Finding) {
	if len(members) != peers+1 {
		return nil
	}
	type place struct {
		instance, family string
		source           netip.Addr
	}
	known := make(map[place]bool)
	for _, m := range members {
		if m.group == nil || m.group.Carp == nil {
			return nil
		}
		for _, in := range m.group.Carp.Instances {
			for _, r := range in.Routers {
				known[place{in.Name, r.Family, r.Source}] = true
			}
		}
	}
	for _, m := range members {
		for _, in := range m.group.Carp.Instances {
			for _, r := range in.Routers {
				if r.Master.IsValid() && !known[place{in.Name, r.Family, r.Master}] && !slices.Contains(m.group.VIPs,
					r.Master) {
					list = append(list, finding(ForeignRouter, m.name, group, fmt.Sprintf(
						"%v, which is none of the gateways, advertises as MASTER with the id of %s (%d) on %s",
						r.Master, in.Name, in.ID, in.Interface)))
				}
			}
		}
	}
	return list
}
