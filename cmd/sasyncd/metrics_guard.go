package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"sasyncd/cmd/sasyncd/leakguard"
)

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
