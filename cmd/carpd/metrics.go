package main

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sasyncd/carp/api"
	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/daemon"
)

// collector makes metrics of the engine's status when asked, so that nothing
// is kept up to date where it costs time.
type collector struct {
	eng *engine.Engine

	state, term, demotion, fenced, age          *prometheus.Desc
	sent, received, dropped, priority, silences *prometheus.Desc
	advskew, trailers, digests                  *prometheus.Desc
}

func newCollector(eng *engine.Engine) *collector {
	group := []string{"group"}
	router := []string{"group", "instance", "family"}
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc("carpd_"+name, help, labels, nil)
	}
	return &collector{
		eng:      eng,
		state:    desc("group_state", "State of the group: 0 init, 1 backup, 2 master.", group),
		term:     desc("group_term", "Highest term known of the group.", group),
		demotion: desc("group_demotion", "Sum of demotions of the group.", group),
		fenced:   desc("group_fenced", "1 while nothing can leave from the virtual addresses.", group),
		age:      desc("group_state_seconds", "Seconds since the state changed.", group),
		sent:     desc("advertisements_sent_total", "Advertisements sent.", router),
		received: desc("advertisements_received_total", "Valid advertisements of others received.", router),
		dropped:  desc("advertisements_dropped_total", "Advertisements not taken.", router),
		priority: desc("priority", "Priority as advertised (VRRP).", router),
		advskew:  desc("advskew", "Advskew as advertised (CARP).", router),
		trailers: desc("authentication_total", "Advertisements by what their authentication trailer proved.", append(router[:3:3], "found")),
		digests:  desc("carp_bad_digests_total", "CARP advertisements with another pass phrase or set of addresses.", router),
		silences: desc("peer_heard_seconds", "Seconds since another master was heard.", router),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	groups, err := c.eng.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.state, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, g := range groups {
		gauge(c.state, stateNumber(g.State), g.Group)
		gauge(c.term, float64(g.Seen), g.Group)
		gauge(c.demotion, float64(g.Demotion), g.Group)
		gauge(c.fenced, flag(g.Fenced), g.Group)
		gauge(c.age, float64(g.AgeMS)/1000, g.Group)
		for _, in := range g.Instances {
			for _, r := range in.Routers {
				count(c.sent, r.Sent, g.Group, in.Name, r.Family)
				count(c.received, r.Received, g.Group, in.Name, r.Family)
				count(c.dropped, r.Dropped, g.Group, in.Name, r.Family)
				if r.Priority != 0 {
					gauge(c.priority, float64(r.Priority), g.Group, in.Name, r.Family)
				} else {
					gauge(c.advskew, float64(r.AdvSkew), g.Group, in.Name, r.Family)
					count(c.digests, r.BadDigests, g.Group, in.Name, r.Family)
				}
				for _, found := range slices.Sorted(maps.Keys(r.Trailers)) {
					count(c.trailers, r.Trailers[found], g.Group, in.Name, r.Family, found)
				}
				if r.Peer.IsValid() {
					gauge(c.silences, float64(r.HeardMS)/1000, g.Group, in.Name, r.Family)
				}
			}
		}
	}
}

func stateNumber(s string) float64 {
	switch s {
	case api.StateBackup:
		return 1
	case api.StateMaster:
		return 2
	}
	return 0
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// web is the listener for metrics and health.
func web(addr netip.AddrPort, eng *engine.Engine, pulse *daemon.Pulse, log *slog.Logger) daemon.Task {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(eng))
	alive := func() error {
		if !pulse.Alive(stuckAfter) {
			return errStuck
		}
		return nil
	}
	return daemon.NewWeb(addr, log, reg, alive, alive)
}
