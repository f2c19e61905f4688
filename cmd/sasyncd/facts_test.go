package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/leakguard"
	"sasyncd/cmd/sasyncd/tracker"
	"sasyncd/kernel/rules"
	"sasyncd/sync/engine"
	"sasyncd/sync/peer"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// told is an engine that keeps what it is to report.
type told struct {
	status engine.Status
	report chan []byte
	order  map[string][]string
}

func (e *told) Glance(context.Context) (engine.Status, error) { return e.status, nil }
func (e *told) Status(context.Context) (engine.Status, error) { return e.status, nil }
func (e *told) Succession(_ context.Context, order map[string][]string) error {
	e.order = order
	return nil
}
func (e *told) Report(_ context.Context, b []byte) error {
	select {
	case e.report <- b:
	default:
	}
	return nil
}

// pairOf is a MASTER and its standby, as the MASTER's sasyncd sees them.
type pairOf struct {
	facts   *facts
	status  engine.Status
	carp    api.GroupState
	carpErr error
	own     map[netip.Addr]bool
	seen    []report.Seen
	peer    judge.Facts
	sysctl  map[string]string
	state   string
	guard   leakguard.State
	rules   rules.Rules
}

func newPairOf() *pairOf {
	vip := netip.MustParseAddr("192.0.2.1")
	x := &pairOf{
		carp: api.GroupState{Group: "ipsec", State: api.StateMaster,
			Instances: []api.InstanceState{{Name: "outside", Interface: "eth0",
				Protocol: "vrrp3", ID: 10, Routers: []api.RouterState{{Family: "ipv4", Priority: 200}}}}},
		own:    map[netip.Addr]bool{vip: true},
		sysctl: map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
	}
	x.status = engine.Status{Node: "one",
		Groups: []engine.GroupStatus{{Name: "outside", Role: "MASTER", InSync: true, VIPs: []netip.Addr{vip}, SAs: 2,
			Policies: 2,
			Standbys: []engine.StandbyStatus{{Peer: "10.9.0.2", Complete: true}},
			Peers:    []engine.GroupPeerState{{Peer: "10.9.0.2", Role: "BACKUP", InSync: true}}}},
		Members: []engine.MemberStatus{{Peer: "10.9.0.2", Node: "two", Tells: true, ReportAge: 1}}}
	x.peer = judge.Facts{Host: "gw2", Groups: []judge.Group{{Name: "outside", Role: "BACKUP", InSync: true,
		VIPs: []netip.Addr{vip}, SAs: 2, Policies: 2,
		Carp: &judge.Carp{Group: "ipsec", Instances: []judge.Instance{{Name: "outside", Interface: "eth0",
			Protocol: "vrrp3", ID: 10,
			Routers: []judge.Router{{Family: "ipv4", Priority: 100}}}}}}}}
	x.facts = &facts{node: "one", tracker: "carpd", log: slog.New(slog.DiscardHandler),
		rules:   func(context.Context) (rules.Rules, error) { return x.rules, nil },
		carp:    func(context.Context, string) (*api.GroupState, error) { return &x.carp, x.carpErr },
		peers:   func() []peer.Status { return []peer.Status{{Name: "10.9.0.2", Session: new(peer.Session)}} },
		seen:    func() []report.Seen { return x.seen },
		own:     func() map[netip.Addr]bool { return x.own },
		setting: func(name string) string { return x.sysctl[name] }, state: func() string { return x.state },
		guard: func() (leakguard.State, bool) { return x.guard, true }}
	return x
}

// elected has both follow another election, which stands like this here and is able
// there, if that can be seen.
func (x *pairOf) elected(by string, here tracker.Standing) {
	x.facts.tracker, x.facts.carp = by, nil
	x.facts.sight = func(string) (tracker.Observation, bool) {
		return tracker.Observation{Standing: here, Reason: "so it is"},
			true
	}
	g := &x.peer.Groups[0]
	x.peer.Tracker, g.Carp, g.Election = by, nil, &judge.Election{Standing: tracker.StandingAble.String()}
	if here == tracker.StandingHidden {
		g.Election.Standing = here.String()
	}
}

// heard has carpd hear another MASTER at an address some time ago. Those of the two
// gateways end with 11 and 12.
func (x *pairOf) heard(from string, ago int64) {
	r := &x.carp.Instances[0].Routers[0]
	r.Source, r.Peer, r.HeardMS, r.DownMS = netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr(from), ago, 3000
	x.carp.AgeMS = 60_000
	x.peer.Groups[0].Carp.Instances[0].Routers[0].Source = netip.MustParseAddr("192.0.2.12")
}

func (x *pairOf) verdict(t *testing.T) report.Verdict {
	t.Helper()
	b, err := json.Marshal(x.peer)
	if err != nil {
		t.Fatal(err)
	}
	if x.status.Members[0].Tells {
		x.status.Members[0].Report = b
	}
	return x.facts.verdict(t.Context(), x.status)
}

// TestMasterKnowsItsSuccessor: a hand-over is for the standby that the election would choose
// of those that could serve. One standby is no choice.
func TestMasterKnowsItsSuccessor(t *testing.T) {
	x := newPairOf()
	eng := &told{status: x.status, report: make(chan []byte, 1)}
	x.facts.eng = eng
	for _, tt := range []struct {
		edit func(second, third *judge.Facts)
		want []string
	}{
		{func(_, _ *judge.Facts) {}, []string{"10.9.0.2", "10.9.0.3"}},
		{func(second, third *judge.Facts) {
			second.Groups[0].Carp.Instances[0].Routers[0].Priority = 50
		}, []string{"10.9.0.3", "10.9.0.2"}},
		{func(_, third *judge.Facts) { third.Forward4 = new(bool) }, []string{"10.9.0.2"}},
	} {
		second, third := decoded(t, x.peer), decoded(t, x.peer)
		third.Host = "gw3"
		third.Groups[0].Carp.Instances[0].Routers[0].Priority = 90
		tt.edit(second, third)
		s := x.status
		s.Groups = slices.Clone(s.Groups)
		s.Groups[0].Peers = append(slices.Clone(s.Groups[0].Peers),
			engine.GroupPeerState{Peer: "10.9.0.3", Role: "BACKUP", InSync: true})
		s.Groups[0].Standbys = append(slices.Clone(s.Groups[0].Standbys),
			engine.StandbyStatus{Peer: "10.9.0.3", Complete: true})
		s.Members = []engine.MemberStatus{
			{Peer: "10.9.0.2", Node: "two", Tells: true, ReportAge: 1, Report: encoded(t, second)},
			{Peer: "10.9.0.3", Node: "three", Tells: true, ReportAge: 1, Report: encoded(t, third)}}
		x.facts.peers = func() []peer.Status {
			return []peer.Status{{Name: "10.9.0.2", Session: new(peer.Session)},
				{Name: "10.9.0.3", Session: new(peer.Session)}}
		}
		if err := x.facts.tell(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := eng.order["outside"]; !slices.Equal(got, tt.want) {
			t.Errorf("the order is %v, want %v", got, tt.want)
		}
	}
	if err := x.facts.tell(t.Context(), x.status); err != nil || len(eng.order) != 0 {
		t.Errorf("with one standby: %v, %v", eng.order, err)
	}
}

func encoded(t *testing.T, f *judge.Facts) []byte {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decoded is a copy that shares nothing.
func decoded(t *testing.T, f judge.Facts) *judge.Facts {
	t.Helper()
	out := new(judge.Facts)
	if err := json.Unmarshal(encoded(t, &f), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCheckSeesBothGateways: what either daemon of either gateway knows reaches the
// judgement.
func TestCheckSeesBothGateways(t *testing.T) {
	for name, tt := range map[string]struct {
		edit   func(x *pairOf)
		answer string
		code   judge.Code // of the first problem; "" for none at all
	}{
		"healthy": {func(*pairOf) {}, report.AnswerYes, ""},
		"own carpd dead": {func(x *pairOf) { x.carpErr = errors.New("connection refused") }, report.AnswerNo,
			judge.ElectorLost},
		"peer's carpd dead": {func(x *pairOf) { x.peer.Groups[0].Elector = "connection refused" }, report.AnswerNo,
			judge.ElectorLost},
		"own fence set": {func(x *pairOf) { x.carp.Fenced = true }, report.AnswerNo, judge.MasterFenced},
		"own VIP gone": {func(x *pairOf) { x.own = map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true} },
			report.AnswerNo, judge.VIPMissing},
		"addresses unreadable": {func(x *pairOf) { x.own = nil }, report.AnswerYes, ""},
		"own tables emptied": {func(x *pairOf) { g := &x.status.Groups[0]; g.SAs, g.PacketsIn = 0, 9 },
			report.AnswerNo, judge.Emptied},
		"own tables emptied before the first packet": {func(x *pairOf) {
			g := &x.status.Groups[0]
			g.SAs, g.HadSAs = 0, true
		}, report.AnswerNo, judge.Emptied},
		"own forwarding off": {func(x *pairOf) { x.sysctl["net/ipv4/ip_forward"] = "0" }, report.AnswerNo,
			judge.ForwardingOff},
		"settings unreadable": {func(x *pairOf) { x.sysctl = nil }, report.AnswerYes, ""},
		"VRIDs differ":        {func(x *pairOf) { x.carp.Instances[0].ID = 11 }, report.AnswerNo, judge.IDsDiffer},
		"old peer": {func(x *pairOf) { x.status.Members[0].Tells = false }, report.AnswerUnknown,
			judge.OldPeer},
		"peer is silent": {func(x *pairOf) { x.status.Members[0].ReportAge = 30 }, report.AnswerUnknown,
			judge.NoReport},
		"refused lately": {func(x *pairOf) {
			x.carp.Instances[0].Routers[0].Refusals = []api.Refusal{{Kind: "ttl", Text: "bad TTL", AgeMS: 1000}}
		}, report.AnswerYes, judge.AdvertRefused},
		"refused long ago": {func(x *pairOf) {
			x.carp.Instances[0].Routers[0].Refusals = []api.Refusal{{Kind: "ttl", Text: "bad TTL", AgeMS: 100_000}}
		}, report.AnswerYes, ""},
		"own VIP configured": {func(x *pairOf) {
			x.carp.Configured = []api.Configured{{Address: netip.MustParsePrefix("192.0.2.1/24"), Interface: "eth3"}}
		}, report.AnswerNo, judge.VIPConfigured},
		"own MAC twice": {func(x *pairOf) {
			x.carp.Instances[0].Routers[0].Refusals = []api.Refusal{{Kind: api.RefusedMAC, AgeMS: 1000}}
		}, report.AnswerNo, judge.SameMAC},
		"own address twice": {func(x *pairOf) {
			x.carp.Instances[0].Routers[0].Refusals = []api.Refusal{{Kind: api.RefusedOwn, AgeMS: 1000}}
		}, report.AnswerYes, judge.SameAddress},
		"a stranger is MASTER": {func(x *pairOf) { x.heard("192.0.2.77", 100) }, report.AnswerNo,
			judge.ForeignRouter},
		"the peer is MASTER, too": {func(x *pairOf) { x.heard("192.0.2.12", 100) }, report.AnswerYes, ""},
		"a stranger was MASTER":   {func(x *pairOf) { x.heard("192.0.2.77", 100_000) }, report.AnswerYes, ""},
		"demoted": {func(x *pairOf) {
			x.carp.Demotion, x.carp.Demotions = 40, []api.Demotion{{ID: "operator", By: 40}}
		}, report.AnswerYes, judge.MasterDemoted},
		"repaired lately": {func(x *pairOf) {
			x.carp.Repairs = []api.Repair{{Kind: api.RepairedFence, Count: 3,
				AgeMS: 1000}}
		}, report.AnswerYes, judge.Repaired},
		"repaired long ago": {func(x *pairOf) {
			x.carp.Repairs = []api.Repair{{Kind: api.RepairedFence, Count: 3,
				AgeMS: 1e6}}
		}, report.AnswerYes, ""},
		"cannot be repaired": {func(x *pairOf) {
			x.carp.Repairs = []api.Repair{{Kind: api.RepairedFence, Error: "no netlink"}}
		}, report.AnswerNo, judge.CannotRepair},
		"rp_filter": {func(x *pairOf) { x.sysctl["net/ipv4/conf/eth0/rp_filter"] = "1" },
			report.AnswerYes, judge.StrictFilter},
		"own interface does not forward": {func(x *pairOf) { x.sysctl["net/ipv4/conf/eth0/forwarding"] = "0" },
			report.AnswerNo, judge.ForwardingOff},
		"own guard broken": {func(x *pairOf) { x.guard.Trouble = "operation not supported" }, report.AnswerYes,
			judge.LeakGuard},
		"own guard drops": {func(x *pairOf) { x.guard.Lately = 3 }, report.AnswerYes, judge.LeakStopped},
		"own disk full": {func(x *pairOf) { x.state = "no space left on device" }, report.AnswerYes,
			judge.StateUnwritable},
		"carpd's disk full": {func(x *pairOf) { x.carp.StateError = "no space left on device" },
			report.AnswerYes, judge.StateUnwritable},
		"peer's clock is wrong": {func(x *pairOf) { x.peer.Clock = time.Now().Unix() + 3600 },
			report.AnswerYes, judge.ClockDiffers},
		"peer does not name this gateway": {func(x *pairOf) {
			x.peer.Peers = []judge.Known{{Name: "10.9.0.3", Node: "three", Connected: true}}
		}, report.AnswerYes, judge.PeersDiffer},
		"peer follows another": {func(x *pairOf) {
			three := "three"
			x.peer.Groups[0].Following = &three
		}, report.AnswerNo, judge.NotFollowing},
		"IKE settings unreadable": {func(x *pairOf) {
			x.status.Groups[0].Keying = engine.KeyingStatus{Driver: "strongswan", State: "active",
				ProbeError: "too long"}
		}, report.AnswerUnknown, judge.IKEUnknown},
		"link to the MASTER cut": {func(x *pairOf) {
			g := &x.status.Groups[0]
			g.Role, g.Standbys, g.Peers = "BACKUP", nil,
				[]engine.GroupPeerState{{Peer: "10.9.0.3", Role: "BACKUP", InSync: true}}
			x.status.Members = []engine.MemberStatus{{}}
			x.facts.peers = func() []peer.Status {
				return []peer.Status{{Name: "10.9.0.2"}, {Name: "10.9.0.3", Session: new(peer.Session)}}
			}
			x.seen = []report.Seen{{Peer: "10.9.0.2", Via: "10.9.0.3", Age: 0.4,
				Roles: []report.SeenRole{{Group: "outside", Role: "MASTER"}}}}
		}, report.AnswerUnknown, judge.LinkCut},
		"a tunnel of this gateway": {func(x *pairOf) { x.status.Local = scope.Local{SAs: 2, Policies: 3} },
			report.AnswerYes, judge.NotReplicated},
		"keepalived": {func(x *pairOf) { x.elected(judge.TrackerKeepalived, tracker.StandingAble) },
			report.AnswerYes, ""},
		"keepalived is gone": {func(x *pairOf) {
			x.elected(judge.TrackerKeepalived, tracker.StandingGone)
		}, report.AnswerNo, judge.ElectorLost},
		"keepalived's VIP is gone": {func(x *pairOf) {
			x.elected(judge.TrackerKeepalived, tracker.StandingAble)
			x.own = map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}
		}, report.AnswerNo, judge.VIPMissing},
		"keepalived's VIP follows": {func(x *pairOf) {
			x.elected(judge.TrackerKeepalived, tracker.StandingAble)
			x.own, x.status.Groups[0].Since = map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}, time.Now()
		}, report.AnswerYes, ""},
		"keepalived's BACKUP has the VIP": {func(x *pairOf) {
			x.elected(judge.TrackerKeepalived, tracker.StandingAble)
			x.status.Groups[0].Role, x.peer.Groups[0].Role = "BACKUP", "MASTER"
			x.status.Groups[0].Standbys = nil
			x.peer.Groups[0].Standbys = []judge.Standby{{Node: "one", Complete: true}}
			x.status.Groups[0].Following = "10.9.0.2"
		}, report.AnswerNo, judge.VIPConfigured},
		"address": {func(x *pairOf) { x.elected("address", tracker.StandingHidden) }, report.AnswerUnknown,
			judge.ElectionUnknown},
		"locked": {func(x *pairOf) { x.elected(judge.TrackerLocked, 0) }, report.AnswerNo, judge.Locked},
		"keys differ": {func(x *pairOf) {
			x.status.Members, x.status.Groups[0].Standbys, x.status.Groups[0].Peers = []engine.MemberStatus{{}}, nil,
				nil
			x.facts.peers = func() []peer.Status {
				return []peer.Status{{Name: "10.9.0.2", Trouble: peer.Reason{Code: wire.ByeVersion, Text: "versions"}}}
			}
		}, report.AnswerNo, judge.PeerVersion},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairOf()
			tt.edit(x)
			v := x.verdict(t)
			all := append(v.Reasons, v.Warnings...)
			if v.Answer != tt.answer || v.Fit != (tt.answer == report.AnswerYes) {
				t.Errorf("answer %q, fit %v: %+v", v.Answer, v.Fit, all)
			}
			if tt.code == "" && len(all) > 0 || tt.code != "" && (len(all) == 0 || all[0].Code != string(tt.code)) {
				t.Errorf("problems %+v, want %q", all, tt.code)
			}
		})
	}
}

// A carpdev that does not exist is named, be it misspelt.
func TestAbsentInterfaceIsNamed(t *testing.T) {
	x := newPairOf()
	g := &x.status.Groups[0]
	g.Role, g.Reason, g.Standbys = "INIT", "start", nil
	x.peer.Groups[0].Role = "MASTER"
	x.carp.State, x.carp.Instances[0].Interface = api.StateInit, "eht0"
	all := x.verdict(t).Reasons
	if i := slices.IndexFunc(all, func(p report.Problem) bool { return p.Code == string(judge.NotBackup) }); i < 0 ||
		all[i].What != "it is INIT, not BACKUP: interface eht0 of instance outside does not exist" {
		t.Errorf("reasons %+v", all)
	}
}

// TestReportIsTold: the engine gets what is known of this gateway, and carpd is
// really asked.
func TestReportIsTold(t *testing.T) {
	carpd := newStubCarpd(t)
	carpd.begin()
	el := newCarpdElector(carpd.path, []string{"carp1"}, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = el.Run(ctx) }()
	go func() {
		for range el.Events() { //nolint:revive // nobody else reads them
		}
	}()
	x := newPairOf()
	eng := &told{status: x.status, report: make(chan []byte, 1)}
	eng.status.Groups[0].Name = "carp1"
	x.facts.eng, x.facts.carp = eng, el.state
	ended := make(chan error, 1)
	go func() { ended <- x.facts.Run(ctx) }()
	await := func(what string, ok func(g judge.Group) bool) {
		t.Helper()
		limit := time.After(20 * time.Second)
		var last string
		for {
			select {
			case b := <-eng.report:
				last = string(b)
				var f judge.Facts
				if err := json.Unmarshal(b, &f); err != nil {
					t.Fatal(err)
				}
				if ok(f.Groups[0]) {
					return
				}
			case <-limit:
				t.Fatalf("%s: the last report is %s", what, last)
			}
		}
	}
	await("carpd answers", func(g judge.Group) bool {
		return g.Elector == "" && g.Carp != nil &&
			g.Carp.Group == "gate"
	})
	carpd.end()
	await("carpd is dead", func(g judge.Group) bool { return g.Elector != "" && g.Carp == nil })
	cancel()
	if err := <-ended; err != nil && !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}

// TestRepairsOfTheLastMinutes: what carpd counts since its start becomes what it counts
// of the last five minutes.
func TestRepairsOfTheLastMinutes(t *testing.T) {
	var r repairs
	now := time.Now()
	for i, tt := range []struct {
		after time.Duration
		count uint64 // as carpd tells
		want  uint64
	}{
		{0, 7, 1}, // when those before the latest were it does not tell
		{time.Minute, 7, 1}, {time.Minute, 10, 4}, {3 * time.Minute, 10, 3}, {2 * time.Minute, 10, 0},
		{time.Second, 2, 2}, // restarted
	} {
		now = now.Add(tt.after)
		got := uint64(0)
		for _, x := range r.recent(&api.GroupState{Group: "g", Repairs: []api.Repair{{Kind: api.RepairedFence,
			Count: tt.count}}}, now) {
			got += x.Count
		}
		if got != tt.want {
			t.Errorf("step %d: %d, want %d", i, got, tt.want)
		}
	}
}

// TestEachFactHasItsPlace: no value is told under another one's name.
func TestEachFactHasItsPlace(t *testing.T) {
	x := newPairOf()
	g := &x.status.Groups[0]
	g.Role, g.Reason, g.InSync, g.Why, g.VIPs, g.Following = "BACKUP", "reason", true, "why",
		[]netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")}, "10.9.0.2"
	g.SAs, g.Policies, g.Refused, g.Unlike, g.Uncovered, g.Offloaded = 1, 2, 3, 4, 5, 6
	g.Keying = engine.KeyingStatus{Driver: "driver", State: "state", Error: "error", Lint: [][2]string{{"a", "b"}},
		Absent: true, Version: "version", Probed: true, ProbeError: "probe"}
	g.Standbys[0].Lag = 7
	x.status.Local = scope.Local{SAs: 8, Policies: 9, Example: "example"}
	x.state, x.seen = "state error", []report.Seen{{Node: "three"}}
	x.guard = leakguard.State{Trouble: "guard error", Lately: 10}
	x.sysctl["net/ipv6/conf/all/forwarding"] = "0"
	got := x.facts.collect(t.Context(), x.status)
	if got.Tracker != "carpd" || got.StateError != "state error" || got.GuardError != "guard error" ||
		got.GuardDropped != 10 ||
		!slices.Equal(got.Apart, []string{"three"}) || *got.Local != (judge.Local{SAs: 8, Policies: 9, Example: "example"}) ||
		!*got.Forward4 || *got.Forward6 {
		t.Errorf("%+v", got)
	}
	two, of := "two", got.Groups[0]
	of.Carp, of.Missing, of.Stray = nil, nil, nil
	want := judge.Group{Name: "outside", Role: "BACKUP", Reason: "reason", InSync: true, Why: "why",
		VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		SAs:  1, Policies: 2, Refused: 3, Unlike: 4, Uncovered: 5, Offloaded: 6,
		Keying: judge.Keying{Driver: "driver", State: "state", Error: "error", Lint: [][2]string{{"a", "b"}}, Absent: true,
			Version: "version", Probed: true, ProbeError: "probe"},
		Following: &two, Others: []judge.Other{{Node: "two", Role: "BACKUP"}},
		Standbys: []judge.Standby{{Node: "two", Complete: true, Lag: 7}}}
	if !reflect.DeepEqual(of, want) {
		t.Errorf("got  %+v\nwant %+v", of, want)
	}
	for _, carried := range []func(g *engine.GroupStatus){func(g *engine.GroupStatus) { g.HadSAs = true },
		func(g *engine.GroupStatus) { g.PacketsIn = 1 }, func(g *engine.GroupStatus) { g.PacketsOut = 1 }} {
		s := x.status
		s.Groups = slices.Clone(s.Groups)
		carried(&s.Groups[0])
		if !x.facts.collect(t.Context(), s).Groups[0].Carried {
			t.Errorf("that it carried traffic is not told: %+v", s.Groups[0])
		}
	}
}

// TestSettingsAreReadNowAndThen: again when their time is over, and at once for other
// interfaces; what is told meanwhile is what was read.
func TestSettingsAreReadNowAndThen(t *testing.T) {
	var h hostFacts
	value, reads := "2", 0
	read := func(name string) string {
		reads++
		if strings.HasSuffix(name, "accept_ra") {
			return value
		}
		return "1"
	}
	of := func(devices ...string) *judge.Facts {
		c := &judge.Carp{}
		for _, d := range devices {
			c.Instances = append(c.Instances, judge.Instance{Interface: d, Routers: []judge.Router{{Family: "ipv6"}}})
		}
		return &judge.Facts{Groups: []judge.Group{{}, {Carp: c}}}
	}
	begin := time.Unix(1000, 0)
	for i, tt := range []struct {
		facts *judge.Facts
		after time.Duration
		value string
		want  int
		reads bool
	}{
		{of("eth0"), 0, "2", 1, true}, {of("eth0"), 0, "2", 1, false}, {of("eth0"), settingsEvery - 1, "0", 1, false},
		{of("eth0"), settingsEvery, "0", 0, true}, {of("eth0"), settingsEvery, "2", 0, false},
		{of("eth0", "eth1"), settingsEvery, "2", 2, true}, {of("eth0", "eth1"), settingsEvery + 1, "0", 2, false},
		{of("eth1"), settingsEvery + 1, "2", 1, true},
	} {
		value, reads = tt.value, 0
		got := h.settings(tt.facts, read, begin.Add(tt.after))
		if len(got) != tt.want || (reads > 0) != tt.reads {
			t.Errorf("step %d: %v, read %d times", i, got, reads)
		}
	}
}
