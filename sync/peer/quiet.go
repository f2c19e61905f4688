package peer

import (
	"slices"
	"time"
)

// Limits of the log lines about why there is no contact. A peer decides how often it
// dials, and what its reason says.
const (
	quietFor  = time.Minute // before the same reason is logged again
	quietMost = 8           // lines in that time
)

// quiet limits log lines. The zero value is ready for use; not for concurrent use.
type quiet struct {
	last Reason // that was logged
	said []saying
}

type saying struct {
	why Reason
	at  time.Time
}

// pass reports whether a reason is to be logged: once for as long as it stays the same,
// and if others come between, once in quietFor.
func (q *quiet) pass(now time.Time, why Reason) bool {
	if why == q.last {
		return false
	}
	q.said = slices.DeleteFunc(q.said, func(s saying) bool { return now.Sub(s.at) >= quietFor })
	if len(q.said) >= quietMost || slices.ContainsFunc(q.said, func(s saying) bool { return s.why == why }) {
		return false
	}
	q.last, q.said = why, append(q.said, saying{why, now})
	return true
}

// over notes that there is contact: what comes next is another trouble.
func (q *quiet) over() { q.last = Reason{} }
