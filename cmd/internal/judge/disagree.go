package judge

import (
	"fmt"
	"slices"
	"strings"
)

// acquainted finds peers that do not know each other, or have no session with each
// other. node is this gateway's id.
func acquainted(node string, peers []Peer) (list []Finding) {
	apart := make(map[[2]string]bool)
	for i := range peers {
		p := &peers[i]
		if !p.fresh() || p.Facts.Peers == nil {
			continue
		}
		whole := !slices.ContainsFunc(p.Facts.Peers, func(k Known) bool { return k.Node == "" })
		lacks := func(name string) {
			list = append(list, finding(PeersDiffer, p.Name, "", "its configuration does not name "+name+" as a peer"))
		}
		if whole && p.knows(node) == nil {
			lacks("this gateway")
		}
		for j := range peers {
			q := &peers[j]
			if i == j || q.Node == "" {
				continue
			}
			switch k := p.knows(q.Node); {
			case k == nil && whole:
				lacks(q.Name)
			case k != nil && !k.Connected && q.Connected && !apart[[2]string{q.Name, p.Name}]:
				apart[[2]string{p.Name, q.Name}] = true
				list = append(list, finding(PeersApart, p.Name, "", "it has no session with "+q.Name+
					", and this gateway has one with both"))
			}
		}
	}
	return list
}

// knows returns what the peer's configuration has about a node, nil for nothing.
func (p *Peer) knows(node string) *Known {
	if i := slices.IndexFunc(p.Facts.Peers, func(k Known) bool { return k.Node == node }); i >= 0 {
		return &p.Facts.Peers[i]
	}
	return nil
}

// follows compares what a standby says of whom it follows with who is MASTER.
func follows(m, master *member, group string) []Finding {
	if m.group == nil || m.group.Following == nil || master == nil {
		return nil
	}
	cause := ""
	switch *m.group.Following {
	case master.node:
		return nil
	case "":
		cause = "it says that it follows nobody, and " + master.name + " is MASTER"
	default:
		cause = "it follows another node than the MASTER, " + master.name
	}
	return []Finding{finding(NotFollowing, m.name, group, cause)}
}

// hearsay finds a MASTER of which only a member tells: this gateway has no session
// with it.
func hearsay(node string, members []member, masters []*member, group string, peers []Peer) (list []Finding) {
	told := make(map[string]bool)
	for _, m := range members {
		if m.group == nil {
			continue
		}
		for _, o := range m.group.Others {
			known := o.Node == node || slices.ContainsFunc(members, func(x member) bool { return x.node == o.Node })
			if o.Role != "MASTER" || known || told[o.Node] || len(masters) == 0 {
				continue
			}
			told[o.Node] = true
			name := "node " + o.Node
			if i := slices.IndexFunc(peers, func(p Peer) bool { return p.Node == o.Node }); i >= 0 {
				name = peers[i].Name
			}
			list = append(list, finding(TwoMasters, "", group, fmt.Sprintf(
				"%s is MASTER, and so is %s, which %s sees and this gateway does not", masters[0].name, name, m.name)))
		}
	}
	return list
}

// unheard finds an instance of the MASTER whose advertisements no standby hears.
func unheard(master *member, standbys []*member, group string) (list []Finding) {
	if master == nil || master.group == nil || master.group.Carp == nil {
		return nil
	}
	for _, in := range master.group.Carp.Instances {
		for _, r := range in.Routers {
			var deaf []string
			for _, m := range standbys {
				if m.group == nil || m.group.Carp == nil {
					continue
				}
				if x := m.group.Carp.router(in.Name, r.Family); x != nil && x.Expired && m.role == "BACKUP" {
					deaf = append(deaf, m.name)
				}
			}
			if len(deaf) > 0 && len(deaf) == len(standbys) {
				f := finding(MasterUnheard, master.name, group,
					fmt.Sprintf("nobody hears its advertisements of %s %s on %s (not %s): the others take over as "+
						"soon as they may",
						in.Name, r.Family, in.Interface, strings.Join(deaf, ", not ")))
				f.Remedy = strings.Replace(f.Remedy, "INTERFACE", in.Interface, 1)
				list = append(list, f)
			}
		}
	}
	return list
}

// router returns an instance in an address family, nil if there is none.
func (c *Carp) router(instance, family string) *Router {
	for i := range c.Instances {
		if c.Instances[i].Name != instance {
			continue
		}
		for j := range c.Instances[i].Routers {
			if r := &c.Instances[i].Routers[j]; r.Family == family {
				return r
			}
		}
	}
	return nil
}
