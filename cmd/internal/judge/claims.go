package judge

import (
	"fmt"
	"slices"
)

// claims finds VIPs for which another machine than the MASTER answers, or nobody does.
func claims(master *member, members []member, group string) (list []Finding) {
	if master == nil || master.group == nil || master.group.Carp == nil {
		return nil
	}
	type place struct{ instance, family, mac string }
	told := make(map[place]bool)
	for i := range members {
		m := &members[i]
		if m.group == nil || m.group.Carp == nil {
			continue
		}
		for _, in := range m.group.Carp.Instances {
			for _, r := range in.Routers {
				of := master.group.Carp.router(in.Name, r.Family)
				if of == nil || of.MAC == "" || m != master && r.Master != of.Source {
					continue // it spoke of another MASTER
				}
				for _, c := range r.Claims {
					if p := (place{in.Name, r.Family, c.MAC}); c.MAC != of.MAC && !told[p] {
						told[p] = true
						list = append(list, conflict(master, members, in, r.Family, c, group))
					}
				}
				if len(r.Silent) > 0 {
					f := finding(VIPSilent, master.name, group, fmt.Sprintf(
						"nobody answers for %s on %s, as %s finds out", some(len(r.Silent), r.Silent[0].String()),
						in.Interface, m.name))
					list = append(list, f)
				}
			}
		}
	}
	return list
}

// conflict describes a claim of another machine than the MASTER.
func conflict(master *member, members []member, in Instance, family string, c Claim, group string) Finding {
	name, who := "", c.MAC+", which is none of the gateways,"
	if i := slices.IndexFunc(members, func(x member) bool {
		if x.group == nil || x.group.Carp == nil || x.node == master.node {
			return false
		}
		r := x.group.Carp.router(in.Name, family)
		return r != nil && r.MAC == c.MAC
	}); i >= 0 {
		name, who = members[i].name, "it ("+c.MAC+")"
	}
	return finding(VIPClaimed, name, group, fmt.Sprintf("%s answers for %s on %s, and %s is MASTER",
		who, some(c.Count, c.Address.String()), in.Interface, master.name))
}

// some names one of n things.
func some(n int, one string) string {
	if n > 1 {
		return fmt.Sprintf("%s and %d more", one, n-1)
	}
	return one
}
