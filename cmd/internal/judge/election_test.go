package judge

import "net/netip"

// Rows of TestJudge about the election.
func init() {
	source := func(s *situation) {
		for i := range s.facts {
			for j := range s.facts[i].Groups[0].Carp.Instances[0].Routers {
				s.facts[i].Groups[0].Carp.Instances[0].Routers[j].Source = netip.AddrFrom4([4]byte{192, 0, 2,
					byte(10 + i)})
			}
		}
		s.router(1).Master = s.router(0).Source
	}
	refused := func(kind string) func(*situation) {
		return func(s *situation) { s.router(0).Refusals = []Refusal{{kind, far, "as the text says"}} }
	}
	for name, tt := range map[string]row{
		"a VIP is configured on the standby": {func(s *situation) {
			s.standby().Carp.Configured = []Configured{{vip4,
				"eth3"}}
		}, 2, No, VIPConfigured, nil},
		"a VIP is configured on the MASTER": {func(s *situation) {
			s.master().Carp.Configured = []Configured{{vip4,
				"eth0"}}
		}, 2, No, VIPConfigured, nil},
		"one MAC address twice":             {refused("mac"), 2, No, SameMAC, nil},
		"one address twice, or a loop":      {refused("own"), 2, Yes, SameAddress, nil},
		"the MASTER is one of the gateways": {source, 2, Yes, "", nil},
		"the MASTER is a stranger": {func(s *situation) { source(s); s.router(1).Master = far }, 2, No,
			ForeignRouter, nil},
		"a stranger beside the MASTER": {func(s *situation) { source(s); s.router(0).Master = far }, 2, No,
			ForeignRouter, nil},
		"it may be the one without a session": {func(s *situation) {
			source(s)
			s.router(1).Master, s.away = far, []int{2}
		}, 3, Yes, PeerAway, []int{0, 1}},
		"the standby is demoted": {func(s *situation) {
			s.standby().Carp.Demotion, s.standby().Carp.Demotions = 40, []string{"track link eth3"}
		}, 2, Yes, Demoted, nil},
		"the MASTER is demoted": {func(s *situation) { s.master().Carp.Demotion = 40 }, 2, Yes,
			MasterDemoted, nil},
		"both are demoted alike": {func(s *situation) {
			s.master().Carp.Demotion,
				s.standby().Carp.Demotion = 40, 40
		}, 2, Yes, "", nil},
		"somebody removes the fence": {func(
			s *situation) {
			s.standby().Carp.Repairs = []Repair{{Kind: "fence", Count: 3}}
		}, 2, Yes, Repaired, nil},
		"somebody removes what is new to us": {func(s *situation) {
			s.master().Carp.Repairs = []Repair{{Kind: "flux",
				Count: 1}}
		}, 2, Yes, Repaired, nil},
		"the fence cannot be set": {func(
			s *situation) {
			s.standby().Carp.Repairs = []Repair{{Kind: "fence", Error: "no netlink"}}
		}, 2, No, CannotRepair, nil},
		"addresses of the MASTER cannot be set": {func(
			s *situation) {
			s.master().Carp.Repairs = []Repair{{Kind: "address", Error: "busy"}}
		}, 2, No, CannotRepair, nil},
	} {
		rows[name] = tt
	}
}
