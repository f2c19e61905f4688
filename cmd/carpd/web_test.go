package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"sasyncd/carp/api"
)

func TestPage(t *testing.T) {
	b := newBoard()
	groups := pictured()
	groups[0].Takeover.AgeMS = 0
	b.status = func(context.Context) ([]api.GroupState, error) { return groups, nil }
	slog.New(b.recorder.Tee(slog.DiscardHandler)).Info(stateMessage,
		"group", "ipsec", "from", "backup", "to", "master", "reason", "silence")
	s, err := b.page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Gateways[0].Roles["ipsec"] != "MASTER" || s.Gateways[0].Roles["other"] != "BACKUP" {
		t.Errorf("gateways %+v", s.Gateways)
	}
	if len(s.Failovers) != 1 || s.Failovers[0].To != "MASTER" || s.Failovers[0].Gap != 0.812 {
		t.Errorf("failovers %+v", s.Failovers)
	}
	if s.Fit || len(s.Problems) != 1 || !strings.Contains(s.Problems[0].What, "other") {
		t.Errorf("problems %+v", s.Problems)
	}
	if err := b.ready(); err == nil || !strings.Contains(err.Error(), "sasyncd is not there") {
		t.Errorf("ready says %v", err)
	}
	groups[1].Blocked = ""
	if err := b.ready(); err != nil {
		t.Errorf("a backup that could take over is not ready: %v", err)
	}
	groups[1].State, groups[1].Seen = api.StateInit, 0
	if err := b.ready(); err == nil {
		t.Error("a group without an interface is ready")
	}
}
