package check

import (
	"fmt"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// wire watches what ESP must not do.
type wire struct {
	site    *Site
	capture *capture.Capture
	refused int
}

func newWire(s *Site) *wire {
	s.t.Helper()
	w := &wire{site: s, capture: capture.Start(s.t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})}
	w.refused = w.refusals()
	return w
}

func (w *wire) refusals() int {
	n := lab.Refused(nil, w.site.RGW.XfrmStat())
	for _, m := range w.site.Members {
		n += lab.Refused(nil, m.XfrmStat())
	}
	return n
}

// dirty says what is not as it must be.
func (w *wire) dirty() string {
	w.capture.Stop() // it lags behind
	if d := w.capture.Duplicates(); len(d) > 0 {
		return fmt.Sprintf("%d sequence numbers were sent twice", len(d))
	}
	if n, _ := w.capture.Plaintext(); n > 0 {
		return fmt.Sprintf("%d packets left in plaintext", n)
	}
	if n := w.refusals() - w.refused; n > 0 {
		return fmt.Sprintf("%d packets were refused for their sequence number", n)
	}
	return ""
}
