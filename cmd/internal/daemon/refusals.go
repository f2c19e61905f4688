package daemon

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// refusal is why a client was turned away.
type refusal uint8

const (
	refusedBusy      refusal = iota // all places were taken; an idle client may have had to go instead
	refusedMalformed                // too long, no request, or none of ours
	refusedDenied                   // not for that user, or not by that name or method
	refusedSlow                     // it did not read
	refusedAccept                   // no descriptor for the connection
	refusals
)

func (r refusal) String() string {
	return [...]string{"busy", "malformed", "denied", "slow", "accept"}[r]
}

// Refusals count what a listener for clients did not take. The zero value is
// ready; methods may be called concurrently.
type Refusals struct{ n [refusals]atomic.Uint64 }

func (r *Refusals) add(why refusal) { r.n[why].Add(1) }

// Each calls f with every reason and how often it applied: busy, malformed,
// denied, slow, accept.
func (r *Refusals) Each(f func(reason string, n uint64)) {
	for why := range refusals {
		f(why.String(), r.n[why].Load())
	}
}

// RefusalCounts are the refusals of a daemon's listeners for clients, by the
// listener's name. It is a Collector.
type RefusalCounts struct {
	desc      *prometheus.Desc
	listeners map[string]func(func(reason string, n uint64))
}

// NewRefusalCounts returns the collector for a daemon.
func NewRefusalCounts(program string, listeners map[string]func(func(reason string, n uint64))) *RefusalCounts {
	return &RefusalCounts{listeners: listeners, desc: prometheus.NewDesc(program+"_clients_refused_total",
		"Clients of the control socket and of the metrics listener that were turned away or cut off.",
		[]string{"listener", "reason"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *RefusalCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *RefusalCounts) Collect(ch chan<- prometheus.Metric) {
	for name, each := range c.listeners {
		each(func(reason string, n uint64) {
			ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n), name, reason)
		})
	}
}
