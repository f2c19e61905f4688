package judge

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Rows of TestJudge about the machines.
func init() {
	set := func(name, value string) func(*situation) {
		return func(s *situation) { s.facts[1].Settings = []Setting{{name, value, "eth0"}} }
	}
	clock := func(ahead int64) func(*situation) {
		return func(s *situation) { s.facts[0].Clock, s.facts[1].Clock = 1_800_000_000, 1_800_000_000+ahead }
	}
	maps.Copy(rows, map[string]row{
		"the standby's interface does not forward": {set("net/ipv4/conf/eth0/forwarding", "0"), 2, No, ForwardingOff,
			nil},
		"IPv6 host on the interface": {set("net/ipv6/conf/eth0/forwarding", "0"), 2, Yes, HostSetting,
			nil},
		"routers change routes": {set("net/ipv6/conf/eth0/accept_ra", "2"), 2, Yes, HostSetting,
			nil},
		"ARP is not answered": {set("net/ipv4/conf/all/arp_ignore", "8"), 2, No, ARPHidden, nil},
		"ARP is filtered":     {set("net/ipv4/conf/all/arp_filter", "1"), 2, No, ARPHidden, nil},
		"rp_filter is strict": {set("net/ipv4/conf/eth0/rp_filter", "1"), 2, Yes, StrictFilter,
			nil},
		"a setting of a later version": {set("net/ipv4/conf/eth0/flux", "1"), 2, Yes, "", nil},
		"rp_filter is strict elsewhere": {func(s *situation) {
			s.facts[1].Settings = []Setting{{"net/ipv4/conf/eth9/rp_filter", "1", "eth9"}}
		}, 2, Yes, "", nil},
		"disk of the standby is full": {func(s *situation) { s.facts[1].StateError = "no space left on device" }, 2,
			Yes, StateUnwritable, nil},
		"carpd's directory is read-only": {func(s *situation) { s.master().Carp.StateError = "read-only file system" },
			2, Yes, StateUnwritable, nil},
		"a wall of the leak guard is refused": {func(s *situation) { s.facts[1].GuardError = "operation not supported" },
			2, Yes, LeakGuard, nil},
		"the leak guard drops":        {func(s *situation) { s.facts[1].GuardDropped = 346 }, 2, Yes, LeakStopped, nil},
		"clocks agree":                {clock(20), 2, Yes, "", nil},
		"clocks differ":               {clock(3600), 2, Yes, ClockDiffers, nil},
		"clocks differ the other way": {clock(-3600), 2, Yes, ClockDiffers, nil},
		"a clock is not told":         {func(s *situation) { s.facts[0].Clock = 1_800_000_000 }, 2, Yes, "", nil},
		"an old report of a right clock": {func(s *situation) {
			clock(-20)(s)
			s.stale = []int{1}
		}, 2, CannotTell, NoReport, []int{0}},
	})
}

// TestHarmful: what the kernel does with the settings of an interface and with those of
// all decides.
func TestHarmful(t *testing.T) {
	plain, virtual := Device{Name: "eth0", IP4: true, IP6: true}, Device{Name: "eth0", IP4: true, IP6: true,
		Virtual: true}
	const v4, all, v6 = "net/ipv4/conf/eth0/", "net/ipv4/conf/all/", "net/ipv6/conf/eth0/"
	right := map[string]string{all + "arp_ignore": "0", all + "arp_filter": "0", all + "rp_filter": "0",
		v4 + "arp_ignore": "0", v4 + "arp_filter": "0",
		v4 + "rp_filter": "0", v4 + "forwarding": "1", v6 + "forwarding": "1", v6 + "accept_ra": "1"}
	for name, tt := range map[string]struct {
		d    Device
		edit map[string]string
		want []string // names
	}{
		"right": {plain, nil, nil},
		"unreadable": {plain, map[string]string{v4 + "forwarding": "", v6 + "forwarding": ""},
			nil},
		"strict": {plain, map[string]string{v4 + "rp_filter": "1"},
			[]string{v4 + "rp_filter"}},
		"strict for all": {plain, map[string]string{all + "rp_filter": "1"},
			[]string{all + "rp_filter"}},
		"strict for all, loose here": {plain, map[string]string{all + "rp_filter": "1", v4 + "rp_filter": "2"},
			nil},
		"loose for all, strict here": {plain, map[string]string{all + "rp_filter": "2", v4 + "rp_filter": "1"},
			nil},
		"strict, and carpd's own beside": {virtual, map[string]string{v4 + "rp_filter": "1"}, nil},
		"arp_ignore 1":                   {plain, map[string]string{all + "arp_ignore": "1"}, nil},
		"arp_ignore 2": {plain, map[string]string{v4 + "arp_ignore": "2"},
			[]string{v4 + "arp_ignore"}},
		"arp_ignore 8 for all": {virtual, map[string]string{all + "arp_ignore": "8",
			v4 + "arp_ignore": "1"}, []string{all + "arp_ignore"}},
		"arp_filter for all": {plain, map[string]string{all + "arp_filter": "1"}, nil},
		"arp_filter for all, virtual": {virtual, map[string]string{all + "arp_filter": "1"},
			[]string{all + "arp_filter"}},
		"arp_filter of the parent": {virtual, map[string]string{v4 + "arp_filter": "1"}, nil},
		"not forwarded": {plain, map[string]string{v4 + "forwarding": "0"},
			[]string{v4 + "forwarding"}},
		"not forwarded, no VIP": {Device{Name: "eth0", IP6: true}, map[string]string{v4 + "forwarding": "0",
			all + "arp_ignore": "8"}, nil},
		"a host in IPv6, which takes RAs": {plain, map[string]string{v6 + "forwarding": "0"},
			[]string{v6 + "forwarding", v6 + "accept_ra"}},
		"RAs are always taken": {plain, map[string]string{v6 + "accept_ra": "2"},
			[]string{v6 + "accept_ra"}},
		"RAs are always taken, no IPv6 VIP": {Device{Name: "eth0", IP4: true}, map[string]string{v6 + "accept_ra": "2"},
			nil},
	} {
		t.Run(name, func(t *testing.T) {
			values := maps.Clone(right)
			maps.Copy(values, tt.edit)
			var got []string
			for _, s := range Harmful(tt.d, func(name string) string { return values[name] }) {
				got = append(got, s.Name)
				if s.Value != values[s.Name] || s.Interface != "eth0" {
					t.Errorf("%+v", s)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
		})
	}
}

// Rows of TestJudge about gateways that do not agree.
func init() {
	meet := func(s *situation) { // all know each other, and have sessions
		for i := range s.facts {
			for j := range s.facts {
				if i != j {
					s.facts[i].Peers = append(s.facts[i].Peers, Known{s.facts[j].Host, s.node(j), true})
				}
			}
		}
	}
	following := func(node string) func(*situation) {
		return func(s *situation) { s.standby().Following = &node }
	}
	maps.Copy(rows, map[string]row{
		"all know each other": {meet, 3, Yes, "", nil},
		"one does not name another": {func(s *situation) {
			meet(s)
			s.facts[1].Peers = slices.DeleteFunc(s.facts[1].Peers, func(k Known) bool { return k.Name == "gw3" })
		}, 3, Yes, PeersDiffer, []int{0, 2}},
		"one names another that it has never met": {func(s *situation) {
			meet(s)
			s.facts[1].Peers[1].Node = ""
		}, 3, Yes, "", []int{0}},
		"the link between two others is cut": {func(s *situation) {
			meet(s)
			s.facts[1].Peers[1].Connected, s.facts[2].Peers[1].Connected = false, false
		}, 3, Yes, PeersApart, []int{0}},
		"the standby follows the MASTER":     {following("nodegw1"), 2, Yes, "", nil},
		"the standby follows another":        {following("nodegw9"), 2, No, NotFollowing, nil},
		"the standby says it follows nobody": {following(""), 2, No, NotFollowing, nil},
		"the standby sees another MASTER": {func(s *situation) {
			s.standby().Others = []Other{{"nodegw9",
				"MASTER"}}
		}, 2, No, TwoMasters, nil},
		"another standby of which one tells": {func(s *situation) {
			s.standby().Others = []Other{{"nodegw9",
				"BACKUP"}}
		}, 2, Yes, "", nil},
		"the standby sees this MASTER": {func(s *situation) {
			s.standby().Others = []Other{{"nodegw1",
				"MASTER"}}
		}, 2, Yes, "", nil},
		"nobody hears the MASTER": {func(s *situation) {
			s.router(1).Expired, s.router(2).Expired = true, true
		}, 3, No, MasterUnheard, nil},
		"the better of two hears no MASTER": {func(s *situation) { s.router(1).Expired = true }, 3, No, HearsNoMaster,
			nil},
		"the lesser of two hears no MASTER": {func(s *situation) { s.router(2).Expired = true }, 3, Yes, HearsNoMaster,
			nil},
	})
}
