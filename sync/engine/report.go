package engine

import (
	"bytes"
	"context"
	"time"

	"sasyncd/sync/wire"
)

// reportEvery is how often a report that has not changed is told again, so that
// its reader can tell one that holds from one that nobody renews.
const reportEvery = 5 * time.Second

// Report tells the members what this node says of itself, see wire.Report. It is
// to be called again at least every second, with what holds then.
func (e *Engine) Report(ctx context.Context, report []byte) error {
	return e.do(ctx, func() {
		now := time.Now()
		if bytes.Equal(report, e.report) && now.Sub(e.reported) < reportEvery {
			return
		}
		e.report, e.reported = report, now
		for _, m := range e.sorted() {
			e.tellReport(m)
		}
	})
}

// tellReport tells a member, if it would understand and there is something to tell.
func (e *Engine) tellReport(m *member) {
	if e.report != nil && m.hello.Caps&wire.CapReport != 0 {
		e.send(m, &wire.Report{JSON: e.report})
	}
}
