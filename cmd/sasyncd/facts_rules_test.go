package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sasyncd/cmd/internal/judge"
	"sasyncd/cmd/internal/report"
	"sasyncd/kernel/rules"
	"sasyncd/sync/sadb"
)

// TestRulesAreJudged: what the routing rules of other programs do to a virtual IP is
// an answer of no, with the command that removes the rule.
func TestRulesAreJudged(t *testing.T) {
	x := newPairOf()
	if v := x.verdict(t); v.Answer != report.AnswerYes {
		t.Fatalf("with no such rule: %+v", v)
	}
	x.rules.Denials = []rules.Denial{{Family: sadb.FamilyIPv4, Pref: 100, From: netip.MustParsePrefix("192.0.2.1/32"),
		Action: "blackhole"}}
	v := x.verdict(t)
	i := slices.IndexFunc(v.Reasons, func(p report.Problem) bool { return p.Code == string(judge.RuleDenies) })
	if v.Answer != report.AnswerNo || i < 0 {
		t.Fatalf("a rule denies: %+v", v)
	}
	if p := v.Reasons[i]; !strings.Contains(p.What, "100: from 192.0.2.1 blackhole") || !strings.Contains(p.Remedy,
		"ip rule del pref 100") {
		t.Errorf("%+v", p)
	}
}
