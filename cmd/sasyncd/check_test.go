package main

import (
	"strings"
	"testing"

	"sasyncd/sync/engine"
)

// TestCheck: each thing that would harm a failover is a reason of its own, with
// what to do, and a healthy node has none.
func TestCheck(t *testing.T) {
	fit := func(role string) engine.Status {
		g := engine.GroupStatus{Name: "carp1", Role: role, InSync: true}
		if role == "MASTER" {
			g.Standbys = []engine.StandbyStatus{{Peer: "b", Complete: true}}
		}
		return engine.Status{Members: []engine.MemberStatus{{Peer: "b"}}, Groups: []engine.GroupStatus{g}}
	}
	for name, tc := range map[string]struct {
		role   string
		change func(*engine.Status, *engine.GroupStatus)
		want   []string // what the reasons contain, in order
	}{
		"a master":  {"MASTER", nil, nil},
		"a standby": {"BACKUP", nil, nil},
		"alone": {"MASTER", func(s *engine.Status, g *engine.GroupStatus) { s.Members, g.Standbys = nil, nil },
			[]string{"no peer"}},
		"nobody follows": {"MASTER", func(_ *engine.Status, g *engine.GroupStatus) { g.Standbys = nil },
			[]string{"no standby"}},
		"not in sync": {"BACKUP", func(_ *engine.Status, g *engine.GroupStatus) { g.InSync, g.Why = false, "a member holds more" },
			[]string{"a member holds more"}},
		"no role": {"INIT", nil, []string{"role is not known"}},
		"refused": {"BACKUP", func(_ *engine.Status, g *engine.GroupStatus) { g.Refused = 3 },
			[]string{"3 items are refused"}},
		"another kernel's attributes, on the standby": {"BACKUP", func(_ *engine.Status, g *engine.GroupStatus) { g.Refused, g.Unlike = 5, 2 },
			[]string{"2 items have attributes unknown to this version, and the master's kernel", "3 items are refused"}},
		"another kernel's attributes only": {"BACKUP", func(_ *engine.Status, g *engine.GroupStatus) { g.Refused, g.Unlike = 2, 2 },
			[]string{"2 items have attributes"}},
		"another kernel's attributes, on the master": {"MASTER", func(_ *engine.Status, g *engine.GroupStatus) { g.Unlike = 2 },
			[]string{"a standby's kernel"}},
		"offloaded": {"MASTER", func(_ *engine.Status, g *engine.GroupStatus) { g.Offloaded = 4 },
			[]string{"4 SAs are offloaded"}},
		"uncovered": {"BACKUP", func(_ *engine.Status, g *engine.GroupStatus) { g.Uncovered = 1 },
			[]string{"1 SAs cannot be kept ahead"}},
		"split": {"MASTER", func(_ *engine.Status, g *engine.GroupStatus) {
			g.Peers = []engine.GroupPeerState{{Peer: "b", Role: "MASTER"}}
		}, []string{"b is MASTER too"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := fit(tc.role)
			if tc.change != nil {
				tc.change(&s, &s.Groups[0])
			}
			v := Check(s)
			if v.Fit != (len(tc.want) == 0) || len(v.Reasons) != len(tc.want) {
				t.Fatalf("fit %v, %d reasons, want %d: %v", v.Fit, len(v.Reasons), len(tc.want), v.Reasons)
			}
			for i, r := range v.Reasons {
				if !strings.Contains(r.What, tc.want[i]) || r.Remedy == "" {
					t.Errorf("reason %q, remedy %q, want %q and some remedy", r.What, r.Remedy, tc.want[i])
				}
			}
		})
	}
}
