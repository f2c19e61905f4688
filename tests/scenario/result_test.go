package scenario

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/meter"
)

func TestMissed(t *testing.T) {
	good := func() *Result {
		p := Phase{Name: "cut", Budget: time.Second, Traffic: meter.Report{Sent: 100, Lost: 9, Gap: time.Second},
			Wire: capture.Counts{ESP: 100}}
		steady := Phase{Name: "steady", Steady: true, Traffic: meter.Report{Sent: 100, Gap: 2 * time.Second}}
		return &Result{Phases: []Phase{p, steady}, Total: p, Bytes: 1}
	}
	if m := good().Missed(); len(m) != 0 {
		t.Errorf("nothing was missed, and yet: %v", m)
	}
	for name, tc := range map[string]struct {
		spoil func(*Result)
		want  string
	}{
		"gap":       {func(r *Result) { r.Phases[0].Traffic.Gap += time.Millisecond }, "cut: a gap of 1001 ms"},
		"refused":   {func(r *Result) { r.Phases[0].Refused = 1 }, "cut: 1 packets refused"},
		"twice":     {func(r *Result) { r.Total.Wire.Duplicate = 2 }, "2 sequence numbers sent twice"},
		"plaintext": {func(r *Result) { r.Phases[1].Wire.Plaintext = 3 }, "steady: 3 packets in plaintext"},
		"lost":      {func(r *Result) { r.Phases[1].Traffic.Lost = 4 }, "steady: 4 packets lost"},
		"silence":   {func(r *Result) { r.Phases[1].Traffic.Sent = 0 }, "steady: nothing was sent"},
		"no ESP":    {func(r *Result) { r.Total.Wire.ESP = 0 }, "no ESP"},
		"TCP":       {func(r *Result) { r.Transfer = errors.New("reset") }, "reset"},
		"no TCP":    {func(r *Result) { r.Bytes = 0 }, "carried nothing"},
		"SAs":       {func(r *Result) { r.Changed = []string{"SA only on gw1"} }, "SA only on gw1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			tc.spoil(r)
			var out strings.Builder
			if err := r.Print(&out); err != nil {
				t.Fatal(err)
			}
			if m := strings.Join(r.Missed(), "\n"); !strings.Contains(m, tc.want) || !strings.Contains(out.String(),
				"MISSED: ") {
				t.Errorf("missed %q, want %q; printed\n%s", m, tc.want, out.String())
			}
		})
	}
}
