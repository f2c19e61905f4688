package main

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
)

// carpdSays is a group of carpd with its instances.
func carpdSays(group string, instances ...string) *api.GroupState {
	g := &api.GroupState{Group: group}
	for _, i := range instances {
		g.Instances = append(g.Instances, api.InstanceState{Name: i})
	}
	return g
}

// TestNamesOfGroups: what is shown is carpd's group, every name of it is understood,
// and a name that could be two groups is refused.
func TestNamesOfGroups(t *testing.T) {
	ipsec := carpdSays("ipsec", "outside", "inside")
	for _, tt := range []struct {
		name     string
		followed []string
		groups   map[string]*api.GroupState
		shown    []string
		find     map[string]string // operand to followed instance, or to a part of the error
	}{
		{"a group of two instances", []string{"outside"}, map[string]*api.GroupState{"outside": ipsec},
			[]string{"ipsec"},
			map[string]string{"ipsec": "outside", "outside": "outside", "inside": "outside",
				"wan": "want one of ipsec (outside, inside)"}},
		{"carpd has not answered", []string{"outside"}, nil, []string{"outside"},
			map[string]string{"outside": "outside", "ipsec": "no such group: ipsec: want one of outside"}},
		{"an instance without a group", []string{"carp1"},
			map[string]*api.GroupState{"carp1": carpdSays("carp1", "carp1")}, []string{"carp1"},
			map[string]string{"carp1": "carp1"}},
		{"two groups", []string{"outside", "wan"}, map[string]*api.GroupState{"outside": ipsec,
			"wan": carpdSays("dsl", "wan", "lan")}, []string{"ipsec", "dsl"},
			map[string]string{"ipsec": "outside", "lan": "wan"}},
		{"two followed instances of one group", []string{"outside", "inside"},
			map[string]*api.GroupState{"outside": ipsec, "inside": ipsec}, []string{"outside", "inside"},
			map[string]string{"inside": "inside", "ipsec": "ipsec is ambiguous: it could be outside or inside"}},
		{"a group with the name of another instance", []string{"a", "b"},
			map[string]*api.GroupState{"a": carpdSays("b", "a"), "b": carpdSays("c", "b")}, []string{"a", "c"},
			map[string]string{"b": "b", "a": "a", "c": "b"}},
	} {
		n := newNaming(tt.followed)
		for f, g := range tt.groups {
			n.learn(f, g)
		}
		var shown []string
		for _, f := range tt.followed {
			shown = append(shown, n.shown(f))
		}
		if !slices.Equal(shown, tt.shown) {
			t.Errorf("%s: shown %v, want %v", tt.name, shown, tt.shown)
		}
		for operand, want := range tt.find {
			got, err := n.find(operand, tt.followed)
			if got != want && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %s is %q, %v, want %q", tt.name, operand, got, err, want)
			}
		}
	}
	var none *naming
	if g, err := none.find("eth0", []string{"eth0"}); none.shown("eth0") != "eth0" || g != "eth0" || err != nil {
		t.Errorf("without carpd: %q, %v", g, err)
	}
}

// TestEverythingSpeaksOfTheSameGroup: status, verdict, differences and log.
func TestEverythingSpeaksOfTheSameGroup(t *testing.T) {
	n := newNaming([]string{"outside"})
	n.learn("outside", carpdSays("ipsec", "outside", "inside"))
	raw := engine.Status{Groups: []engine.GroupStatus{{Name: "outside"}}}
	g := n.status(raw).Groups[0]
	if g.Name != "ipsec" || g.Followed != "outside" || !slices.Equal(g.Instances, []string{"outside", "inside"}) ||
		raw.Groups[0].Name != "outside" {
		t.Errorf("status %q, %q, %v; the engine's %q", g.Name, g.Followed, g.Instances, raw.Groups[0].Name)
	}
	v := n.verdict(report.Verdict{Reasons: []report.Problem{{Group: "outside"}},
		Warnings: []report.Problem{{Group: "outside"}, {}}})
	if v.Reasons[0].Group != "ipsec" || v.Warnings[0].Group != "ipsec" || v.Warnings[1].Group != "" {
		t.Errorf("verdict %+v", v)
	}
	seen := []report.Seen{{Roles: []report.SeenRole{{Group: "outside"}}}}
	if s := n.seen(seen); s[0].Roles[0].Group != "ipsec" || seen[0].Roles[0].Group != "outside" {
		t.Errorf("seen %+v, of %+v", s, seen)
	}
	if r := n.roles(map[string]string{"outside": "MASTER"}); len(r) != 1 || r["ipsec"] != "MASTER" {
		t.Errorf("roles %v", r)
	}
	order := report.Plan{Handovers: []report.Planned{{Group: "outside",
		Check: report.Verdict{Reasons: []report.Problem{{Group: "outside"}}}}}}
	if p := n.plan(order); p.Handovers[0].Group != "ipsec" || p.Handovers[0].Check.Reasons[0].Group != "ipsec" ||
		order.Handovers[0].Group != "outside" {
		t.Errorf("plan %+v, of %+v", p, order)
	}
	if d := n.differences([]compare.Difference{{Group: "outside"}}); d[0].Group != "ipsec" {
		t.Errorf("differences %+v", d)
	}
	var out bytes.Buffer
	log := slog.New(n.log(slog.NewTextHandler(&out, nil)))
	log.Info("role", "group", "outside", "to", "MASTER")
	log.With("group", "outside").Info("role")
	if strings.Count(out.String(), "group=ipsec") != 2 || strings.Contains(out.String(), "outside") {
		t.Errorf("log %s", out.String())
	}
}
