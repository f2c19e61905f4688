package judge

import (
	"maps"
	"strings"
	"testing"
)

// Rows of TestJudge about tunnels that are not replicated.
func init() {
	maps.Copy(rows, map[string]row{
		"a tunnel of the MASTER itself": {func(s *situation) { s.facts[0].Local = &Local{SAs: 2, Policies: 3} }, 2,
			Yes, NotReplicated, nil},
		"a tunnel of the standby itself": {func(s *situation) { s.facts[1].Local = &Local{SAs: 2} }, 2, Yes, "", nil},
		"local_addrs was forgotten": {func(s *situation) {
			s.facts[0].Local = &Local{SAs: 2, Policies: 3}
			s.master().SAs, s.master().Policies = 0, 0
		}, 2, No, NotReplicated, nil},
	})
}

// TestNotReplicatedIsSaidOnce: it is about no group alone.
func TestNotReplicatedIsSaidOnce(t *testing.T) {
	s := newSituation(2)
	for i := range s.facts {
		second := s.facts[i].Groups[0]
		second.Name = "inside"
		s.facts[i].Groups = append(s.facts[i].Groups, second)
	}
	s.facts[0].Local = &Local{SAs: 1, Policies: 1, Example: "192.0.2.2 > 198.51.100.1"}
	n := 0
	for _, f := range s.at(t, 1).Findings {
		if f.Code == NotReplicated {
			n++
			if !strings.HasPrefix(f.Cause, "1 SA and 1 policy involve no VIP") || !strings.HasSuffix(f.Cause,
				"192.0.2.2 > 198.51.100.1") {
				t.Errorf("cause %q", f.Cause)
			}
		}
	}
	if n != 1 {
		t.Errorf("said %d times", n)
	}
}
