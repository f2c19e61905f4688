package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/sasyncd/leakguard"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/channel"
	"sasyncd/sync/engine"
	"sasyncd/sync/metrics"
	"sasyncd/sync/peer"
)

// sources are where the metrics come from.
type sources struct {
	status  func(context.Context) (engine.Status, error)
	check   func(context.Context) (report.Verdict, error)
	peers   func() []peer.Status
	refused *channel.Counters
	errors  func() ([]xfrm.ErrorCount, error)
	closed  func(func(reason string, n uint64))
	members func() (refused uint64)
	guard   func() (s leakguard.State, on bool)
}

// registry holds everything that the metrics listener shows.
func registry(s sources, starts uint64) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	daemon.RegisterSelf(reg, "sasyncd", starts)
	registerOwn(reg, s)
	return reg
}

// registerOwn registers what is of this program alone.
func registerOwn(reg prometheus.Registerer, s sources) {
	reg.MustRegister(metrics.NewCollector(s.status), &outside{s,
		prometheus.NewDesc("sasyncd_peer_connected", "1 while there is a session with the peer.", []string{"peer"},
			nil),
		prometheus.NewDesc("sasyncd_sync_bytes_total", "Bytes exchanged with the peer, before encryption.",
			[]string{"peer", "direction"}, nil),
		prometheus.NewDesc("sasyncd_connections_refused_total", "Connections to the listener that were turned away.",
			[]string{"reason"}, nil),
		prometheus.NewDesc("sasyncd_peer_connections_closed_total",
			"Connections to peers with the key that this node ended.", []string{"reason"}, nil),
		prometheus.NewDesc("sasyncd_gossip_refused_total",
			"Frames of gossip that were dropped: malformed, of too many members, or more than was read.", nil, nil),
		prometheus.NewDesc("sasyncd_group_info", "Always 1; followed is the instance of sasyncd.conf by which the "+
			"group is known between gateways.", []string{"group", "followed"}, nil),
		prometheus.NewDesc("sasyncd_xfrm_errors_total", "Packets that the kernel's IPsec dropped, by its own names.",
			[]string{"error"}, nil),
	}, newReadiness(s.check), newGuardCollector(s.guard))
}

// outside collects what the engine does not know.
type outside struct {
	sources
	connected, bytes, refusals, closings, gossip, groups, xfrm *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (o *outside) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{o.connected, o.bytes, o.refusals, o.closings, o.gossip, o.groups, o.xfrm} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (o *outside) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, p := range o.peers() {
		up := 0.0
		if p.Session != nil {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(o.connected, prometheus.GaugeValue, up, p.Name)
		count(o.bytes, p.In, p.Name, "in")
		count(o.bytes, p.Out, p.Name, "out")
	}
	o.sources.refused.Refused(func(reason string, n uint64) { count(o.refusals, n, reason) })
	o.closed(func(reason string, n uint64) { count(o.closings, n, reason) })
	count(o.gossip, o.members())
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := o.status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(o.groups, err)
	}
	for i := range s.Groups {
		ch <- prometheus.MustNewConstMetric(o.groups, prometheus.GaugeValue, 1, s.Groups[i].Name, s.Groups[i].Followed)
	}
	list, err := o.errors()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ch <- prometheus.NewInvalidMetric(o.xfrm, err)
	}
	for _, x := range list {
		count(o.xfrm, x.Count, x.Name)
	}
}

// judgeLimit is how long a scrape waits for the judgement.
const judgeLimit = 2 * time.Second

// readiness collects what check says.
type readiness struct {
	check           func(context.Context) (report.Verdict, error)
	ready, findings *prometheus.Desc
}

func newReadiness(check func(context.Context) (report.Verdict, error)) *readiness {
	return &readiness{check,
		prometheus.NewDesc("sasyncd_failover_ready",
			"1 if a failover would work now, 0 if it would not or that cannot be told.", nil, nil),
		prometheus.NewDesc("sasyncd_failover_findings",
			"Findings of sasyncctl check. severity is fails, unknown (cannot be told), costs or odd.",
			[]string{"severity", "code", "group"}, nil)}
}

// Describe implements prometheus.Collector.
func (r *readiness) Describe(ch chan<- *prometheus.Desc) {
	ch <- r.ready
	ch <- r.findings
}

// Collect implements prometheus.Collector. Without a judgement it cannot be told.
func (r *readiness) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), judgeLimit)
	defer cancel()
	v, err := r.check(ctx)
	ready := 0.0
	if err == nil && v.Fit {
		ready = 1
	}
	ch <- prometheus.MustNewConstMetric(r.ready, prometheus.GaugeValue, ready)
	number := make(map[[3]string]float64)
	for _, list := range [][]report.Problem{v.Reasons, v.Warnings} {
		for _, p := range list {
			number[[3]string{p.Severity, p.Code, p.Group}]++
		}
	}
	for l, n := range number {
		ch <- prometheus.MustNewConstMetric(r.findings, prometheus.GaugeValue, n, l[:]...)
	}
}

// guardCollector collects what the leak guard says of itself; nothing where there is none.
type guardCollector struct {
	state                                         func() (s leakguard.State, on bool)
	whole, selectors, remembered, drops, repaired *prometheus.Desc
}

func newGuardCollector(state func() (leakguard.State, bool)) *guardCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &guardCollector{state,
		desc("sasyncd_guard_whole", "1 while the leak guard is as it should be."),
		desc("sasyncd_guard_selectors", "Selectors that the leak guard lets leave with IPsec only."),
		desc("sasyncd_guard_remembered_selectors", "Of these, those whose policies have gone."),
		desc("sasyncd_guard_dropped_packets_total",
			"Packets that matched a selector of the leak guard and had no SA: they would have left in plaintext."),
		desc("sasyncd_guard_repairs_total",
			"How often the leak guard was put back after somebody had taken it down."),
	}
}

// Describe implements prometheus.Collector.
func (c *guardCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.whole, c.selectors, c.remembered, c.drops, c.repaired} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *guardCollector) Collect(ch chan<- prometheus.Metric) {
	s, on := c.state()
	if !on {
		return
	}
	whole := 1.0
	if s.Trouble != "" {
		whole = 0
	}
	for d, v := range map[*prometheus.Desc]float64{c.whole: whole, c.selectors: float64(s.Selectors),
		c.remembered: float64(s.Remembered)} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	ch <- prometheus.MustNewConstMetric(c.drops, prometheus.CounterValue, float64(s.Drops))
	ch <- prometheus.MustNewConstMetric(c.repaired, prometheus.CounterValue, float64(s.Repairs))
}
