package judge

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/peer"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.1")
	vip6 = netip.MustParseAddr("2001:db8::1")
	far  = netip.MustParseAddr("192.0.2.9")
)

func yes() *bool { v := true; return &v }
func not() *bool { v := false; return &v }

// gateway returns what a healthy gateway reports.
func gateway(host, role string, priority uint8) *Facts {
	g := Group{Name: "outside", Role: role, InSync: true, VIPs: []netip.Addr{vip4, vip6}, SAs: 4, Policies: 6,
		Carp: &Carp{Group: "ipsec", Instances: []Instance{{Name: "outside", Interface: "eth0", Protocol: "vrrp3",
			ID: 10, State: role,
			Routers: []Router{{Family: "ipv4", Priority: priority}, {Family: "ipv6", Priority: priority}}}}}}
	return &Facts{Host: host, Tracker: "carpd", Forward4: yes(), Forward6: yes(), Groups: []Group{g}}
}

// situation is a pair, or three, that is judged on each of its members.
type situation struct {
	facts []*Facts // the MASTER's first
	away  []int    // members without a session to any other
	old   []int    // members of a version that does not report
	stale []int    // members whose reports are not renewed
	words string
	cause peer.Trouble
}

func newSituation(n int) *situation {
	s := &situation{facts: []*Facts{gateway("gw1", "MASTER", 200)}}
	for i := 1; i < n; i++ {
		s.facts = append(s.facts, gateway("gw"+string(rune('1'+i)), "BACKUP", uint8(200-50*i)))
	}
	for i := 1; i < n; i++ {
		m := s.master()
		m.Standbys = append(m.Standbys, Standby{Node: s.node(i), Complete: true, Lag: 0.1})
	}
	return s
}

func (s *situation) node(i int) string      { return "node" + s.facts[i].Host }
func (s *situation) master() *Group         { return &s.facts[0].Groups[0] }
func (s *situation) standby() *Group        { return &s.facts[1].Groups[0] }
func (s *situation) router(i int) *Router   { return &s.facts[i].Groups[0].Carp.Instances[0].Routers[0] }
func (s *situation) is(l []int, i int) bool { return slices.Contains(l, i) }

// at judges on member i.
func (s *situation) at(t *testing.T, i int) Verdict {
	t.Helper()
	return s.judge(t, i, func(int, *Peer) {})
}

// judge is at with what member i knows of the others edited.
func (s *situation) judge(t *testing.T, i int, edit func(j int, p *Peer)) Verdict {
	t.Helper()
	return Judge(s.node(i), s.facts[i], s.peersEdited(t, i, edit))
}

// peers is what member i knows of the others.
func (s *situation) peers(t *testing.T, i int) []Peer {
	t.Helper()
	return s.peersEdited(t, i, func(int, *Peer) {})
}

func (s *situation) peersEdited(t *testing.T, i int, edit func(j int, p *Peer)) (peers []Peer) {
	t.Helper()
	for j, f := range s.facts {
		if j == i {
			continue
		}
		p := Peer{Name: f.Host, Node: s.node(j), Connected: !s.is(s.away, i) && !s.is(s.away, j),
			Tells: !s.is(s.old, j)}
		if !p.Connected {
			p.Trouble, p.Words = s.cause, s.words
		}
		if p.Connected {
			for _, g := range f.Groups {
				p.Seen = append(p.Seen, Seen{g.Name, g.Role, g.InSync})
			}
		}
		if p.Connected && p.Tells {
			p.Facts = travelled(t, f)
		}
		if s.is(s.stale, j) {
			p.Age = 20
		}
		edit(j, &p)
		peers = append(peers, p)
	}
	return peers
}

// travelled is what arrives of a report.
func travelled(t *testing.T, f *Facts) *Facts {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	out := new(Facts)
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// row is a situation of TestJudge. The answer and the code are the same on every
// member that is named; code "" is no finding at all.
type row struct {
	edit   func(s *situation)
	n      int // gateways; 0: two
	answer Answer
	code   Code
	on     []int // members that must say so; nil: all
}

// rows are the situations of TestJudge, by what is wrong. More are in the files beside
// this one.
var rows = map[string]row{
	"healthy":        {func(*situation) {}, 2, Yes, "", nil},
	"healthy, three": {func(*situation) {}, 3, Yes, "", nil},
	"standby's carpd dead": {func(s *situation) { s.standby().Elector = "no such file" }, 2, No, ElectorLost,
		nil},
	"MASTER's carpd dead": {func(s *situation) { s.master().Elector = "no such file" }, 2, No, ElectorLost,
		nil},
	"standby's carpd gone": {func(s *situation) {
		s.standby().Elector, s.standby().Carp = "connection refused",
			nil
	}, 2, No, ElectorLost, nil},
	"standby is INIT": {func(s *situation) {
		s.standby().Role, s.standby().Reason = "INIT",
			"interface down"
	}, 2, No, NotBackup, nil},
	"standby lacks a VIP": {func(s *situation) { s.standby().VIPs = s.standby().VIPs[:1] }, 2, No, VIPsDiffer,
		nil},
	"standby has another": {func(s *situation) { s.standby().VIPs = []netip.Addr{vip4, far} }, 2, No,
		VIPsDiffer, nil},
	"standby has one more": {func(s *situation) { s.standby().VIPs = append(s.standby().VIPs, far) }, 2, No,
		VIPsDiffer, nil},
	"VRIDs differ": {func(s *situation) { s.standby().Carp.Instances[0].ID = 11 }, 2, No, IDsDiffer,
		nil},
	"protocols differ": {func(s *situation) { s.standby().Carp.Instances[0].Protocol = "carp" }, 2, No,
		IDsDiffer, nil},
	"an instance is absent": {func(s *situation) { s.standby().Carp.Instances[0].Name = "inside" }, 2, No,
		InstanceMissing, nil},
	"standby hears nobody": {func(s *situation) { s.router(1).Expired = true }, 2, No, HearsNoMaster, nil},
	"foreign router": {func(s *situation) {
		s.router(1).Refusals = []Refusal{{"addresses", far,
			"other addresses"}}
	}, 2, Yes, AdvertRefused, nil},
	"MASTER is fenced":            {func(s *situation) { s.master().Carp.Fenced = true }, 2, No, MasterFenced, nil},
	"MASTER forwards nothing yet": {func(s *situation) { s.master().Carp.Held = "no policies" }, 2, Yes, Held, nil},
	"VIP not in the kernel": {func(s *situation) { s.master().Missing = []netip.Addr{vip6} }, 2, No, VIPMissing,
		nil},
	"standby is blocked": {func(s *situation) { s.standby().Carp.Blocked = "fence program" }, 2, No, Blocked,
		nil},
	"no tunnel": {func(s *situation) { s.master().SAs, s.master().Policies = 0, 0 }, 2, Yes, NoTunnel,
		nil},
	"tables emptied": {func(s *situation) { s.master().SAs, s.master().Carried = 0, true }, 2, No, Emptied,
		nil},
	"tables emptied, beside an IKE daemon": {func(s *situation) {
		g := s.master()
		g.SAs, g.Carried, g.Keying.Driver = 0, true, "strongswan"
	}, 2, Yes, Emptied, nil},
	"tables and policies emptied": {func(s *situation) { g := s.master(); g.SAs, g.Policies, g.Carried = 0, 0, true },
		2, Yes, Emptied, nil},
	"equal priorities":        {func(s *situation) { s.router(1).Priority = 200 }, 2, Yes, SamePriority, nil},
	"forwarding off, standby": {func(s *situation) { s.facts[1].Forward4 = not() }, 2, No, ForwardingOff, nil},
	"forwarding off, MASTER":  {func(s *situation) { s.facts[0].Forward6 = not() }, 2, No, ForwardingOff, nil},
	"forwarding off, no such VIP": {func(s *situation) {
		s.facts[1].Forward6 = not()
		s.master().VIPs, s.standby().VIPs = []netip.Addr{vip4}, []netip.Addr{vip4}
	}, 2, Yes, "", nil},
	"forwarding unknown": {func(s *situation) { s.facts[1].Forward4 = nil }, 2, Yes, "", nil},
	"snapshot":           {func(s *situation) { s.master().Standbys[0].Complete = false }, 2, No, Receiving, nil},
	"slow":               {func(s *situation) { s.master().Standbys[0].Lag = 7 }, 2, No, Lags, nil},
	"not following":      {func(s *situation) { s.master().Standbys = nil }, 2, No, NotFollowing, nil},
	"not in sync": {func(s *situation) { s.standby().InSync, s.standby().Why = false, "kernel not read yet" },
		2, No, NotInSync, nil},
	"refused": {func(s *situation) { s.standby().Refused = 2 }, 2, No, Refused, nil},
	"refused by charon": {func(s *situation) {
		s.standby().Refused, s.standby().Keying.Driver = 2,
			"strongswan-ha"
	}, 2, No, RefusedHA, nil},
	"another kernel": {func(s *situation) { s.standby().Refused, s.standby().Unlike = 2, 2 }, 2, No, Unlike,
		nil},
	"uncovered": {func(s *situation) { s.standby().Uncovered = 1 }, 2, No, Uncovered, nil},
	"reduced":   {func(s *situation) { s.standby().Reduced = 1 }, 2, Yes, Reduced, nil},
	"offloaded": {func(s *situation) { s.master().Offloaded = 1 }, 2, No, Offloaded, nil},
	"IKE daemon": {func(s *situation) {
		s.standby().Keying = Keying{Driver: "strongswan", State: "passive",
			Error: "vici"}
	}, 2, No, IKEError, nil},
	"static keys": {func(s *situation) {
		s.master().Keying = Keying{Driver: "static", State: "active",
			Error: "x"}
	}, 2, No, StaticKeys, nil},
	"IKE setting": {func(s *situation) { s.standby().Keying.Lint = [][2]string{{"a trap", "avoid it"}} }, 2,
		No, IKESetting, nil},
	"nobody is MASTER": {func(s *situation) { s.master().Role = "BACKUP" }, 2, No, NoMaster, nil},
	"two MASTERs":      {func(s *situation) { s.standby().Role = "MASTER" }, 2, No, TwoMasters, nil},
	"no session":       {func(s *situation) { s.away = []int{1} }, 2, No, PeerAway, nil},
	"keys differ":      {func(s *situation) { s.away, s.cause = []int{1}, peer.TroubleKey }, 2, No, PeerKey, nil},
	"versions differ": {func(s *situation) { s.away, s.cause = []int{1}, peer.TroubleVersion }, 2, No,
		PeerVersion, nil},
	"clone": {func(s *situation) { s.away, s.cause = []int{1}, peer.TroubleSame }, 2, No, PeerSameNode,
		nil},
	"sasyncd is not there": {func(s *situation) { s.away, s.cause = []int{1}, peer.TroubleRefused }, 2, No,
		PeerRefused, nil},
	"unreachable": {func(s *situation) { s.away, s.cause = []int{1}, peer.TroubleUnreachable }, 2, No,
		PeerUnreachable, nil},
	"no peer":               {func(s *situation) { s.facts = s.facts[:1] }, 2, No, NoPeer, nil},
	"no group":              {func(s *situation) { s.facts[0].Groups = nil }, 2, No, NoGroup, []int{0}},
	"peer of another group": {func(s *situation) { s.standby().Name = "inside" }, 2, No, NotInGroup, []int{0}},

	// What an older version does not say is not yes.
	"old standby": {func(s *situation) { s.old = []int{1} }, 2, CannotTell, OldPeer, []int{0}},
	"old MASTER":  {func(s *situation) { s.old = []int{0} }, 2, CannotTell, OldPeer, []int{1}},
	"old standby, not in sync": {func(s *situation) { s.old, s.standby().InSync = []int{1}, false }, 2, No, NotInSync,
		[]int{0}},
	"old standby, INIT": {func(s *situation) { s.old, s.standby().Role = []int{1}, "INIT" }, 2, No, NotBackup,
		[]int{0}},
	"reports not renewed": {func(s *situation) { s.stale = []int{1} }, 2, CannotTell, NoReport, []int{0}},

	// One standby that could take over is enough.
	"one of two is dead": {func(s *situation) { s.standby().Elector = "no such file" }, 3, Yes, ElectorLost,
		nil},
	"one of two has no session": {func(s *situation) { s.away = []int{2} }, 3, Yes, PeerAway, []int{0, 1}},
	"one of two is old":         {func(s *situation) { s.old = []int{1} }, 3, Yes, OldPeer, []int{0, 2}},
	"one is dead, one is old": {func(s *situation) { s.old, s.standby().Elector = []int{2}, "x" }, 3, CannotTell,
		OldPeer, []int{0}},

	// A MASTER whose carpd died is none any more.
	"carpd of a former MASTER is dead": {func(s *situation) {
		s.standby().Role, s.standby().Standbys = "MASTER", []Standby{{Node: s.node(0), Complete: true}}
		s.master().Elector = "connection refused"
	}, 2, No, ElectorLost, nil},

	// One that would be elected before it must be able to serve.
	"the better of two does not forward": {func(s *situation) { s.facts[1].Forward4 = not() }, 3, No, ForwardingOff,
		nil},
	"the lesser of two does not forward": {func(s *situation) { s.facts[2].Forward4 = not() }, 3, Yes, ForwardingOff,
		nil},
	"the better of two lacks a VIP": {func(s *situation) { s.standby().VIPs = s.standby().VIPs[:1] }, 3, No,
		VIPsDiffer, nil},
	"the better of two does not forward and is dead": {func(s *situation) {
		s.facts[1].Forward4, s.standby().Elector = not(), "x"
	}, 3, Yes, ForwardingOff, nil},
	"one of two does not forward, and no priorities are told": {func(s *situation) {
		s.facts[2].Forward4 = not()
		for _, f := range s.facts {
			f.Groups[0].Carp = nil
		}
	}, 3, No, ForwardingOff, nil},
	"both are dead": {func(s *situation) {
		s.standby().Elector, s.facts[2].Groups[0].Elector = "x", "x"
	}, 3, No, ElectorLost, nil},
}

// TestJudge has one row for each situation.
func TestJudge(t *testing.T) {
	for name, tt := range rows {
		t.Run(name, func(t *testing.T) {
			s := newSituation(max(tt.n, 2))
			tt.edit(s)
			on := tt.on
			if on == nil {
				for i := range s.facts {
					on = append(on, i)
				}
			}
			for _, i := range on {
				v := s.at(t, i)
				if v.Answer != tt.answer {
					t.Errorf("on %s: %v, want %v: %+v", s.facts[i].Host, v.Answer, tt.answer, v.Findings)
				}
				if tt.code == "" && len(v.Findings) > 0 || tt.code != "" && !slices.ContainsFunc(v.Findings,
					func(f Finding) bool { return f.Code == tt.code }) {
					t.Errorf("on %s: findings %+v, want %q", s.facts[i].Host, v.Findings, tt.code)
				}
				for _, f := range v.Findings {
					if f.Cause == "" || f.Remedy == "" {
						t.Errorf("no cause or no remedy: %+v", f)
					}
				}
			}
		})
	}
}

// TestMembersAreNamed: what is wrong elsewhere names the member, what is wrong here
// this gateway.
func TestMembersAreNamed(t *testing.T) {
	s := newSituation(2)
	s.standby().Elector = "connection refused"
	for i, want := range []string{"gw2", ThisGateway} {
		v := s.at(t, i)
		got := []string{}
		for _, f := range v.Findings {
			got = append(got, f.Member)
		}
		if d := cmp.Diff([]string{want}, got); d != "" {
			t.Errorf("on member %d: want -, got +\n%s", i, d)
		}
	}
}

// TestEveryCodeIsUsed: each code has a severity, and no code lacks a remedy but
// the one whose findings bring their own.
func TestEveryCodeIsUsed(t *testing.T) {
	for c, k := range kinds {
		if k.severity < Fails || k.severity > Odd || k.remedy == "" && c != IKESetting {
			t.Errorf("%s: %+v", c, k)
		}
	}
	for trouble := peer.TroubleOther; trouble <= peer.TroubleUnreachable; trouble++ {
		if _, ok := kinds[unconnected[trouble]]; !ok {
			t.Errorf("trouble %d has no code", trouble)
		}
	}
}
