// Package metrics exports what an engine knows to Prometheus.
package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sasyncd/sync/engine"
)

// Collector exports the engine's status to Prometheus. It asks the engine at
// every scrape and keeps nothing, so nothing in the engine waits for a scrape.
// There are no labels with SPIs or tunnel addresses: their number is unbounded.
type Collector struct {
	status func(context.Context) (engine.Status, error)
}

// NewCollector returns the collector of what status returns, which is the
// method of an Engine.
func NewCollector(status func(context.Context) (engine.Status, error)) *Collector {
	return &Collector{status}
}

// scrapeLimit bounds how long a scrape waits for a busy
const scrapeLimit = 2 * time.Second

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sasyncd_"+name, help, labels, nil)
}

// groupGauge is a gauge of each group.
type groupGauge struct {
	desc  *prometheus.Desc
	value func(*engine.GroupStatus) float64
}

func groupGauges() []groupGauge {
	g := func(name, help string, value func(*engine.GroupStatus) float64) groupGauge {
		return groupGauge{desc(name, help, "group"), value}
	}
	return []groupGauge{
		g("term", "Term of mastership of the group.", func(g *engine.GroupStatus) float64 { return float64(g.Term) }),
		g("role_start_timestamp_seconds", "When the role was taken, in Unix time.",
			func(g *engine.GroupStatus) float64 { return unix(g.Since) }),
		g("in_sync", "1 if a takeover by this node would lose nothing.",
			func(g *engine.GroupStatus) float64 { return bit(g.InSync) }),
		g("offloaded_sas", "SAs left out because a device does their cryptography.",
			func(g *engine.GroupStatus) float64 { return float64(g.Offloaded) }),
		g("refused_entries", "Items that this kernel refuses.",
			func(g *engine.GroupStatus) float64 { return float64(g.Refused) }),
		g("reduced_sas", "SAs that this kernel holds without NAT keepalives or the number of a CPU, which it does not have.",
			func(g *engine.GroupStatus) float64 { return float64(g.Reduced) }),
		g("uncovered_sas", "SAs whose counter margin cannot be kept; they need a rekey.",
			func(g *engine.GroupStatus) float64 { return float64(g.Uncovered) }),
		g("pending_deletes", "Deletions held back now, because they would leave traffic uncovered.",
			func(g *engine.GroupStatus) float64 { return float64(g.Held) }),
		g("oseq_headroom_seconds", "How long the outbound counter that would run out first lasts at its present rate.",
			func(g *engine.GroupStatus) float64 { return g.Headroom }),
		g("ike_tunnels_wanted", "Tunnels that the IKE daemon should have as MASTER.",
			func(g *engine.GroupStatus) float64 { return float64(g.Keying.Wanted) }),
		g("ike_tunnels_up", "Those of them that are up.",
			func(g *engine.GroupStatus) float64 { return float64(g.Keying.Up) }),
		g("ike_promotion_duration_seconds", "How long the IKE daemon's last promotion took.",
			func(g *engine.GroupStatus) float64 { return g.Keying.PromoteSeconds }),
	}
}

// total is a counter of the whole node.
type total struct {
	desc  *prometheus.Desc
	value func(*engine.Counts) uint64
}

func totals() []total {
	t := func(name, help string, value func(*engine.Counts) uint64) total {
		return total{desc(name, help), value}
	}
	return []total{
		t("kernel_dumps_total", "Readings of the kernel's tables.", func(c *engine.Counts) uint64 { return c.Dumps }),
		t("kernel_dump_errors_total", "Readings of the kernel's tables that failed.",
			func(c *engine.Counts) uint64 { return c.DumpErrors }),
		t("netlink_overruns_total", "Times at which events of the kernel were lost.",
			func(c *engine.Counts) uint64 { return c.Resyncs }),
		t("repairs_total", "Operations that corrected this standby's kernel.",
			func(c *engine.Counts) uint64 { return c.Repairs }),
		t("snapshots_received_total", "Snapshots received from a master.",
			func(c *engine.Counts) uint64 { return c.SnapshotsReceived }),
		t("resumes_total", "Reconnections that the journal served without a snapshot.",
			func(c *engine.Counts) uint64 { return c.Resumes }),
		t("peer_cutoffs_total", "Peers cut off because they did not keep up.",
			func(c *engine.Counts) uint64 { return c.CutOffs }),
		t("changes_published_total", "Changes that this node published as MASTER, however many standbys there are.",
			func(c *engine.Counts) uint64 { return c.RecordsSent }),
		t("takeovers_total", "Times at which this node became MASTER.",
			func(c *engine.Counts) uint64 { return c.Takeovers }),
		t("two_masters_total", "Times at which another master was met.",
			func(c *engine.Counts) uint64 { return c.SplitsSeen }),
		t("split_jumps_total", "Outbound counters raised above those of another master after a split.",
			func(c *engine.Counts) uint64 { return c.SplitJumps }),
		t("nat_mappings_total", "Remote ends behind a NAT whose imported SAs followed them to another port or address.",
			func(c *engine.Counts) uint64 { return c.Mappings }),
		t("collected_sas_total", "Replicated SAs deleted because fresh ones carry their traffic.",
			func(c *engine.Counts) uint64 { return c.Collected }),
		t("reinserted_sas_total", "SAs put back after the start of an IKE daemon had flushed them.",
			func(c *engine.Counts) uint64 { return c.Reinserted }),
		t("reinserted_policies_total", "Policies put back after somebody had flushed those of a MASTER.",
			func(c *engine.Counts) uint64 { return c.PoliciesBack }),
		t("tail_records_total", "Changes that a new master took from another standby.",
			func(c *engine.Counts) uint64 { return c.TailRecords }),
		t("digest_mismatches_total", "Times at which this standby did not know what its master had published.",
			func(c *engine.Counts) uint64 { return c.DigestMismatches }),
		t("held_deletes_total", "Deletions that were held back.",
			func(c *engine.Counts) uint64 { return c.HeldDeletes }),
		t("dropped_deletes_total", "Held deletions that were dropped because the node left MASTER.",
			func(c *engine.Counts) uint64 { return c.DroppedDeletes }),
	}
}

// metricDescs are those with further labels.
type metricDescs struct {
	counters, packets, bytes                                      *prometheus.Desc
	role, entries, lead, digest, lastSync, lag, unacked, complete *prometheus.Desc
	ikeRestarts, records, refused, snapshots, phase, apply, dump  *prometheus.Desc
}

func descs() metricDescs {
	return metricDescs{
		role: desc("role", "1 for the role that this node has in the group.", "group", "role"),
		entries: desc("sadb_entries", "Replicated items of the group, own ones of a master or copies of a standby.",
			"group", "kind", "origin"),
		lead: desc("replay_lead_packets", "By how much the outbound counters of this standby lead the "+
			"master's, at least.", "group", "peer"),
		digest: desc("sadb_digest_match", "1 if this standby's last audit found what the master has published.",
			"group", "peer"),
		lastSync: desc("last_sync_timestamp_seconds",
			"When counters were last confirmed by a standby, or heard from the master, in Unix time.", "group", "peer"),
		lag: desc("sync_lag_seconds", "Age of the oldest change that a standby has not confirmed.",
			"group", "peer"),
		unacked: desc("sync_unacked_records", "Changes that a standby has not confirmed.", "group", "peer"),
		complete: desc("standby_complete", "1 if the standby holds a whole snapshot of this master.",
			"group", "peer"),
		ikeRestarts: desc("ike_restarts_total", "Times at which the IKE daemon went and came back.", "group", "driver"),
		records:     desc("sync_records_total", "Changes and counter updates exchanged.", "peer", "direction", "type"),
		refused:     desc("kernel_errors_total", "Operations that the kernel refused.", "op", "errno"),
		snapshots:   desc("snapshots_total", "Snapshots sent to standbys.", "reason"),
		phase:       desc("takeover_duration_seconds", "Duration of the phases of a change of role.", "phase"),
		apply: desc("kernel_apply_duration_seconds",
			"Duration of a batch of at most 100 operations of the kernel."),
		dump: desc("kernel_dump_duration_seconds", "Duration of a reading of the kernel's tables."),
		counters: desc("counters_timestamp_seconds",
			"On a standby, when the master's counters were last heard, in Unix time.", "group"),
		packets: desc("ipsec_packets_total", "On a master, packets that the group's SAs carried since it is one.",
			"group", "direction"),
		bytes: desc("ipsec_bytes_total", "On a master, bytes that the group's SAs carried since it is one, as the "+
			"kernel counts them for lifetimes.", "group", "direction"),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	d := descs()
	for _, x := range []*prometheus.Desc{d.role, d.entries, d.lead, d.digest, d.lastSync, d.lag, d.unacked, d.complete,
		d.ikeRestarts,
		d.records, d.refused, d.snapshots, d.phase, d.apply, d.dump, d.counters, d.packets, d.bytes} {
		ch <- x
	}
	for _, g := range groupGauges() {
		ch <- g.desc
	}
	for _, t := range totals() {
		ch <- t.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	s, err := c.status(ctx)
	d := descs()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(d.role, err)
		return
	}
	for i := range s.Groups {
		collectGroup(ch, &d, &s.Groups[i])
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, t := range s.Traffic {
		direction := "out"
		if t.In {
			direction = "in"
		}
		count(d.records, t.Count, t.Peer, direction, t.Kind)
	}
	for _, r := range s.Refused {
		count(d.refused, r.Count, r.Op, r.Errno)
	}
	for why, n := range s.Snapshots {
		count(d.snapshots, n, why)
	}
	for _, t := range totals() {
		count(t.desc, t.value(&s.Counts))
	}
	for _, name := range engine.Phases() {
		histogram(ch, d.phase, s.Phases[name], name)
	}
	histogram(ch, d.apply, s.Apply)
	histogram(ch, d.dump, s.Dump)
}

func collectGroup(ch chan<- prometheus.Metric, d *metricDescs, g *engine.GroupStatus) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{g.Name}, labels...)...)
	}
	for _, role := range []string{"INIT", "BACKUP", "MASTER"} {
		gauge(d.role, bit(g.Role == role), role)
	}
	for _, x := range groupGauges() {
		gauge(x.desc, x.value(g))
	}
	for origin, own := range map[string]bool{"local": true, "peer": false} {
		on := bit(own == (g.Role == "MASTER"))
		gauge(d.entries, on*float64(g.SAs), "sa", origin)
		gauge(d.entries, on*float64(g.Policies), "policy", origin)
	}
	if g.From != "" {
		if g.HasLead {
			gauge(d.lead, float64(g.Lead), g.From)
		}
		gauge(d.lastSync, unix(g.CounterAt), g.From)
	}
	if !g.CounterAt.IsZero() {
		gauge(d.counters, unix(g.CounterAt))
	}
	if g.Role == "MASTER" {
		for _, x := range []struct {
			desc      *prometheus.Desc
			direction string
			n         uint64
		}{{d.packets, "out", g.PacketsOut}, {d.packets, "in", g.PacketsIn}, {d.bytes, "out", g.BytesOut},
			{d.bytes, "in", g.BytesIn}} {
			ch <- prometheus.MustNewConstMetric(x.desc, prometheus.CounterValue, float64(x.n), g.Name, x.direction)
		}
	}
	if g.Audited != "" {
		gauge(d.digest, bit(g.Agreed), g.Audited)
	}
	for _, st := range g.Standbys {
		gauge(d.lag, st.Lag, st.Peer)
		gauge(d.unacked, float64(st.Unacked), st.Peer)
		gauge(d.complete, bit(st.Complete), st.Peer)
		gauge(d.lastSync, unix(st.AckedAt), st.Peer)
	}
	if g.Keying.Driver != "" {
		ch <- prometheus.MustNewConstMetric(d.ikeRestarts, prometheus.CounterValue, float64(g.Keying.Restarts), g.Name,
			g.Keying.Driver)
	}
}

// histogram exports a Duration, whose buckets are not cumulated.
func histogram(ch chan<- prometheus.Metric, d *prometheus.Desc, v engine.Duration, labels ...string) {
	buckets, sum := make(map[float64]uint64, len(v.Buckets)), uint64(0)
	for i, bound := range engine.DurationBounds() {
		sum += v.Buckets[i]
		buckets[bound] = sum
	}
	ch <- prometheus.MustNewConstHistogram(d, v.Count, v.Sum, buckets, labels...)
}

// unix is t in seconds, 0 for never.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
