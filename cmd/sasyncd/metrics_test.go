package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"math"
	"testing"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/daemon/daemontest"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/leakguard"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/channel"
	"sasyncd/sync/engine"
	"sasyncd/sync/peer"
)

var update = flag.Bool("update", false, "rewrite golden files")

// pictured is a node that is MASTER of one group and BACKUP in another, with
// every optional part present.
func pictured() engine.Status {
	at := time.Unix(1_700_000_000, 250e6)
	var quick engine.Duration
	quick.Buckets[3], quick.Buckets[6], quick.Count, quick.Sum = 2, 1, 3, 0.0105
	return engine.Status{
		Node: "00112233445566778899aabbccddeeff",
		Groups: []engine.GroupStatus{
			{Name: "outside", Followed: "outside", Role: "MASTER", Term: 8, Since: at, InSync: true, SAs: 20,
				Policies: 30, Held: 1, Seq: 100, Headroom: 3600,
				PacketsOut: 1000, PacketsIn: 2000, BytesOut: 90000, BytesIn: 2e6,
				Standbys: []engine.StandbyStatus{{Peer: "10.9.0.2", Complete: true, Unacked: 3, Lag: 0.25, AckedAt: at},
					{Peer: "10.9.0.3"}},
				Keying: engine.KeyingStatus{Driver: "strongswan", State: "active", Wanted: 4, Up: 3,
					PromoteSeconds: 1.5, Restarts: 2}},
			{Name: "other", Followed: "wan", Role: "BACKUP", Term: 3, Since: at, InSync: true, SAs: 2, Policies: 3,
				Refused: 1, Uncovered: 1, Offloaded: 1,
				CounterAge: 0.5, CounterAt: at, From: "10.9.0.2", Lead: 67108864, HasLead: true, Headroom: math.Inf(1),
				Audited: "10.9.0.2", Agreed: true},
		},
		Counts: engine.Counts{Dumps: 1, DumpErrors: 2, KernelErrors: 3, Resyncs: 4, Repairs: 5, SnapshotsSent: 6,
			SnapshotsReceived: 7,
			Resumes:           8, CutOffs: 9, RecordsSent: 10, RecordsReceived: 11, CountersSent: 12, Takeovers: 13,
			SplitsSeen: 14, SplitJumps: 15,
			HeldDeletes: 16, DroppedDeletes: 17, DigestMismatches: 18, TailRecords: 19,
			DumpTime: 20 * time.Millisecond},
		Traffic: []engine.TrafficCount{{Traffic: engine.Traffic{Peer: "10.9.0.2", Kind: "counter"}, Count: 12},
			{Traffic: engine.Traffic{Peer: "10.9.0.2", In: true, Kind: "put-sa"}, Count: 11}},
		Refused:   []engine.RefusedCount{{Refused: engine.Refused{Op: "add-sa", Errno: "ENOSYS"}, Count: 3}},
		Snapshots: map[string]uint64{engine.SnapshotFirst: 1, engine.SnapshotOther: 2, engine.SnapshotGap: 3},
		Phases:    map[string]engine.Duration{engine.PhasePrepare: quick},
		Apply:     quick,
		Dump:      quick,
	}
}

func picture() sources {
	return sources{
		status: func(context.Context) (engine.Status, error) { return pictured(), nil },
		check: func(context.Context) (report.Verdict, error) {
			return report.Verdict{Answer: report.AnswerNo, Reasons: []report.Problem{
				{Code: "elector-lost", Severity: "fails", Group: "outside", Member: "10.9.0.2"},
				{Code: "elector-lost", Severity: "fails", Group: "outside", Member: "10.9.0.3"},
				{Code: "old-peer", Severity: "unknown", Group: "other"}},
				Warnings: []report.Problem{{Code: "peer-away", Severity: "costs"}}}, nil
		},
		peers: func() []peer.Status {
			return []peer.Status{{Name: "10.9.0.2", Session: new(peer.Session), In: 1000, Out: 2000},
				{Name: "10.9.0.3"}}
		},
		refused: new(channel.Counters),
		closed:  func(f func(string, uint64)) { f("malformed", 2); f("protocol", 3) },
		members: func() uint64 { return 4 },
		guard: func() (leakguard.State, bool) {
			return leakguard.State{Selectors: 7, Remembered: 2, Drops: 5, Repairs: 1, Trouble: "refused"}, true
		},
		errors: func() ([]xfrm.ErrorCount, error) {
			return []xfrm.ErrorCount{{Name: "XfrmInNoStates", Count: 1}, {Name: "XfrmInStateSeqError", Count: 0}}, nil
		},
	}
}

func TestMetrics(t *testing.T) {
	reg := registry(picture(), 5)
	reg.MustRegister(daemon.NewRefusalCounts("sasyncd", map[string]func(func(string, uint64)){
		"control": new(daemon.Refusals).Each, "metrics": new(daemon.Refusals).Each}))
	daemontest.Metrics(t, reg, *update)
}

// TestMetricsWithoutKernelStatistics: a kernel that does not count errors costs
// only these.
func TestMetricsWithoutKernelStatistics(t *testing.T) {
	s := picture()
	s.errors = func() ([]xfrm.ErrorCount, error) { return nil, fs.ErrNotExist }
	families, err := registry(s, 1).Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	if seen["sasyncd_xfrm_errors_total"] || !seen["sasyncd_role"] {
		t.Errorf("there is %v", seen)
	}
}

// TestFailoverReady: the gauge is 1 for yes only; without an answer it is 0, not
// absent, so that the alert fires.
func TestFailoverReady(t *testing.T) {
	for name, tt := range map[string]struct {
		v    report.Verdict
		err  error
		want float64
	}{
		"yes":         {report.Verdict{Fit: true, Answer: report.AnswerYes}, nil, 1},
		"no":          {report.Verdict{Answer: report.AnswerNo}, nil, 0},
		"cannot tell": {report.Verdict{Answer: report.AnswerUnknown}, nil, 0},
		"no answer":   {report.Verdict{}, errors.New("the engine does not answer"), 0},
	} {
		s := picture()
		s.check = func(context.Context) (report.Verdict, error) { return tt.v, tt.err }
		families, err := registry(s, 1).Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := -1.0
		for _, f := range families {
			if f.GetName() == "sasyncd_failover_ready" {
				got = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		if got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
