package report

import (
	"strings"
	"testing"

	"sasyncd/sync/engine"
)

// healthy is a master with a complete standby.
func healthy() engine.Status {
	return engine.Status{
		Members: []engine.MemberStatus{{Peer: "b"}},
		Groups: []engine.GroupStatus{{Name: "carp1", Role: "MASTER", InSync: true,
			Standbys: []engine.StandbyStatus{{Peer: "b", Complete: true, Lag: 0.1}}, Peers: []engine.GroupPeerState{{Peer: "b", Role: "BACKUP"}}}},
	}
}

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(s *engine.Status, g *engine.GroupStatus)
		want string // in a reason; "": a failover would work
	}{
		"healthy":     {func(*engine.Status, *engine.GroupStatus) {}, ""},
		"backup":      {func(_ *engine.Status, g *engine.GroupStatus) { g.Role, g.Standbys = "BACKUP", nil }, ""},
		"alone":       {func(s *engine.Status, _ *engine.GroupStatus) { s.Members = nil }, "no peer is connected"},
		"snapshot":    {func(_ *engine.Status, g *engine.GroupStatus) { g.Standbys[0].Complete = false }, "still receiving"},
		"slow":        {func(_ *engine.Status, g *engine.GroupStatus) { g.Standbys[0].Lag = 7 }, "7.0 s behind"},
		"no standby":  {func(_ *engine.Status, g *engine.GroupStatus) { g.Standbys = nil }, "no standby follows"},
		"not in sync": {func(_ *engine.Status, g *engine.GroupStatus) { g.Role, g.InSync, g.Why = "BACKUP", false, "a reason" }, "a reason"},
		"no role":     {func(_ *engine.Status, g *engine.GroupStatus) { g.Role = "INIT" }, "role is not known"},
		"refused":     {func(_ *engine.Status, g *engine.GroupStatus) { g.Refused = 2 }, "2 items are refused"},
		"another kernel's attributes, on a standby": {func(_ *engine.Status, g *engine.GroupStatus) {
			g.Role, g.Standbys, g.Refused, g.Unlike = "BACKUP", nil, 5, 2
		}, "2 items have attributes unknown to this version, and the master's kernel is of another release\n3 items are refused"},
		"another kernel's attributes, on the master": {func(_ *engine.Status, g *engine.GroupStatus) { g.Unlike = 2 }, "a standby's kernel"},
		"offloaded":   {func(_ *engine.Status, g *engine.GroupStatus) { g.Offloaded = 4 }, "4 SAs are offloaded"},
		"uncovered":   {func(_ *engine.Status, g *engine.GroupStatus) { g.Uncovered = 3 }, "3 SAs cannot"},
		"two masters": {func(_ *engine.Status, g *engine.GroupStatus) { g.Peers[0].Role = "MASTER" }, "b is MASTER too"},
		"ike":         {func(_ *engine.Status, g *engine.GroupStatus) { g.Keying.Error = "vici" }, "vici"},
		"ike config":  {func(_ *engine.Status, g *engine.GroupStatus) { g.Keying.Lint = [][2]string{{"a trap", "avoid it"}} }, "a trap"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			tt.edit(&s, &s.Groups[0])
			v := Check(s, nil)
			text := ""
			for _, r := range v.Reasons {
				text += r.What + "\n"
				if r.Remedy == "" {
					t.Errorf("no remedy for %q", r.What)
				}
			}
			if v.Fit != (tt.want == "") || v.Fit != (len(v.Reasons) == 0) || !strings.Contains(text, tt.want) {
				t.Errorf("fit %v: %s", v.Fit, text)
			}
		})
	}
	// One of several peers that is away does not stop a failover, but shows.
	v := Check(healthy(), []Peer{{Name: "b", Connected: true}, {Name: "c", Trouble: "timeout"}})
	if !v.Fit || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0].What, "peer c is not connected: timeout") || v.Warnings[0].Remedy == "" {
		t.Errorf("%+v", v)
	}
}

// Why nobody is connected is said, with what helps against that.
func TestUnconnectedSaysWhatToDo(t *testing.T) {
	for trouble, remedy := range map[string]string{
		"connect to 10.0.0.2:500: tls: refused the shared key":                           "sha256sum",
		"connect to 10.0.0.2:500: dial tcp 10.0.0.2:500: connection refused":             "start sasyncd there",
		"connect to 10.0.0.2:500: dial tcp 10.0.0.2:500: network is unreachable":         "firewall",
		"both nodes have the id 1234: remove the state directory of a cloned one":        "state directory of its own",
		"peer says version: this node speaks protocol versions 1 to 1, the other 3 to 4": "upgrade",
		"": "log of both nodes",
	} {
		v := Check(engine.Status{}, []Peer{{Name: "10.0.0.2", Trouble: trouble}})
		if v.Fit || len(v.Reasons) != 1 || !strings.Contains(v.Reasons[0].What, trouble) || !strings.Contains(v.Reasons[0].Remedy, remedy) {
			t.Errorf("%q: %+v", trouble, v)
		}
	}
	// Of several, each is named.
	v := Check(engine.Status{}, []Peer{{Name: "a", Trouble: "refused the shared key"}, {Name: "b", Trouble: "connection refused"}})
	if v.Fit || len(v.Warnings) != 2 || !strings.Contains(v.Warnings[0].What, "a is not connected") {
		t.Errorf("%+v", v)
	}
}
