package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"sasyncd/cmd/internal/judge"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// TestLongReportIsShortened: peers hear of a gateway with very many groups or very long
// texts, and of what they do not hear. The log says so once, and when it is over.
func TestLongReportIsShortened(t *testing.T) {
	for name, tt := range map[string]struct {
		groups, text int
		most         int // groups that may be missing
	}{
		"long texts":  {20, 20_000, 0},
		"many groups": {2000, 0, 1900},
		"both":        {2000, 500, 1950},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newPairOf()
			eng := &told{status: x.status, report: make(chan []byte, 100)}
			var said bytes.Buffer
			x.facts.eng, x.facts.log = eng, slog.New(slog.NewTextHandler(&said, nil))
			small := x.status.Groups
			large := []engine.GroupStatus{}
			for i := range tt.groups {
				g := small[0]
				g.Name, g.Why = fmt.Sprintf("outside%d", i), strings.Repeat("é", tt.text/2)
				large = append(large, g)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := x.status
			for n := range 10 {
				if s.Groups = large; n >= 7 {
					s.Groups = small
				}
				x.facts.failing(ctx, x.facts.tell(ctx, s))
				b := <-eng.report
				var got judge.Facts
				if err := json.Unmarshal(b, &got); err != nil || len(b) > wire.MaxReport || !utf8.Valid(b) {
					t.Fatalf("%s: a report of %d bytes: %v", name, len(b), err)
				}
				if n >= 7 {
					if len(got.LeftOut) != 0 || len(got.Groups) != len(small) {
						t.Errorf("%s: a report that fits lacks %q", name, got.LeftOut)
					}
					continue
				}
				if len(got.LeftOut) == 0 || len(got.Groups) < tt.groups-tt.most ||
					len(got.Groups) == tt.groups != (len(got.LeftOut) == 1) {
					t.Errorf("%s: %d of %d groups are reported, it says of the others %q", name, len(got.Groups),
						tt.groups, got.LeftOut)
				}
			}
			if lines := strings.Count(said.String(), "\n"); lines != 2 {
				t.Errorf("%s: %d lines, want 2: %.600s", name, lines, &said)
			}
		})
	}
}

// TestReportThatCannotBeSentIsToldOnce: not each second.
func TestReportThatCannotBeSentIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPairOf()
		var said bytes.Buffer
		eng := &told{status: x.status, report: make(chan []byte, 100)}
		x.facts.log, x.facts.eng = slog.New(slog.NewTextHandler(&said, nil)),
			&refusing{told: eng, until: time.Now().Add(10 * time.Second)}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_ = x.facts.Run(ctx)
		if out := said.String(); strings.Count(out, "\n") != 2 || !strings.Contains(out, "cannot report") ||
			!strings.Contains(out, "told again") {
			t.Errorf("it says:\n%s", out)
		}
	})
}

// refusing takes no report until then.
type refusing struct {
	*told
	until time.Time
}

func (r *refusing) Report(ctx context.Context, b []byte) error {
	if left := time.Until(r.until); left > 0 {
		return fmt.Errorf("not for %v", left)
	}
	return r.told.Report(ctx, b)
}
