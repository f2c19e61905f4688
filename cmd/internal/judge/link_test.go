package judge

import (
	"slices"
	"strings"
	"testing"
)

// parted judges on member i of three where the link between a and b is cut, and the
// third passes on what they are.
func parted(t *testing.T, s *situation, a, b, i int) Verdict {
	t.Helper()
	third := 3 - a - b
	s.facts[a].Apart, s.facts[b].Apart = []string{s.node(b)}, []string{s.node(a)}
	s.master().Standbys = slices.DeleteFunc(s.master().Standbys, func(x Standby) bool {
		return (a == 0 || b == 0) && x.Node == s.node(a+b)
	})
	return s.judge(t, i, func(j int, p *Peer) {
		if i != third && j != third && i != j {
			p.Connected, p.Facts, p.Seen = false, nil, nil
			p.Sight = &Sight{Via: s.facts[third].Host, Age: 0.42}
			for _, g := range s.facts[j].Groups {
				p.Sight.Roles = append(p.Sight.Roles, Seen{Name: g.Name, Role: g.Role})
				if g.Role == "MASTER" {
					p.Sight.MasterOf = append(p.Sight.MasterOf, "ipsec")
				}
			}
		}
	})
}

// TestLinkIsCut: of three gateways two cannot reach each other. Everybody says so, and
// nobody that there is no MASTER.
func TestLinkIsCut(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b, on int
		edit     func(s *situation)
		answer   Answer
		severity Severity
		member   string
		words    string
	}{
		"to the MASTER, on the standby": {0, 1, 1, func(s *situation) {
			s.standby().InSync, s.standby().Why = false,
				"not all members heard"
		},
			CannotTell, Unknown, "gw1",
			"it is alive and MASTER of ipsec, seen by way of gw3 0.4 s ago: the link between you is cut"},
		"to the MASTER, on the MASTER": {0, 1, 0, func(*situation) {}, Yes, Costs, "gw2",
			"it is alive, seen by way of gw3 0.4 s ago: the link between you is cut"},
		"to the MASTER, on the third": {0, 1, 2, func(s *situation) {
			s.standby().InSync, s.standby().Why = false,
				"not all members heard"
		},
			Yes, Costs, "gw1", "the link between it and gw2 is cut"},
		"between standbys, on one": {1, 2, 1, func(*situation) {}, Yes, Costs, "gw3",
			"it is alive, seen by way of gw1 0.4 s ago"},
		"between standbys, on the other": {1, 2, 2, func(*situation) {}, Yes, Costs, "gw2",
			"it is alive, seen by way of gw1 0.4 s ago"},
		"between standbys, on MASTER": {1, 2, 0, func(*situation) {}, Yes, Costs, "gw2",
			"the link between it and gw3 is cut"},
		"of a group that this gateway does not follow": {0, 1, 1, func(s *situation) { s.standby().Name = "inside" },
			No, Costs, "gw1", "MASTER of ipsec"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(3)
			tt.edit(s)
			v := parted(t, s, tt.a, tt.b, tt.on)
			if v.Answer != tt.answer {
				t.Errorf("%v: %+v", v.Answer, v.Findings)
			}
			var cuts []Finding
			for _, f := range v.Findings {
				if f.Code == LinkCut {
					cuts = append(cuts, f)
				}
				if f.Code == NoMaster && tt.severity != Costs || f.Code == TwoMasters {
					t.Errorf("%+v", f)
				}
			}
			if len(cuts) != 1 {
				t.Fatalf("cuts %+v", cuts)
			}
			if f := cuts[0]; f.Severity != tt.severity || f.Member != tt.member || !strings.Contains(f.Cause,
				tt.words) || f.Remedy == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestCutIsOfTheMoment: a report that is old says nothing of a link.
func TestCutIsOfTheMoment(t *testing.T) {
	s := newSituation(3)
	s.stale = []int{1}
	s.facts[1].Apart = []string{s.node(2)}
	v := s.at(t, 0)
	if slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == LinkCut }) {
		t.Errorf("%+v", v.Findings)
	}
	s.stale = nil
	if v = s.at(t, 0); !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == LinkCut }) {
		t.Errorf("%+v", v.Findings)
	}
}
