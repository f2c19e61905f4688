package judge

import (
	"maps"
	"net/netip"
	"testing"
)

// Rows of TestJudge about who answers for the VIPs.
func init() {
	const first, second, strange = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
	seen := func(s *situation) { // all is told, and the standby hears the MASTER answer
		for i, mac := range []string{first, second} {
			s.router(i).MAC, s.router(i).Source = mac, netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
		}
		s.router(1).Master = s.router(0).Source
		s.router(1).Claims = []Claim{{first, 1, vip4}}
	}
	more := func(on int, mac string) func(*situation) {
		return func(s *situation) {
			seen(s)
			s.router(on).Claims = append(s.router(on).Claims, Claim{mac, 2, vip4})
		}
	}
	maps.Copy(rows, map[string]row{
		"the MASTER answers for the VIP":           {seen, 2, Yes, "", nil},
		"a stranger answers, the standby hears it": {more(1, strange), 2, No, VIPClaimed, nil},
		"a stranger answers, the MASTER hears it":  {more(0, strange), 2, No, VIPClaimed, nil},
		"the standby answers, the MASTER hears it": {more(0, second), 2, No, VIPClaimed, nil},
		"nobody answers for the VIP": {func(s *situation) {
			seen(s)
			s.router(1).Claims, s.router(1).Silent = nil, []netip.Addr{vip4}
		}, 2, No, VIPSilent, nil},
		"what the standby heard is of the MASTER before": {func(s *situation) {
			more(1, strange)(s)
			s.router(1).Master = s.router(1).Source
		}, 2, Yes, "", nil},
		"which MAC the MASTER has is not told": {func(s *situation) {
			more(1, strange)(s)
			s.router(0).MAC = ""
		}, 2, Yes, "", nil},
	})
}

// TestWordsOfAClaim: who answers, for what, where, and who is MASTER.
func TestWordsOfAClaim(t *testing.T) {
	for mac, want := range map[string]string{
		"02:00:00:00:00:99": "02:00:00:00:00:99, which is none of the gateways, answers for 192.0.2.1 and 1 more on eth7, " +
			"and one is MASTER",
		"02:00:00:00:00:02": "it (02:00:00:00:00:02) answers for 192.0.2.1 and 1 more on eth7, and one is MASTER",
	} {
		of := func(mac string) *Group {
			return &Group{Carp: &Carp{Instances: []Instance{{Name: "a", Interface: "eth7",
				Routers: []Router{{Family: "ipv4", MAC: mac}}}}}}
		}
		members := []member{{name: "one", node: "1", group: of("02:00:00:00:00:01")},
			{name: "two", node: "2", group: of("02:00:00:00:00:02")}}
		got := conflict(&members[0], members, members[0].group.Carp.Instances[0], "ipv4",
			Claim{mac, 2, netip.MustParseAddr("192.0.2.1")}, "g")
		if got.Cause != want {
			t.Errorf("got  %q\nwant %q", got.Cause, want)
		}
	}
}
