package main

import (
	"encoding/json"
	"testing"

	"sasyncd/carp/api"
)

// TestSecondsAndStates: -j has seconds everywhere and the states of sasyncctl, and
// large terms keep all their digits.
func TestSecondsAndStates(t *testing.T) {
	groups := full()
	groups[0].Term, groups[0].OutageMS = 1<<62-1, -1
	groups[0].Takeover = &api.Takeover{Reason: "master timed out", GapMS: 812, AgeMS: 61500}
	f := &fake{groups: groups, clock: &api.Clock{Jumps: 1, LastMS: -5000, AgeMS: 10}}
	code, out, errs := ctl(f.start(t), "-j", "show")
	if code != 0 {
		t.Fatalf("code %d: %s", code, errs)
	}
	var got struct {
		Groups []struct {
			State     string  `json:"state"`
			Term      uint64  `json:"term"`
			Age       float64 `json:"age_seconds"`
			Outage    float64 `json:"predicted_outage_seconds"`
			AgeOld    int64   `json:"age_ms"`
			Instances []struct {
				State   string `json:"state"`
				Routers []struct {
					State string  `json:"state"`
					Down  float64 `json:"down_seconds"`
					Heard float64 `json:"heard_seconds"`
				} `json:"routers"`
			} `json:"instances"`
			Takeover struct {
				Gap float64 `json:"gap_seconds"`
				Age float64 `json:"age_seconds"`
			} `json:"last_takeover"`
		} `json:"groups"`
		Clock struct {
			Last float64 `json:"last_seconds"`
		} `json:"clock"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	g := got.Groups[0]
	r := g.Instances[0].Routers[0]
	if g.State != "MASTER" || g.Instances[0].State != "MASTER" || r.State != "BACKUP" {
		t.Errorf("states %s, %s, %s", g.State, g.Instances[0].State, r.State)
	}
	if g.Age != 61 || g.AgeOld != 61000 || g.Outage != -1 || r.Down != 0.9 || r.Heard != 0.1 ||
		g.Takeover.Gap != 0.812 || g.Takeover.Age != 61.5 || got.Clock.Last != -5 {
		t.Errorf("durations: %s", out)
	}
	if g.Term != 1<<62-1 {
		t.Errorf("term %d", g.Term)
	}
}
