package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
)

// TestLast: a failover is printed step by step, with the slowest step; -v prints those
// before it too.
func TestLast(t *testing.T) {
	latest := *full().Groups[0].LastFailover
	latest.At = time.Date(2026, 12, 3, 9, 24, 10, int(123*time.Millisecond), time.Local)
	before := engine.Failover{At: latest.At.Add(-time.Hour), From: engine.ThisNode, To: "10.0.0.2", Planned: true,
		Reason: "operator", GapSeconds: 0.02, Steps: []engine.FailoverStep{{Step: engine.StepMaster, After: 0.02}}}
	v := report.Last{Groups: []report.GroupLast{
		{Group: "ipsec", Failovers: []report.Timeline{report.NewTimeline(latest), report.NewTimeline(before)}},
		{Group: "other", Failovers: []report.Timeline{}}}}
	asked := ""
	socket := serve(t, map[string]daemon.Verb{"last": {Handle: func(ctx context.Context, c *daemon.Call) error {
		var args struct{ Group string }
		if err := c.Decode(&args); err != nil {
			return err
		}
		asked = args.Group
		return c.Send(v)
	}}})
	code, out, errs := ctl(t, socket, "last")
	if code != 0 || asked != "" {
		t.Fatalf("code %d, group %q: %s", code, asked, errs)
	}
	for _, want := range []string{
		"  2026-12-03 09:24:10.111  last sign of 10.0.0.2: its fence or its resignation\n",
		"      +2.0 ms      2.0 ms  the old MASTER has handed over its counters\n",
		"     +11.0 ms      8.9 ms  the virtual addresses are configured\n",
		"     +12.0 ms      1.0 ms  MASTER\n",
		"    +900.0 ms    885.0 ms  packets have come in\n",
		"  slowest: the virtual addresses are configured, 8.9 ms\n",
		"group other: no failover is known\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "fenced") {
		t.Errorf("the failover before is printed without -v:\n%s", out)
	}
	if code, out, _ = ctl(t, socket, "last", "-v", "ipsec"); code != 0 || asked != "ipsec" ||
		!strings.Contains(out, "  this node was fenced\n     +20.0 ms     20.0 ms  MASTER\n") {
		t.Errorf("-v: code %d, group %q:\n%s", code, asked, out)
	}
	if code, _, _ := ctl(t, socket, "last", "a", "b"); code != daemon.ExitUsage {
		t.Errorf("two groups: code %d", code)
	}
}
