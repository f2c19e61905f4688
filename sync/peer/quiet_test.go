package peer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestTroubleIsNotLoggedWithoutLimit: how often a peer dials that is refused, and what
// it then says, is its own affair; what is logged of it is not.
func TestTroubleIsNotLoggedWithoutLimit(t *testing.T) {
	const mins = 10
	refused := Reason{Code: wire.ByeTimeout, Text: "connect: connection refused", met: TroubleRefused}
	same := Reason{Code: wire.ByeDuplicate, Text: "both nodes have the id"}
	for name, tt := range map[string]struct {
		why   func(n int) Reason
		least int
		most  int
	}{
		"one reason":   {func(int) Reason { return same }, 1, 1},
		"two in turns": {func(n int) Reason { return []Reason{same, refused}[n%2] }, 2 * mins, 2 * mins},
		"always another": {func(n int) Reason {
			return Reason{Code: wire.ByeDuplicate,
				Text: fmt.Sprint("id ", n)}
		}, 8 * mins, 8 * mins},
		"another after an hour": {func(n int) Reason { return []Reason{same, refused}[n/300] }, 2, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			o := &owner{log: slog.New(slog.NewTextHandler(&out, nil))}
			for n := range mins * 60 {
				o.logFailure(tt.why(n))
				if o.shared.trouble != tt.why(n) {
					t.Fatalf("%s: status says %v", name, o.shared.trouble)
				}
				time.Sleep(time.Second)
			}
			if lines := strings.Count(out.String(), "not connected"); lines < tt.least || lines > tt.most {
				t.Errorf("%s: %d lines in %d minutes, want %d to %d", name, lines, mins, tt.least, tt.most)
			}
		})
	}
}

// TestTroubleAfterContactIsLogged: a peer that goes and comes is told of each time, at
// most once a minute.
func TestTroubleAfterContactIsLogged(t *testing.T) {
	var q quiet
	now, why := time.Unix(1000, 0), Reason{Code: wire.ByeTimeout, Text: "refused"}
	if !q.pass(now, why) || q.pass(now.Add(time.Hour), why) {
		t.Error("a reason that stays is logged once")
	}
	q.over()
	if !q.pass(now.Add(2*time.Hour), why) {
		t.Error("not logged after there was contact")
	}
	q.over()
	if q.pass(now.Add(2*time.Hour+time.Second), why) || !q.pass(now.Add(2*time.Hour+quietFor), why) {
		t.Error("want the next line a minute later")
	}
}
