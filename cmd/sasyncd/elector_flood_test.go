package main

import (
	"log/slog"
	"testing"

	"sasyncd/sync/engine"
)

// TestReportsDoNotPileUp: a peer decides how often what this node reports changes. What
// waits for carpd meanwhile is one report of each group, the last.
func TestReportsDoNotPileUp(t *testing.T) {
	e := newCarpdElector("/nonexistent", []string{"outside", "inside"}, "test", slog.New(slog.DiscardHandler))
	e.groups["outside"], e.groups["inside"] = "ipsec", "other"
	for n := range 10_000 {
		for _, name := range e.names {
			e.Ready(name, engine.Readiness{Term: uint64(n)})
		}
	}
	if n := len(e.reports.calls); n != len(e.names) {
		t.Errorf("%d reports wait for carpd, want one of each of %d groups", n, len(e.names))
	}
	for _, f := range e.reports.calls {
		_ = f(t.Context()) // there is no carpd
	}
	e.reports.calls = nil
	e.Ready("inside", engine.Readiness{Term: 1})
	if n := len(e.reports.calls); n != 1 {
		t.Errorf("%d reports wait after the ones before were made, want 1", n)
	}
}
