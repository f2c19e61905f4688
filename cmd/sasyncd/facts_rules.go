package main

import (
	"sasyncd/cmd/internal/judge"
	"sasyncd/kernel/rules"
	"sasyncd/sync/sadb"
)

// tellRules takes over what the routing rules of other programs do.
func tellRules(r rules.Rules, out *judge.Facts) {
	family := map[sadb.Family]string{sadb.FamilyIPv4: "ipv4", sadb.FamilyIPv6: "ipv6"}
	for _, d := range r.Denials {
		out.Denials = append(out.Denials, judge.Denial{Family: family[d.Family], From: d.From, Incoming: d.Incoming,
			Rule: d.String()})
	}
	for _, f := range r.Lost {
		out.Unrouted = append(out.Unrouted, family[f])
	}
}
