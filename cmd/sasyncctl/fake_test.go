package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// serve runs a control socket that answers with verbs, and returns its path.
func serve(t *testing.T, verbs map[string]daemon.Verb) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	s := daemon.NewControlServer(socket, slog.New(slog.DiscardHandler), verbs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("control socket: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("control socket: %v", err)
	}
	return socket
}

// says answers with values, one line each.
func says(values ...any) daemon.Verb {
	return daemon.Verb{Handle: func(_ context.Context, c *daemon.Call) error {
		for _, v := range values {
			if err := c.Send(v); err != nil {
				return err
			}
		}
		return nil
	}}
}

// ctl runs sasyncctl.
func ctl(t *testing.T, socket string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(append([]string{"-s", socket}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

var at = time.Now().Add(-time.Hour)

// full is a status in which every field has a value.
func full() report.Status {
	keys := engine.KeyingStatus{Driver: "strongswan", State: "active", Error: "vici: no answer", Wanted: 12, Up: 10,
		Failed: 2,
		Lint:   [][2]string{{"make_before_break is off", "switch it on"}}, PromoteSeconds: 0.5, Restarts: 1,
		Stop:   "keeps tunnels",
		Absent: true, ProbeError: "permission denied"}
	last := &engine.Failover{At: at, From: "10.0.0.2", To: "this node", Planned: true,
		Reason: "takeover", GapSeconds: 0.012, Steps: []engine.FailoverStep{{Step: engine.StepHandedOver, After: 0.002},
			{Step: engine.StepDecided, After: 0.0021}, {Step: engine.StepAddresses, After: 0.011},
			{Step: engine.StepMaster, After: 0.012}, {Step: engine.StepPublished, After: 0.015},
			{Step: engine.StepTraffic, After: 0.9}}}
	s := report.Status{
		Status: engine.Status{
			Node: "3f2a91c000000000000000000000abcd",
			Groups: []engine.GroupStatus{{
				Name: "carp1", Followed: "outside", Instances: []string{"outside", "inside"}, Role: "MASTER", Term: 7,
				Since: at, Reason: "takeover", VIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1"),
					netip.MustParseAddr("2001:db8::1")},
				InSync: true, Why: "master", SAs: 400, Policies: 600, Held: 2, Refused: 1, Uncovered: 1, Offloaded: 1,
				Seq: 99, CounterAge: 0.4,
				Standbys: []engine.StandbyStatus{
					{Peer: "10.0.0.2", Complete: true, InSync: true, Lag: 0.03, LagPackets: 1200, Queued: 10,
						Records: 5000, Counters: 90000},
					{Peer: "10.0.0.3", Unacked: 4, Lag: 1.5, Epochs: 2, Records: 1200,
						Snapshot: &engine.Progress{Peer: "10.0.0.3", Done: 1200, Of: 5000}}},
				Peers:  []engine.GroupPeerState{{Peer: "10.0.0.2", Role: "BACKUP", Term: 7, InSync: true}},
				Keying: keys, MarginESN: 67108864, MarginLegacy: 1048576, LeadPackets: 67108000, LeadSeconds: 3600,
				PacketsOut: 1e9, PacketsIn: 2e9, BytesOut: 1e12, BytesIn: 2e12,
				Following: "10.0.0.2", Complete: true, Snapshot: &engine.Progress{Peer: "10.0.0.2", Done: 1, Of: 2},
				LastFailover: last,
			}},
			Members: []engine.MemberStatus{{Node: "aa", Peer: "10.0.0.2", Kernel: "6.1.0", Since: at}},
		},
		Version: "sasyncd 1.0", Host: "fw1",
		Peers: []report.Peer{
			{Name: "10.0.0.2", Addresses: []string{"10.0.0.2:500"}, Node: "aaaaaaaaaaaa", Kernel: "6.1.0",
				Connected: true, RTT: 0.0003, Since: at},
			{Name: "10.0.0.3", Addresses: []string{"10.0.0.3:500", "10.1.0.3:500"},
				Trouble: "timeout: connection refused", Since: at, FoundBy: "10.0.0.2"}},
	}
	s.Seen = []report.Seen{{Peer: "10.0.0.3", Node: "bbbbbbbbbbbb", Host: "fw3", Via: "10.0.0.2", Age: 0.42,
		Roles: []report.SeenRole{{Group: "carp1", Role: "MASTER", Term: 7}}}}
	s.Check = report.Verdict{Answer: report.AnswerNo, Summary: "a failover would not work",
		Reasons: []report.Problem{
			{Code: "lags", Severity: "fails", Group: "carp1", Member: "10.0.0.2", What: "it is 7.0 s behind the MASTER",
				Remedy: "check the load"},
			{Code: "refused", Severity: "fails", Group: "carp1", Member: "this gateway",
				What: "its kernel refuses 1 item", Remedy: "see its log"}},
		Warnings: []report.Problem{{Code: "peer-away", Severity: "costs", Member: "10.0.0.3",
			What: "it is not connected: timeout", Remedy: "see the log"}}}
	return s
}
