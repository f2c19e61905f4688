package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"sasyncd/cmd/internal/page"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// TestPage: what is known of the node and its peers is on the page.
func TestPage(t *testing.T) {
	b := newBoard()
	node := wire.NodeID{1}
	b.status = func(context.Context) (engine.Status, error) {
		s := pictured()
		s.Groups[0].Peers = []engine.GroupPeerState{{Peer: "10.9.0.2", Role: "BACKUP"}}
		s.Groups[0].LastFailover = &engine.Failover{At: time.Now(), From: "10.9.0.2", To: engine.ThisNode,
			GapSeconds: 0.812}
		s.Members = []engine.MemberStatus{{Peer: "10.9.0.2", Kernel: "6.1"}}
		return s, nil
	}
	b.peers = func() []peer.Status {
		return []peer.Status{{Name: "10.9.0.2", Node: node, Session: new(peer.Session), In: 4096}, {Name: "10.9.0.3"}}
	}
	b.known = func() []members.Member {
		return []members.Member{{Node: node, Claim: members.Claim{Host: "gw2"}}}
	}
	b.check = func(context.Context, engine.Status) report.Verdict {
		return report.Verdict{Reasons: []report.Problem{{Group: "outside", Member: "10.9.0.2", What: "it is INIT",
			Remedy: "x"}}}
	}
	log := slog.New(b.recorder.Tee(slog.DiscardHandler))
	log.Info(roleMessage, "group", "outside", "from", "BACKUP", "to", "MASTER", "term", 8,
		"reason", "no advertisements")
	s, err := b.page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Gateways) != 3 || !s.Gateways[0].Self || s.Gateways[0].Roles["outside"] != "MASTER" ||
		s.Gateways[1].Name != "gw2" ||
		s.Gateways[1].Roles["outside"] != "BACKUP" || s.Gateways[2].Up {
		t.Errorf("gateways %+v", s.Gateways)
	}
	if len(s.Failovers) != 1 || s.Failovers[0].Gap != 0.812 {
		t.Errorf("failovers %+v", s.Failovers)
	}
	has := func(list []page.Detail, want page.Detail) {
		t.Helper()
		if !slices.Contains(list, want) {
			t.Errorf("%+v lacks %+v", list, want)
		}
	}
	has(s.Groups[0].Details, page.Detail{Name: "SAs", Value: "20"})
	has(s.Groups[1].Details, page.Detail{Name: "margin", Value: "67108864 packets"})
	has(s.Peers[0].Details, page.Detail{Name: "outside: lag", Value: "0.25 s"})
	has(s.Peers[0].Details, page.Detail{Name: "received", Value: "4 KiB"})
	if s.Fit || len(s.Problems) != 1 || s.Problems[0].What != "group outside: 10.9.0.2: it is INIT" {
		t.Errorf("problems %+v", s.Problems)
	}
}
