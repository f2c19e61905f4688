package judge

import (
	"maps"
	"net/netip"
)

// Rows of TestJudge about routing rules.
func init() {
	denied := func(d Denial) func(*situation) {
		return func(s *situation) {
			d.Rule = "100: from all blackhole"
			s.facts[1].Denials = []Denial{d}
		}
	}
	from := netip.MustParsePrefix
	maps.Copy(rows, map[string]row{
		"a rule denies a VIP": {denied(Denial{Family: "ipv4", From: from("192.0.2.1/32")}), 2, No,
			RuleDenies, nil},
		"a rule denies a VIP that the node sends": {denied(Denial{Family: "ipv6", From: from("2001:db8::/32"),
			Incoming: "lo"}), 2, No, RuleDenies, nil},
		"a rule denies all of a family": {denied(Denial{Family: "ipv6"}), 2, No, RuleDenies, nil},
		"a rule denies what comes in": {denied(Denial{Family: "ipv4", Incoming: "eth0"}), 2, No, RuleDenies,
			nil},
		"a rule denies another address": {denied(Denial{Family: "ipv4", From: from("198.51.100.0/24")}), 2,
			Yes, "", nil},
		"a rule denies what comes in elsewhere": {denied(Denial{Family: "ipv4", Incoming: "eth7"}), 2, Yes, "", nil},
		"a rule denies a source that comes in": {denied(Denial{Family: "ipv4", From: from("198.51.100.0/24"),
			Incoming: "eth0"}), 2, Yes, "", nil},
		"a rule denies a family without VIPs": {func(s *situation) {
			denied(Denial{Family: "ipv6"})(s)
			s.master().VIPs, s.standby().VIPs = []netip.Addr{vip4}, []netip.Addr{vip4}
		}, 2, Yes, "", nil},
		"no rule leads anywhere": {func(s *situation) { s.facts[1].Unrouted = []string{"ipv6"} }, 2, No,
			NoRules, nil},
		"no rule leads anywhere, on a MASTER": {func(s *situation) { s.facts[0].Unrouted = []string{"ipv4"} }, 2, No,
			NoRules, nil},
	})
}
