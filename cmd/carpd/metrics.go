package main

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sasyncd/carp/api"
	"sasyncd/carp/track"
	"sasyncd/cmd/internal/daemon"
)

// collector makes metrics of the engine's status when asked, so that nothing
// is kept up to date where it costs time.
type collector struct {
	status func(context.Context) ([]api.GroupState, error)
	tracks []track.Config
	moments

	state, term, demotion, source, fenced, held, blocked, age, moves *prometheus.Desc
	outage, gap, gapAt                                               *prometheus.Desc
	adverts, dropped, rejected, priority, advskew, trailers, down    *prometheus.Desc
	digests, heard, repaired, repairs, static, tracked               *prometheus.Desc
}

// moments turns ages into times of day. A moment keeps the value that it was first told
// with, as one that wavers by what a scrape takes would look like a change.
type moments struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[string]float64
}

// wavers is how far two readings of one moment may be apart, in seconds.
const wavers = 0.1

// of returns the moment name, ms milliseconds ago, in Unix time.
func (m *moments) of(name string, ms int64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := float64(m.now().UnixMilli()-ms) / 1000
	if was, ok := m.seen[name]; ok && math.Abs(was-at) < wavers {
		return was
	}
	m.seen[name] = at
	return at
}

func newCollector(status func(context.Context) ([]api.GroupState, error), tracks []track.Config) *collector {
	group := []string{"group"}
	router := []string{"group", "router", "family"}
	also := func(more ...string) []string { return slices.Concat(router, more) }
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc("carpd_"+name, help, labels, nil)
	}
	return &collector{
		status:   status,
		tracks:   tracks,
		moments:  moments{now: time.Now, seen: map[string]float64{}},
		state:    desc("state", "1 for the state that the group is in.", []string{"group", "state"}),
		term:     desc("term", "Highest term known of the group.", group),
		demotion: desc("group_demotion", "Sum of demotions of the group.", group),
		source:   desc("demotion", "Demotions of the group by their source.", []string{"group", "source"}),
		fenced:   desc("fenced", "1 while nothing can leave from the virtual addresses.", group),
		held: desc("forwarding_held", "1 while nothing is forwarded from the group's interfaces, because IPsec "+
			"policies are not there yet.", group),
		blocked: desc("blocked", "1 while the group would not take over.", group),
		age:     desc("state_start_timestamp_seconds", "When the state changed, in Unix time.", group),
		moves:   desc("transitions_total", "Changes of state.", []string{"group", "from", "to"}),
		outage: desc("predicted_outage_seconds",
			"How long nobody would be MASTER if the master died now, as far as this node can tell; infinite if it "+
				"would not take over.", group),
		gap: desc("last_takeover_gap_seconds",
			"From the last sign of the master before until this node had the addresses and no fence, at its latest "+
				"takeover.", group),
		gapAt: desc("last_takeover_timestamp_seconds", "When that takeover ended, in Unix time.", group),
		adverts: desc("advertisements_total", "Advertisements sent, and valid ones of others received.",
			also("direction")),
		dropped: desc("advertisements_dropped_total", "Advertisements not taken, for any reason.", router),
		rejected: desc("advertisements_rejected_total",
			"Advertisements that show a mistake in a configuration, or an attempt.", also("reason")),
		priority: desc("priority", "Priority as advertised (VRRP).", router),
		advskew:  desc("advskew", "Advskew as advertised (CARP).", router),
		trailers: desc("authentication_total", "Advertisements by what their authentication trailer proved.",
			also("found")),
		down: desc("down_interval_seconds", "Silence after which a master counts as gone.", router),
		digests: desc("carp_bad_digests_total", "CARP advertisements with another pass phrase or set of addresses.",
			router),
		heard: desc("peer_heard_timestamp_seconds", "When another master was last heard, in Unix time.", router),
		repaired: desc("addresses_repaired_total", "Virtual addresses that somebody deleted on the master, put back.",
			router),
		repairs: desc("repairs_total", "Changes by others to what carpd owns in the kernel, undone.",
			[]string{"group", "kind"}),
		tracked: desc("track_up", "1 while what is tracked is well, 0 while it demotes the group.",
			[]string{"group", "track"}),
		static: desc("configured_addresses", "Virtual addresses that the system has configured, too.", group),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.state, c.term, c.demotion, c.source, c.fenced, c.held, c.blocked, c.age,
		c.moves, c.outage, c.gap, c.gapAt,
		c.adverts, c.dropped, c.rejected, c.priority, c.advskew, c.trailers, c.down, c.digests, c.heard, c.repaired,
		c.repairs, c.static, c.tracked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	groups, err := c.status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.state, err)
		return
	}
	for i := range groups {
		c.group(ch, &groups[i])
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func count(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c *collector) group(ch chan<- prometheus.Metric, g *api.GroupState) {
	for _, s := range []string{api.StateInit, api.StateBackup, api.StateMaster} {
		gauge(ch, c.state, bit(g.State == s), g.Group, s)
	}
	gauge(ch, c.term, float64(g.Seen), g.Group)
	gauge(ch, c.demotion, float64(g.Demotion), g.Group)
	for _, d := range g.Demotions {
		gauge(ch, c.source, float64(d.By), g.Group, d.ID)
	}
	gauge(ch, c.fenced, bit(g.Fenced), g.Group)
	gauge(ch, c.held, bit(g.Held != ""), g.Group)
	gauge(ch, c.blocked, bit(g.Blocked != ""), g.Group)
	gauge(ch, c.age, c.of("state "+g.Group, g.AgeMS), g.Group)
	for i := range c.tracks {
		if t := &c.tracks[i]; t.Group == g.Group {
			failed := slices.ContainsFunc(g.Demotions, func(d api.Demotion) bool { return d.ID == t.ID() })
			gauge(ch, c.tracked, bit(!failed), g.Group, strings.TrimPrefix(t.ID(), "track:"))
		}
	}
	for _, t := range g.Transitions {
		count(ch, c.moves, t.Count, g.Group, t.From, t.To)
	}
	outage := math.Inf(1)
	if g.OutageMS >= 0 {
		outage = float64(g.OutageMS) / 1000
	}
	gauge(ch, c.outage, outage, g.Group)
	if t := g.Takeover; t != nil {
		gauge(ch, c.gap, float64(t.GapMS)/1000, g.Group)
		gauge(ch, c.gapAt, c.of("takeover "+g.Group, t.AgeMS), g.Group)
	}
	repairs := make(map[string]uint64)
	for _, r := range g.Repairs {
		repairs[r.Kind] = r.Count
	}
	for _, kind := range api.RepairKinds() {
		count(ch, c.repairs, repairs[kind], g.Group, kind)
	}
	gauge(ch, c.static, float64(len(g.Configured)), g.Group)
	for _, in := range g.Instances {
		for i := range in.Routers {
			c.router(ch, &in.Routers[i], g.Group, in.Name, in.Routers[i].Family)
		}
	}
}

func (c *collector) router(ch chan<- prometheus.Metric, r *api.RouterState, labels ...string) {
	with := func(more string) []string { return append(slices.Clone(labels), more) }
	count(ch, c.adverts, r.Sent, with("out")...)
	count(ch, c.adverts, r.Received, with("in")...)
	count(ch, c.dropped, r.Dropped, labels...)
	refused := make(map[string]uint64)
	for _, x := range r.Refusals {
		refused[x.Kind] += x.Count
	}
	for _, kind := range []string{api.RefusedVersion, api.RefusedProtocol, api.RefusedInterval, api.RefusedAddresses,
		api.RefusedAuth,
		api.RefusedTTL, api.RefusedInvalid, api.RefusedOwn, api.RefusedCast, api.RefusedPeer, api.RefusedMAC} {
		count(ch, c.rejected, refused[kind], with(kind)...)
	}
	if r.Priority != 0 {
		gauge(ch, c.priority, float64(r.Priority), labels...)
	} else {
		gauge(ch, c.advskew, float64(r.AdvSkew), labels...)
		count(ch, c.digests, r.BadDigests, labels...)
	}
	for _, found := range slices.Sorted(maps.Keys(r.Trailers)) {
		count(ch, c.trailers, r.Trailers[found], with(found)...)
	}
	gauge(ch, c.down, float64(r.DownMS)/1000, labels...)
	if r.Peer.IsValid() {
		gauge(ch, c.heard, c.of("heard "+strings.Join(labels, " "), r.HeardMS), labels...)
	}
	count(ch, c.repaired, r.Repaired, labels...)
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// registry holds everything that the metrics listener shows.
func registry(c *collector, starts uint64) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	daemon.RegisterSelf(reg, "carpd", starts)
	return reg
}
