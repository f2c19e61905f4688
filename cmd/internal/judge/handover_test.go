package judge

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHandover: an order is judged as check judges, but for the group and the peer
// that it is about.
func TestHandover(t *testing.T) {
	dead := func(i int) func(*situation) {
		return func(s *situation) { s.facts[i].Groups[0].Elector = "connection refused" }
	}
	for name, tt := range map[string]struct {
		edit   func(s *situation)
		n      int
		to     string
		answer Answer
		code   Code
		able   []string
	}{
		"healthy": {func(*situation) {}, 2, "", Yes, "", []string{"gw2"}},
		"the best priority comes first": {func(s *situation) {
			s.router(2).Priority = 190
			s.facts[2].Groups[0].Carp.Instances[0].Routers[1].Priority = 190
		}, 3, "", Yes, "", []string{"gw3", "gw2"}},
		"to the lesser one":                 {func(*situation) {}, 3, "gw3", Yes, "", []string{"gw3"}},
		"another one is dead":               {dead(1), 3, "gw3", Yes, "", []string{"gw3"}},
		"the named one is dead":             {dead(1), 3, "gw2", No, ElectorLost, []string{}},
		"one of two is dead, none is named": {dead(1), 3, "", Yes, ElectorLost, []string{"gw3"}},
		"the only one is dead":              {dead(1), 2, "", No, ElectorLost, []string{}},
		"the named one is old": {func(s *situation) { s.old = []int{2} }, 3, "gw3", CannotTell, OldPeer,
			[]string{"gw3"}},
		"the named one is away": {func(s *situation) { s.away = []int{2} }, 3, "gw3", No, PeerAway,
			[]string{}},
		"another one is MASTER too": {func(s *situation) { s.standby().Role = "MASTER" }, 3, "gw3", No,
			TwoMasters, []string{"gw3"}},
		"another group is broken": {func(s *situation) {
			s.facts[0].Groups = append(s.facts[0].Groups, Group{Name: "other", Role: "BACKUP"})
		}, 2, "", Yes, "", []string{"gw2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(tt.n)
			tt.edit(s)
			v := Handover(s.node(0), s.facts[0], s.peers(t, 0), "outside", tt.to)
			if v.Answer != tt.answer {
				t.Errorf("%v, want %v: %+v", v.Answer, tt.answer, v.Findings)
			}
			if tt.code == "" && len(v.Findings) > 0 || tt.code != "" && !slices.ContainsFunc(v.Findings,
				func(f Finding) bool { return f.Code == tt.code }) {
				t.Errorf("findings %+v, want %q", v.Findings, tt.code)
			}
			if d := cmp.Diff(tt.able, Successors(s.node(0), s.facts[0], s.peers(t, 0), "outside", tt.to)); d != "" {
				t.Errorf("successors: want -, got +\n%s", d)
			}
		})
	}
}

// TestSuccessorsOfCARP: with CARP the lowest advbase and advskew come first.
func TestSuccessorsOfCARP(t *testing.T) {
	s := newSituation(3)
	for i := range s.facts {
		in := &s.facts[i].Groups[0].Carp.Instances[0]
		in.Protocol = "carp"
		for j := range in.Routers {
			in.Routers[j] = Router{Family: in.Routers[j].Family, AdvBase: 1, AdvSkew: uint8(100 - 10*i)}
		}
	}
	if d := cmp.Diff([]string{"gw3", "gw2"}, Successors(s.node(0), s.facts[0], s.peers(t, 0), "outside", "")); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
}
