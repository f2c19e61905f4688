package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/conf"
	"sasyncd/keying"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

const anyKey = "sharedkey 0x000102030405060708090a0b0c0d0e0f1011121314151617\n"

func parsed(t *testing.T, text string) *conf.Sasyncd {
	t.Helper()
	c, err := conf.ParseSasyncd("sasyncd.conf", []byte(text+anyKey))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEngineConfig: each statement reaches the engine.
func TestEngineConfig(t *testing.T) {
	hello := &wire.Hello{Node: wire.NodeID{7}, Nonce: 9, Kernel: "6.1", BigEndian: true}
	const base = "interface carp1\npeer 10.9.0.2\n"
	of := func(text string) engine.Config { return engineConfig(parsed(t, text), hello, nil, slog.Default()) }
	c := of(base)
	if c.Node != hello.Node || c.Nonce != 9 || c.Kernel != "6.1" || !c.BigEndian || c.Peers != 1 || c.Log == nil ||
		len(c.Groups) != 1 || c.Groups[0] != (engine.GroupConfig{Name: "carp1"}) || len(c.Skip) > 0 || c.Fence == nil {
		t.Errorf("%+v", c)
	}
	if c.Interval != time.Second || c.Margin.Interval != time.Second || c.Margin.Detection != time.Second ||
		c.Margin.ESN != conf.DefaultMarginESN || c.Margin.Legacy != conf.DefaultMargin32 || c.Audit != audit ||
		!c.Sweep || !c.ForwardFlush || c.Advance {
		t.Errorf("defaults: %+v", c)
	}
	for text, want := range map[string]func(engine.Config) bool{
		"replay interval 200ms\n": func(c engine.Config) bool {
			return c.Interval == 200*time.Millisecond && c.Margin.Interval == c.Interval
		},
		"replay margin 5000000 70000\n": func(c engine.Config) bool {
			return c.Margin.ESN == 5_000_000 && c.Margin.Legacy == 70_000
		},
		"replay inbound advance\n": func(c engine.Config) bool { return c.Advance },
		"flushmode startup\n":      func(c engine.Config) bool { return c.Sweep && c.ForwardFlush },
		"flushmode sync\n":         func(c engine.Config) bool { return !c.Sweep && c.ForwardFlush },
		"flushmode never\n":        func(c engine.Config) bool { return !c.Sweep && !c.ForwardFlush },
		"control strongswan-ha\n":  func(c engine.Config) bool { return c.Groups[0].CountersOnly },
		"mode slave\n":             func(c engine.Config) bool { return c.Fence == nil },
		"peer 10.8.0.3 10.9.0.3\nmode skipslave\n": func(c engine.Config) bool {
			return c.Peers == 2 && slices.Equal(c.Skip, []netip.Addr{netip.MustParseAddr("10.9.0.2"),
				netip.MustParseAddr("10.8.0.3"), netip.MustParseAddr("10.9.0.3")})
		},
		"control none\ninterface carp2\ncontrol none\n": func(c engine.Config) bool {
			return len(c.Groups) == 2 && c.Groups[1].Name == "carp2"
		},
	} {
		if c := of(base + text); !want(c) {
			t.Errorf("%q: %+v", text, c)
		}
	}
	if c := of("peer 10.9.0.2\nmode master\n"); len(c.Groups) != 1 || !c.Groups[0].Whole {
		t.Errorf("without an interface: %+v", c.Groups)
	}
}

// TestElectorOf: the mode and the tracker decide who says the role.
func TestElectorOf(t *testing.T) {
	for text, role := range map[string]wire.Role{"mode master\n": wire.RoleMaster, "mode slave\n": wire.RoleBackup} {
		el, err := electorOf(parsed(t, "control none\ninterface carp1\nvip 192.0.2.1\ninterface carp2\npeer 10.9.0.2\n"+
			text), nil, nil, slog.Default())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"carp1", "carp2"} {
			select {
			case ev := <-el.Events():
				if ev.Kind != engine.ElectorState || ev.Group != name || ev.Role != role || ev.Term != 1 ||
					name == "carp1" && len(ev.VIPs) != 1 {
					t.Errorf("%q: %+v", text, ev)
				}
			default:
				t.Errorf("%q: %s has no role", text, name)
			}
		}
		if el.HandOver(t.Context(), "carp1") == nil {
			t.Errorf("%q: a locked role is handed over", text)
		}
	}
	el, err := electorOf(parsed(t, "control none\ninterface carp1\ninterface carp2\npeer 10.9.0.2\ncarpd socket \"/x\"\n"),
		nil, nil, slog.Default())
	if e, ok := el.(*carpdElector); err != nil || !ok || !slices.Equal(e.names, []string{"carp1", "carp2"}) {
		t.Errorf("%T, %v", el, err)
	}
}

// TestPeersAndListeners: links of a peer with its port, and where to listen by family.
func TestPeersAndListeners(t *testing.T) {
	c := parsed(t, "interface carp1\npeer 10.9.0.2 fd00:9::2 port 501\npeer 10.9.0.3\n")
	list := peersOf(c)
	if len(list) != 2 || list[0].Name != "10.9.0.2" || !slices.Equal(list[0].Addrs, []string{"10.9.0.2:501",
		"[fd00:9::2]:501"}) || !slices.Equal(list[1].Addrs, []string{"10.9.0.3:500"}) {
		t.Errorf("peers %+v", list)
	}
	for text, want := range map[string][]string{
		"":                               {":500"},
		"listen on 10.9.0.1\n":           {"10.9.0.1:500"},
		"listen on fd00:9::1 port 502\n": {"[fd00:9::1]:502"},
		"listen on lo inet\n":            {"127.0.0.1:500"},
		"listen on lo inet6\n":           {"[::1]:500"},
		"listen on 10.9.0.1\nlisten on 10.8.0.1 port 501\n": {"10.9.0.1:500", "10.8.0.1:501"},
	} {
		if got := listenAddrs(parsed(t, "interface carp1\npeer 10.9.0.2\n"+text)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if both := listenAddrs(parsed(t, "interface carp1\npeer 10.9.0.2\nlisten on lo\n")); len(both) < 2 {
		t.Errorf("listen on lo: %v", both)
	}
}

// TestRestarter: an IKE daemon is restarted that could not share the port, and no other.
func TestRestarter(t *testing.T) {
	for control, want := range map[string]bool{"auto": true, "strongswan": true, "strongswan-ha": true, "libreswan": false,
		"none": false, "iked": false} {
		got := restarter(parsed(t, "interface carp1\ncontrol "+control+"\npeer 10.9.0.2\n"), nil)
		if (got != nil) != want {
			t.Errorf("control %s: restarts %v, want %v", control, got != nil, want)
		}
	}
}

// TestDriverOf: each word of `control` has a driver of its own.
func TestDriverOf(t *testing.T) {
	for kind, want := range map[conf.ControlKind]string{conf.ControlStrongswan: "strongswan",
		conf.ControlStrongswanHA: "strongswan-ha", conf.ControlLibreswan: "libreswan", conf.ControlIked: "iked",
		conf.ControlIsakmpd: "isakmpd", conf.ControlExec: "exec"} {
		d, err := driverOf(kind, "carp1", &keying.Local{}, nil)
		if err != nil || d == nil || d.Name() != want {
			t.Errorf("%s: %v, %v", kind, d, err)
		}
	}
	if d, err := driverOf(conf.ControlNone, "carp1", nil, nil); d != nil || err != nil {
		t.Errorf("none: %v, %v", d, err)
	}
	if d, err := driverOf("of the future", "carp1", nil, nil); d != nil || err == nil {
		t.Errorf("unknown: %v, %v", d, err)
	}
	for kind, want := range map[conf.ControlKind][]keying.Daemon{
		conf.ControlStrongswan: {keying.StrongSwan}, conf.ControlStrongswanHA: {keying.StrongSwan},
		conf.ControlLibreswan: {keying.Libreswan}, conf.ControlIked: {keying.OpenIKED},
		conf.ControlIsakmpd: {keying.ISAKMPD}, conf.ControlAll: {keying.ISAKMPD, keying.OpenIKED},
		conf.ControlAuto: {keying.StrongSwan, keying.Libreswan, keying.OpenIKED, keying.ISAKMPD},
		conf.ControlNone: nil, conf.ControlExec: nil, conf.ControlStatic: nil,
	} {
		if got := daemonsOf(kind); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
		acted := acts(&conf.Sasyncd{Groups: []conf.SyncGroup{{}, {Control: conf.Control{Kind: kind}}}[1:]})
		if want := kind != conf.ControlNone && kind != conf.ControlStatic; acted != want {
			t.Errorf("%s acts: %v, want %v", kind, acted, want)
		}
	}
}

// TestProgress: a transfer is complete, under way, or with a peer that is gone.
func TestProgress(t *testing.T) {
	way := &engine.Progress{Peer: "b", Done: 3, Of: 9}
	pull, push := engine.Transfer{Group: "g", Peer: "b"}, engine.Transfer{Group: "g", Peer: "b", Push: true}
	for name, tt := range map[string]struct {
		g     engine.GroupStatus
		t     engine.Transfer
		p     *engine.Progress
		items uint64
		gone  bool
	}{
		"fetched":            {engine.GroupStatus{Following: "b", Complete: true, SAs: 4, Policies: 5}, pull, nil, 9, false},
		"on its way":         {engine.GroupStatus{Following: "b", Snapshot: way}, pull, way, 0, false},
		"asked":              {engine.GroupStatus{Following: "b"}, pull, &engine.Progress{Peer: "b"}, 0, false},
		"from somebody else": {engine.GroupStatus{Following: "c", Complete: true}, pull, nil, 0, true},
		"sent": {engine.GroupStatus{SAs: 4, Policies: 5, Standbys: []engine.StandbyStatus{{Peer: "c", Snapshot: way},
			{Peer: "b"}}}, push, nil, 9, false},
		"being sent": {engine.GroupStatus{Standbys: []engine.StandbyStatus{{Peer: "b", Snapshot: way}}}, push, way, 0,
			false},
		"to who has gone": {engine.GroupStatus{Standbys: []engine.StandbyStatus{{Peer: "c"}}}, push, nil, 0, true},
	} {
		tt.g.Name = "g"
		p, items, gone := progress(engine.Status{Groups: []engine.GroupStatus{{Name: "other"}, tt.g}}, tt.t)
		if (p == nil) != (tt.p == nil) || p != nil && *p != *tt.p || items != tt.items || gone != tt.gone {
			t.Errorf("%s: %+v, %d, gone %v", name, p, items, gone)
		}
	}
	if _, _, gone := progress(engine.Status{}, pull); !gone {
		t.Error("a group that is not there has not gone")
	}
}

// TestElectorMessages: what carpd says reaches the groups that it is about, as what it is.
func TestElectorMessages(t *testing.T) {
	e := newCarpdElector("/nonexistent", []string{"carp1", "carp2", "carp3"}, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := func(m api.Message) (out []engine.ElectorEvent) {
		e.message(ctx, m)
		for {
			select {
			case ev := <-e.events:
				out = append(out, ev)
			default:
				return out
			}
		}
	}
	vip := netip.MustParseAddr("192.0.2.1")
	peer := api.RouterState{Peer: netip.MustParseAddr("192.0.2.3"), HeardMS: 100, DownMS: 900}
	state := func(group, is string, instances ...string) *api.GroupState {
		s := &api.GroupState{Group: group, State: is, Term: 5, Seen: 8, Reason: "because",
			VIPs: []api.VIP{{Address: vip}}, AgeMS: 100}
		for _, i := range instances {
			s.Instances = append(s.Instances, api.InstanceState{Name: i})
		}
		return s
	}
	if got := events(api.Message{Event: api.EventPrepare, Group: "gate", To: api.StateMaster}); len(got) > 0 {
		t.Errorf("of a group of which nothing is known: %+v", got)
	}
	s := state("gate", api.StateMaster, "carp1", "carp2")
	s.Takeover = &api.Takeover{GapMS: 40, AgeMS: 100}
	s.WhenSplit = api.SplitPreferTraffic
	got := events(api.Message{Event: api.EventState, Group: "gate", State: s})
	if len(got) != 2 || got[0].Group != "carp1" || got[1].Group != "carp2" {
		t.Fatalf("%+v", got)
	}
	for _, ev := range got {
		if ev.Kind != engine.ElectorState || ev.Role != wire.RoleMaster || ev.Term != 5 || ev.Reason != "because" ||
			!slices.Equal(ev.VIPs, []netip.Addr{vip}) || !ev.PreferTraffic || !ev.Measured || ev.Gap != 40*time.Millisecond {
			t.Errorf("MASTER: %+v", ev)
		}
	}
	s = state("other", api.StateBackup, "carp3")
	s.Takeover = &api.Takeover{GapMS: 40, AgeMS: 100}
	s.Instances[0].Routers = []api.RouterState{{}, peer}
	got = events(api.Message{Event: api.EventState, Group: "other", State: s, Snapshot: true})
	if len(got) != 3 || got[0].Kind != engine.ElectorFitness || !got[0].Willing || got[0].Demotion != 0 ||
		got[1].Kind != engine.ElectorState || got[1].Role != wire.RoleBackup || got[1].Term != 8 || got[1].Measured ||
		got[1].PreferTraffic || got[2].Kind != engine.ElectorHeard || got[2].Group != "carp3" {
		t.Errorf("BACKUP that hears a MASTER: %+v", got)
	}
	s.Instances[0].Routers[1].HeardMS = 900
	if got = events(api.Message{Event: api.EventState, Group: "other", State: s}); len(got) != 1 {
		t.Errorf("BACKUP that hears none: %+v", got)
	}
	s = state("gate", api.StateMaster, "carp1", "carp2")
	s.Takeover = &api.Takeover{GapMS: 40, AgeMS: 200} // of an earlier mastership
	if got = events(api.Message{Event: api.EventState, Group: "gate", State: s}); len(got) != 2 || got[0].Measured {
		t.Errorf("MASTER without a takeover: %+v", got)
	}
	if got = events(api.Message{Event: api.EventState, Group: "gate", State: state("gate", api.StateInit, "carp1")}); len(
		got) != 1 || got[0].Role != wire.RoleInit || got[0].Term != 8 {
		t.Errorf("INIT: %+v", got)
	}
	for event, kind := range map[string]engine.ElectorEventKind{api.EventPrepare: engine.ElectorPrepare,
		api.EventCancel: engine.ElectorCancel} {
		got = events(api.Message{Event: event, Group: "gate", To: api.StateMaster, Term: 9, Reason: "why"})
		if len(got) != 2 || got[0].Kind != kind || got[0].To != wire.RoleMaster || got[0].Term != 9 ||
			got[0].Reason != "why" || got[0].Group != "carp1" || got[1].Group != "carp2" {
			t.Errorf("%s: %+v", event, got)
		}
	}
	if got = events(api.Message{Event: api.EventPeer, Group: "other"}); len(got) != 1 || got[0].Kind !=
		engine.ElectorHeard || got[0].Group != "carp3" {
		t.Errorf("a MASTER is heard: %+v", got)
	}
	for _, event := range []string{api.EventContested, api.EventStall, api.EventConnected} {
		if got = events(api.Message{Event: event, Group: "gate"}); len(got) > 0 {
			t.Errorf("%s: %+v", event, got)
		}
	}
	got = events(api.Message{Event: api.EventDisconnected, Reason: "gone"})
	if len(got) != 3 || got[0].Kind != engine.ElectorLost || got[2].Group != "carp3" || got[0].Reason != "gone" {
		t.Errorf("carpd is gone: %+v", got)
	}
}

// TestAble: carpd would let this node take over only as a BACKUP that nothing blocks and
// that is not demoted.
func TestAble(t *testing.T) {
	g := newGate(t, t.TempDir(), api.StateBackup, 1)
	e := newCarpdElector(g.path, []string{"carp1"}, "test", slog.New(slog.DiscardHandler))
	answered := make(chan error, 1)
	able := func() error {
		e.Able("carp1", func(err error) { answered <- err })
		select {
		case err := <-answered:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
			return nil
		}
	}
	if err := able(); err == nil || !strings.Contains(err.Error(), "carp1") {
		t.Errorf("before carpd has said anything: %v", err)
	}
	if err := e.HandOver(t.Context(), "carp1"); err == nil {
		t.Error("a hand-over before carpd has said anything")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	defer func() { cancel(); <-done }()
	isFit(t, e, 0, true)
	next(t, e)
	set := func(edit func(*api.GroupState)) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.state = api.GroupState{Group: "gate", State: api.StateBackup, Instances: g.state.Instances}
		edit(&g.state)
	}
	for says, edit := range map[string]func(*api.GroupState){
		"":           func(*api.GroupState) {},
		"is MASTER":  func(s *api.GroupState) { s.State = api.StateMaster },
		"waiting":    func(s *api.GroupState) { s.Blocked = "waiting for something" },
		"track:link": func(s *api.GroupState) { s.Demotion, s.Demotions = 1, []api.Demotion{{ID: "track:link", By: 1}} },
	} {
		set(edit)
		if err := able(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	e.HoldBack("carp1", 7*time.Second, "for another", func(err error) { answered <- err })
	if err := <-answered; err != nil {
		t.Error(err)
	}
	e.Prepared("carp1", 4)
	e.Takeover("carp1", 5, 60*time.Millisecond)
	e.Resign("carp1", "two masters")
	for verb, want := range map[string]api.Request{
		api.VerbHoldBack: {Group: "gate", Reason: "for another", HoldMS: 7000},
		api.VerbPrepared: {Group: "gate", Term: 4},
		api.VerbTakeover: {Group: "gate", Term: 5, SilentMS: 60},
		api.VerbResign:   {Group: "gate", Reason: "two masters", HoldMS: splitHold.Milliseconds()},
	} {
		waitFor(t, verb, func() bool { return len(g.said(verb)) == 1 })
		got := g.said(verb)[0]
		if got.Group != want.Group || got.Term != want.Term || got.Reason != want.Reason || got.HoldMS != want.HoldMS ||
			got.SilentMS != want.SilentMS {
			t.Errorf("%s: %+v, want %+v", verb, got, want)
		}
	}
}
