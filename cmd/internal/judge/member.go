package judge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// member is a gateway of a group.
type member struct {
	name  string // as Finding.Member
	node  string
	peer  *Peer // nil for this gateway
	facts *Facts
	group *Group // nil: it has not told
	role  string
}

// elects reports whether the member's election can be reached, or nothing is told of it.
func (m *member) elects() bool { return m.group == nil || m.group.Elector == "" }

// serves finds what is wrong with a MASTER.
func serves(m *member, group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	list = append(list, m.common(group)...)
	g := m.group
	if g == nil {
		return list
	}
	if len(g.Missing) > 0 {
		add(VIPMissing, "the kernel of the MASTER does not have "+addresses(g.Missing))
	}
	if c := g.Carp; c != nil {
		if c.Fenced {
			add(MasterFenced, "it is MASTER and its fence is set: nothing leaves from the VIPs")
		}
		if c.Held != "" {
			add(Held, "nothing is forwarded: "+c.Held)
		}
	}
	if g.Offloaded > 0 {
		add(Offloaded, count(g.Offloaded, "SA")+" offloaded to a device and not replicated")
	}
	return append(list, m.tunnels(group)...)
}

// stands finds why a standby could not take over. master is nil where there is not
// exactly one.
func stands(m, master *member, group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	list = append(list, m.common(group)...)
	if m.role != "BACKUP" {
		reason := ""
		if m.group != nil {
			reason = m.group.Reason
		}
		add(NotBackup, "it is "+cmp.Or(m.role, "INIT")+", not BACKUP"+colon(reason))
	}
	if master != nil && master.group != nil {
		if i := slices.IndexFunc(master.group.Standbys, func(s Standby) bool { return s.Node == m.node }); i >= 0 {
			switch s := master.group.Standbys[i]; {
			case !s.Complete:
				add(Receiving, "it is still receiving a snapshot")
			case s.Lag > lagLimit:
				add(Lags, fmt.Sprintf("it is %.1f s behind the MASTER", s.Lag))
			}
		} else {
			add(NotFollowing, "it does not follow the MASTER")
		}
	}
	if !slices.ContainsFunc(list, func(f Finding) bool { return f.Code == NotFollowing }) {
		list = append(list, follows(m, master, group)...)
	}
	g := m.group
	if g == nil {
		if m.peer != nil && slices.ContainsFunc(m.peer.Seen, func(s Seen) bool {
			return s.Name == group &&
				!s.InSync
		}) {
			add(NotInSync, "it is not in sync")
		}
		return list
	}
	if !g.InSync {
		add(NotInSync, "it is not in sync"+colon(g.Why))
	}
	if refused := g.Refused - g.Unlike; refused > 0 {
		if g.Keying.Driver == "strongswan-ha" {
			add(RefusedHA, "charon has not replicated "+count(refused, "SA")+" in use")
		} else {
			add(Refused, "its kernel refuses "+count(refused, "item"))
		}
	}
	if g.Unlike > 0 {
		add(Unlike, count(g.Unlike, "item")+" with attributes of another kernel release cannot be installed")
	}
	if g.Reduced > 0 {
		add(Reduced, "its kernel holds "+count(g.Reduced, "SA")+" without NAT keepalives or the number of a CPU")
	}
	if g.Uncovered > 0 {
		add(Uncovered, count(g.Uncovered, "SA")+" cannot be kept ahead of the MASTER")
	}
	if c := g.Carp; c != nil && c.Blocked != "" && g.InSync {
		add(Blocked, "it would not take over: "+c.Blocked)
	}
	if master != nil && master.group != nil {
		list = append(list, alike(m, master, group)...)
		list = append(list, demoted(m, master, group)...)
		list = append(list, keyless(m, master, group)...)
	}
	return list
}

// common finds what is wrong with a member in any role.
func (m *member) common(group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	if m.group == nil {
		switch {
		case !m.peer.Tells:
			add(OldPeer, "its version does not report what a failover needs")
		case m.peer.Facts == nil || m.peer.Age > reportLimit:
			add(NoReport, "it has not reported for 15 s")
		case len(m.peer.Facts.LeftOut) > 0:
			add(NoReport, "its report would be too long and leaves this group out")
		default:
			add(NoReport, "its report has nothing about this group")
		}
		return list
	}
	g := m.group
	if g.Elector != "" {
		add(ElectorLost, "the election cannot be reached: "+g.Elector)
	}
	if off := m.forwardsNot(); off != "" {
		add(ForwardingOff, "its kernel does not forward "+off)
	}
	list = append(list, m.settings(group)...)
	list = append(list, m.routing(group)...)
	if c := g.Carp; c != nil && c.StateError != "" {
		add(StateUnwritable, "carpd cannot write its state directory, and forgets terms at its next start: "+
			c.StateError)
	}
	list = append(list, m.electedElsewhere(group)...)
	list = append(list, m.keying(group)...)
	return append(list, m.election(group)...)
}

// forwardsNot names the address families of the group's VIPs that are not forwarded.
func (m *member) forwardsNot() string {
	var off []string
	has := func(f func(netip.Addr) bool) bool { return slices.ContainsFunc(m.group.VIPs, f) }
	if no(m.facts.Forward4) && has(netip.Addr.Is4) {
		off = append(off, "IPv4")
	}
	if no(m.facts.Forward6) && has(netip.Addr.Is6) {
		off = append(off, "IPv6")
	}
	return strings.Join(off, " and ")
}

func no(b *bool) bool { return b != nil && !*b }

// alike compares what must be equal on, or must differ between, a standby and its
// MASTER.
func alike(m, master *member, group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	a, b := m.group, master.group
	lacks := without(b.VIPs, a.VIPs)
	more := without(a.VIPs, b.VIPs)
	switch {
	case len(lacks) > 0 && len(more) > 0:
		add(VIPsDiffer, "its VIPs differ from the MASTER's: it lacks "+addresses(lacks)+" and has "+addresses(more))
	case len(lacks) > 0:
		add(VIPsDiffer, "it lacks "+addresses(lacks)+", which the MASTER has")
	case len(more) > 0:
		add(VIPsDiffer, "it has "+addresses(more)+", which the MASTER lacks")
	}
	if a.Carp == nil || b.Carp == nil {
		return list
	}
	for _, in := range b.Carp.Instances {
		i := slices.IndexFunc(a.Carp.Instances, func(x Instance) bool { return x.Name == in.Name })
		if i < 0 {
			add(InstanceMissing, "it has no instance "+in.Name)
			continue
		}
		x := a.Carp.Instances[i]
		if x.Protocol != in.Protocol || x.ID != in.ID {
			add(IDsDiffer, fmt.Sprintf("its %s is %s with id %d, the MASTER's %s with id %d", in.Name, x.Protocol, x.ID,
				in.Protocol, in.ID))
			continue
		}
		for _, r := range in.Routers {
			if slices.ContainsFunc(x.Routers, func(o Router) bool {
				return o.Family == r.Family && o.Priority == r.Priority && o.AdvBase == r.AdvBase &&
					o.AdvSkew == r.AdvSkew
			}) && a.Carp.Demotion == b.Carp.Demotion {
				add(SamePriority, in.Name+" "+r.Family+
					" has the priority of the MASTER's: addresses decide who is MASTER after both started")
				break
			}
		}
	}
	return list
}

// without returns those of a that are not in b.
func without(a, b []netip.Addr) (out []netip.Addr) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
