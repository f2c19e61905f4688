package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// second adds an instance inside with the routers of the first to all members.
func second(s *situation) {
	for _, f := range s.facts {
		c := f.Groups[0].Carp
		in := c.Instances[0]
		in.Name, in.Interface, in.ID, in.Routers = "inside", "eth1", 11, slices.Clone(in.Routers)
		c.Instances = append(c.Instances, in)
	}
}

// TestWords: what is said, of whom, wherever it is: in the second instance, of the second
// address family, at the edge of a limit. As the MASTER says it.
func TestWords(t *testing.T) {
	six := func(s *situation, i int) *Router { return &s.facts[i].Groups[0].Carp.Instances[1].Routers[1] }
	for name, tt := range map[string]struct {
		edit func(s *situation)
		want []string
	}{
		"healthy": {second, nil},
		"another protocol of the second": {func(s *situation) { second(s); s.standby().Carp.Instances[1].Protocol = "vrrp2" },
			[]string{"gw2: its inside is vrrp2 with id 11, the MASTER's vrrp3 with id 11"}},
		"another id of the second": {func(s *situation) { second(s); s.standby().Carp.Instances[1].ID = 12 },
			[]string{"gw2: its inside is vrrp3 with id 12, the MASTER's vrrp3 with id 11"}},
		"the second is absent": {func(s *situation) {
			second(s)
			s.standby().Carp.Instances = s.standby().Carp.Instances[:1]
		}, []string{"gw2: it has no instance inside"}},
		"the second family hears nobody": {func(s *situation) { second(s); six(s, 1).Expired = true },
			[]string{"gw2: inside ipv6 hears no advertisement of a MASTER on eth1",
				"this gateway: nobody hears its advertisements of inside ipv6 on eth1 (not gw2): the others take over as " +
					"soon as they may"}},
		"equal priorities of the second": {func(s *situation) { second(s); six(s, 1).Priority = 200 },
			[]string{"gw2: inside ipv6 has the priority of the MASTER's: addresses decide who is MASTER after both " +
				"started"}},
		"equal priorities, one demoted": {func(s *situation) {
			second(s)
			six(s, 1).Priority, s.standby().Carp.Demotion = 200, 3
		}, []string{"gw2: it is demoted by 3, the MASTER by 0: it would take over after a failure only, and a hand-over " +
			"that names it is refused"}},
		"one MAC address": {func(s *situation) { second(s); six(s, 0).Refusals = []Refusal{{"mac", far, "x"}} },
			[]string{"this gateway: 192.0.2.9 has its MAC address on eth1: frames for one reach the other"}},
		"its own address": {func(s *situation) { second(s); six(s, 0).Refusals = []Refusal{{"own", far, "the text"}} },
			[]string{"this gateway: 192.0.2.9, its own address on eth1, is used by another machine: the text"}},
		"refused": {func(s *situation) { second(s); six(s, 0).Refusals = []Refusal{{"ttl", far, "the text"}} },
			[]string{"this gateway: inside ipv6 refuses advertisements of 192.0.2.9: the text"}},
		"lacks and has": {func(s *situation) { s.standby().VIPs = []netip.Addr{vip4, far} },
			[]string{"gw2: its VIPs differ from the MASTER's: it lacks 2001:db8::1 and has 192.0.2.9"}},
		"lacks": {func(s *situation) { s.standby().VIPs = nil },
			[]string{"gw2: it lacks 192.0.2.1, 2001:db8::1, which the MASTER has"}},
		"has more": {func(s *situation) { s.standby().VIPs = []netip.Addr{vip4, vip6, far} },
			[]string{"gw2: it has 192.0.2.9, which the MASTER lacks"}},
		"5 s behind": {func(s *situation) { s.master().Standbys[0].Lag = lagLimit }, nil},
		"5.1 s behind": {func(s *situation) {
			s.master().Standbys[0].Lag = 5.1
		}, []string{"gw2: it is 5.1 s behind the MASTER"}},
		"one is refused": {func(s *situation) { s.standby().Refused, s.standby().Unlike = 3, 2 },
			[]string{"gw2: its kernel refuses 1 item",
				"gw2: 2 items with attributes of another kernel release cannot be installed"}},
		"uncovered": {func(s *situation) { s.standby().Uncovered = 2 },
			[]string{"gw2: 2 SAs cannot be kept ahead of the MASTER"}},
		"not in sync": {func(s *situation) {
			s.standby().InSync = false
		}, []string{"gw2: it is not in sync"}},
		"blocked, not in sync": {func(s *situation) {
			s.standby().InSync, s.standby().Carp.Blocked = false, "x"
		}, []string{"gw2: it is not in sync"}},
		"no forwarding of both": {func(s *situation) {
			s.facts[1].Forward4, s.facts[1].Forward6 = not(), not()
		}, []string{"gw2: its kernel does not forward IPv4 and IPv6"}},
		"not BACKUP": {func(s *situation) {
			s.standby().Role = ""
		}, []string{"gw2: it is INIT, not BACKUP"}},
		"its MASTER is demoted": {func(s *situation) {
			s.master().Carp.Demotion, s.master().Carp.Demotions = 9, []string{"a", "b"}
		}, []string{"this gateway: the MASTER is demoted by 9 (a, b), and gw2 by 0 only"}},
		"nor could it take over": {func(s *situation) {
			s.master().Carp.Demotion, s.standby().InSync = 9, false
		}, []string{"gw2: it is not in sync"}},
		"repaired": {func(s *situation) {
			s.standby().Carp.Repairs = []Repair{{Kind: "gate", Count: 1}, {Kind: "route"}}
		}, []string{"gw2: another program changes the IPv6 gate, which closes if carpd dies: repaired 1 time " +
			"in the last 5 minutes"}},
		"no repair": {func(s *situation) {
			s.standby().Carp.Repairs = []Repair{{Kind: "flux", Error: "no"}}
		}, []string{"gw2: kernel state of carpd (flux) cannot be repaired: no"}},
		"a daemon of its own": {func(s *situation) {
			s.master().Keying = Keying{Driver: "auto", Probed: true, Version: "charon 5.9"}
			s.standby().Keying = Keying{Driver: "auto", Probed: true}
		}, []string{"gw2: no IKE daemon runs there, and the MASTER has charon 5.9: after a failover tunnels live until " +
			"their SAs end"}},
		"a daemon that was not looked for": {func(s *situation) {
			s.master().Keying = Keying{Driver: "auto", Probed: true, Version: "charon 5.9"}
			s.standby().Keying = Keying{Driver: "auto"}
		}, nil},
		"a daemon on neither": {func(s *situation) {
			s.master().Keying, s.standby().Keying = Keying{Driver: "auto", Probed: true}, Keying{Driver: "auto", Probed: true}
		}, nil},
		"a daemon that does not run": {func(s *situation) { s.standby().Keying = Keying{Driver: "iked", Absent: true} },
			[]string{"gw2: its IKE daemon (iked) does not run: after a failover tunnels live until their SAs end"}},
		"local tunnels": {func(s *situation) { s.facts[0].Local = &Local{SAs: 1, Policies: 1, Example: "a to b"} },
			[]string{"this gateway: 1 SA and 1 policy involve no VIP and are not replicated, such as a to b"}},
		"local tunnels of a standby": {func(s *situation) { s.facts[1].Local = &Local{SAs: 1} }, nil},
		"policies alone": {func(s *situation) {
			s.facts[0].Local = &Local{Policies: 2}
		}, []string{"this gateway: 0 SAs and 2 policies involve no VIP and are not replicated"}},
		"policies, and no SA": {func(s *situation) { s.master().SAs = 0 }, nil},
		"no tunnel": {func(s *situation) {
			s.master().SAs, s.master().Policies = 0, 0
		}, []string{"this gateway: no SA and no policy involves its VIPs: there is no tunnel to take over"}},
		"it follows others": {func(s *situation) {
			s.standby().Name = "x"
			s.facts[1].Groups = append(s.facts[1].Groups, Group{Role: "BACKUP"})
		}, []string{"gw2: it does not follow this group, but x, all"}},
		"two MASTERs": {func(s *situation) { s.standby().Role = "MASTER" },
			[]string{": more than one gateway is MASTER: this gateway, gw2"}},
		"a stranger": {func(s *situation) {
			second(s)
			for i := range s.facts {
				for j := range 2 {
					for k := range 2 {
						s.facts[i].Groups[0].Carp.Instances[j].Routers[k].Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
					}
				}
			}
			six(s, 1).Master = far
		}, []string{"gw2: 192.0.2.9, which is none of the gateways, advertises as MASTER with the id of inside (11) " +
			"on eth1"}},
		"clock": {func(s *situation) { s.facts[0].Clock, s.facts[1].Clock = 1000, 1030 },
			[]string{"gw2: its clock is 30 s ahead of this gateway's: certificates may be refused, and logs do not " +
				"fit together"}},
		"clock behind": {func(s *situation) { s.facts[0].Clock, s.facts[1].Clock = 1030, 1000 },
			[]string{"gw2: its clock is 30 s behind this gateway's: certificates may be refused, and logs do not fit " +
				"together"}},
		"clock, nearly": {func(s *situation) { s.facts[0].Clock, s.facts[1].Clock = 1000, 1029 }, nil},
		"no session": {func(s *situation) {
			s.away, s.words = []int{1}, "no route"
		}, []string{"gw2: it is not connected: no route"}},
	} {
		s := newSituation(2)
		tt.edit(s)
		var got []string
		for _, f := range s.at(t, 0).Findings {
			if f.Code == NoStandby { // follows from others
				continue
			}
			got = append(got, fmt.Sprintf("%s: %s", f.Member, f.Cause))
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: want -, got +\n%s", name, d)
		}
	}
}

// TestReportsHaveAnAge: one of 15 s counts, a later one does not.
func TestReportsHaveAnAge(t *testing.T) {
	for age, want := range map[float64]Answer{0: Yes, reportLimit: Yes, reportLimit + 0.1: CannotTell} {
		s := newSituation(2)
		v := s.judge(t, 0, func(_ int, p *Peer) { p.Age = age })
		if v.Answer != want {
			t.Errorf("%v s old: %v, %+v", age, v.Answer, v.Findings)
		}
	}
}

// TestNobodyFollows: a MASTER whose peers are all elsewhere has no standby, and says so once.
func TestNobodyFollows(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(s *situation)
		want bool
	}{
		"another group": {func(s *situation) { s.standby().Name = "x" }, true},
		"no session":    {func(s *situation) { s.away = []int{1} }, false},
		"not MASTER":    {func(s *situation) { s.standby().Name, s.master().Role = "x", "BACKUP" }, false},
		"two MASTERs":   {func(s *situation) { s.standby().Role = "MASTER" }, false},
	} {
		s := newSituation(2)
		tt.edit(s)
		v := s.at(t, 0)
		n := 0
		for _, f := range v.Findings {
			if f.Code == NoStandby {
				n++
			}
		}
		if (n == 1) != tt.want || n > 1 {
			t.Errorf("%s: said %d times: %+v", name, n, v.Findings)
		}
	}
}

// TestTheWorstComesFirst, and what another standby makes up for costs no more than that.
func TestTheWorstComesFirst(t *testing.T) {
	s := newSituation(3)
	s.facts[2].Groups[0].InSync = false                                 // fails, and the other makes up for it
	s.standby().Carp.Repairs = []Repair{{Kind: "fence", Count: 1}}      // odd, or costs
	s.master().Missing, s.facts[0].StateError = []netip.Addr{vip4}, "x" // fails; odd
	v := s.at(t, 0)
	if !slices.IsSortedFunc(v.Findings, func(a, b Finding) int { return int(a.Severity) - int(b.Severity) }) ||
		v.Findings[0].Code != VIPMissing || v.Answer != No {
		t.Errorf("%+v", v)
	}
	for _, f := range v.Findings {
		if f.Code == NotInSync && f.Severity != Costs {
			t.Errorf("%+v", f)
		}
	}
	for a, want := range map[Answer]string{Yes: "would work", No: "would not work", CannotTell: "cannot tell"} {
		if !strings.Contains(a.String(), want) {
			t.Errorf("answer %d: %s", a, a)
		}
	}
	for sev, want := range map[Severity]string{Fails: "fails", Unknown: "unknown", Costs: "costs", Odd: "odd"} {
		if sev.String() != want {
			t.Errorf("severity %d: %s", sev, sev)
		}
	}
}

// TestWhoIsElectedBefore: a standby that could not serve is fatal where it is the next to
// be elected, wherever it is in the list, and costs something where another one is.
func TestWhoIsElectedBefore(t *testing.T) {
	for bad := 1; bad <= 3; bad++ {
		for turn := range 3 {
			s := newSituation(4)
			s.facts[bad].Forward4, s.facts[bad].Forward6 = not(), not()
			rest := s.facts[1:]
			rest = append(slices.Clone(rest[turn:]), rest[:turn]...) // in another order
			s.facts = append(s.facts[:1:1], rest...)
			v, want, severity := s.at(t, 0), Yes, Costs
			if bad == 1 {
				want, severity = No, Fails
			}
			n := 0
			for _, f := range v.Findings {
				if f.Severity <= Costs {
					n++
					if f.Severity != severity {
						t.Errorf("number %d, turned by %d: %+v", bad, turn, f)
					}
				}
			}
			if v.Answer != want || n == 0 {
				t.Errorf("number %d, turned by %d: %v, %+v", bad, turn, v.Answer, v.Findings)
			}
		}
	}
}
