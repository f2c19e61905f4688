package gate

import (
	"fmt"
	"strings"
	"time"
)

// Row is a line of the table with which the gate ends.
type Row struct {
	Gate string
	Run  *Run // nil: it was not run to its end
	// Before is a run of an earlier call, which was skipped in this one.
	Before bool
}

// Table says how each gate ended, and returns the names of those that have not passed.
func Table(rows []Row) (text string, bad []string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r.Gate))
	}
	var b strings.Builder
	for _, r := range rows {
		took, outcome := "", "no result"
		if r.Run != nil {
			took, outcome = Took(time.Duration(r.Run.Seconds)*time.Second), r.Run.Outcome()
			if r.Before {
				outcome += ", in an earlier call"
			}
		}
		if r.Run == nil || !r.Run.OK() {
			bad = append(bad, r.Gate)
		}
		fmt.Fprintf(&b, "%-*s  %8s  %s\n", width, r.Gate, took, outcome)
	}
	return b.String(), bad
}
