package main

import (
	"net/netip"
	"time"

	"sasyncd/cmd/internal/judge"
	"sasyncd/sync/wire"
)

// settled is how old a role is when the addresses have followed it: other elections
// than carpd's may move them after they have told the role.
const settled = 3 * time.Second

// otherElection adds what is known of an election other than carpd's. age is that of
// the group's role.
func (f *facts) otherElection(g *judge.Group, own map[netip.Addr]bool, age time.Duration) {
	if f.sight == nil {
		return
	}
	if s, ok := f.sight(g.Name); ok {
		g.Election = &judge.Election{Standing: s.Standing.String(), Reason: s.Reason}
	}
	if age < settled || len(own) == 0 {
		return
	}
	for _, a := range g.VIPs {
		switch has := own[bareAddr(a)]; {
		case !has && g.Role == wire.RoleMaster.String():
			g.Missing = append(g.Missing, a)
		case has && g.Role == wire.RoleBackup.String() && f.tracker == judge.TrackerKeepalived:
			g.Stray = append(g.Stray, a)
		}
	}
}
