package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/engine"
)

// TestFailoversAreRemembered: over a restart, and a file that cannot be read costs
// nothing but what is in it.
func TestFailoversAreRemembered(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	list := []engine.Failover{{At: time.Unix(1700000000, 0).UTC(), From: "10.9.0.2", To: engine.ThisNode, Planned: true,
		Reason: "takeover", GapSeconds: 0.02, Steps: []engine.FailoverStep{{Step: engine.StepMaster, After: 0.02}}}}
	synctest.Test(t, func(t *testing.T) {
		m := openFailovers(dir, log)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = m.run(ctx) }()
		m.SetFailovers("outside", list)
		synctest.Wait()
	})
	if d := cmp.Diff(list, openFailovers(dir, log).Failovers("outside")); d != "" {
		t.Errorf("after a restart (-before +after):\n%s", d)
	}
	// The end of the process loses nothing.
	m := openFailovers(dir, log)
	m.SetFailovers("inside", list)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.run(ended); err != nil || len(openFailovers(dir, log).Failovers("inside")) != 1 {
		t.Errorf("the last one is not written: %v", err)
	}
	if st, err := os.Stat(filepath.Join(dir, failoversFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("file %v, error %v", st, err)
	}
	for _, bad := range []string{"", "null", "{", `{"outside":[{"at":1}]}`} {
		if err := os.WriteFile(filepath.Join(dir, failoversFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		m := openFailovers(dir, log)
		if n := len(m.Failovers("outside")); n != 0 {
			t.Errorf("%q: %d failovers", bad, n)
		}
		m.SetFailovers("outside", list)
	}
}
