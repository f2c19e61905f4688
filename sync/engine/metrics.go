package engine

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector exports the engine's status to Prometheus. It asks the engine at
// every scrape and keeps nothing, so nothing in the engine waits for a scrape.
// There are no labels with SPIs or tunnel addresses: their number is unbounded.
type Collector struct{ e *Engine }

// NewCollector returns the collector of e.
func NewCollector(e *Engine) *Collector { return &Collector{e} }

// scrapeLimit bounds how long a scrape waits for a busy engine.
const scrapeLimit = 2 * time.Second

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sasyncd_"+name, help, labels, nil)
}

// metrics is one table, so that names stand side by side.
type metricDescs struct {
	role, term, roleSince, inSync, entries, offloaded, refused, uncovered, held, counterAge *prometheus.Desc
	lag, unacked, complete, peers                                                           *prometheus.Desc
	totals                                                                                  map[string]*prometheus.Desc
	dumpSeconds                                                                             *prometheus.Desc
}

func descs() metricDescs {
	t := func(name, help string) *prometheus.Desc { return desc(name, help) }
	return metricDescs{
		role:       desc("role", "1 for the role that this node has in the group.", "group", "role"),
		term:       desc("term", "Term of mastership of the group.", "group"),
		roleSince:  desc("role_start_timestamp_seconds", "When the role was taken, in Unix time.", "group"),
		inSync:     desc("in_sync", "1 if a takeover by this node would lose nothing.", "group"),
		entries:    desc("sadb_entries", "Replicated items of the group.", "group", "kind"),
		offloaded:  desc("offloaded_sas", "SAs left out because a device does their cryptography.", "group"),
		refused:    desc("refused_entries", "Items that this kernel refuses.", "group"),
		uncovered:  desc("uncovered_sas", "SAs whose counter margin cannot be kept; they need a rekey.", "group"),
		held:       desc("held_deletes", "Deletions held back because they would leave traffic uncovered.", "group"),
		counterAge: desc("counter_age_seconds", "Age of the master's counters on a standby.", "group"),
		lag:        desc("sync_lag_seconds", "Age of the oldest change that a standby has not confirmed.", "group", "peer"),
		unacked:    desc("sync_unacked_records", "Changes that a standby has not confirmed.", "group", "peer"),
		complete:   desc("standby_complete", "1 if the standby holds a whole snapshot of this master.", "group", "peer"),
		peers:      desc("peers_connected", "Connected peers."),
		totals: map[string]*prometheus.Desc{
			"dumps":      t("kernel_dumps_total", "Readings of the kernel's tables."),
			"dumperr":    t("kernel_dump_errors_total", "Readings of the kernel's tables that failed."),
			"kernelerr":  t("kernel_errors_total", "Operations that the kernel refused."),
			"resyncs":    t("netlink_overruns_total", "Times at which events of the kernel were lost."),
			"repairs":    t("repairs_total", "Operations by which an audit corrected this standby's kernel."),
			"snapsent":   t("snapshots_sent_total", "Snapshots sent to standbys."),
			"snaprecv":   t("snapshots_received_total", "Snapshots received from a master."),
			"resumes":    t("resumes_total", "Reconnections that the journal served without a snapshot."),
			"cutoffs":    t("peer_cutoffs_total", "Peers cut off because they did not keep up."),
			"recsent":    t("records_sent_total", "Changes published."),
			"recrecv":    t("records_received_total", "Changes and snapshot records received."),
			"counters":   t("counter_updates_sent_total", "Counter updates sent."),
			"takeovers":  t("takeovers_total", "Times at which this node became MASTER."),
			"splits":     t("two_masters_total", "Times at which another master was met."),
			"jumps":      t("split_jumps_total", "Outbound counters raised above those of another master after a split."),
			"tail":       t("tail_records_total", "Changes that a new master took from another standby."),
			"digests":    t("digest_mismatches_total", "Times at which this standby did not know what its master had published."),
			"collected":  t("collected_sas_total", "Replicated SAs deleted because fresh ones carry their traffic."),
			"reinserted": t("reinserted_sas_total", "SAs put back after the start of an IKE daemon had flushed them."),
			"heldtotal":  t("held_deletes_total", "Deletions that were held back."),
			"droppedtot": t("dropped_deletes_total", "Held deletions that were dropped because the node left MASTER."),
		},
		dumpSeconds: desc("kernel_dump_duration_seconds", "How long the last reading of the kernel's tables took."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	d := descs()
	for _, x := range []*prometheus.Desc{d.role, d.term, d.roleSince, d.inSync, d.entries, d.offloaded, d.refused, d.uncovered, d.held,
		d.counterAge, d.lag, d.unacked, d.complete, d.peers, d.dumpSeconds} {
		ch <- x
	}
	for _, x := range d.totals {
		ch <- x
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	s, err := c.e.Status(ctx)
	d := descs()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(d.role, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, g := range s.Groups {
		for _, role := range []string{"INIT", "BACKUP", "MASTER"} {
			gauge(d.role, bit(g.Role == role), g.Name, role)
		}
		gauge(d.term, float64(g.Term), g.Name)
		gauge(d.roleSince, float64(g.Since.UnixMilli())/1000, g.Name)
		gauge(d.inSync, bit(g.InSync), g.Name)
		gauge(d.entries, float64(g.SAs), g.Name, "sa")
		gauge(d.entries, float64(g.Policies), g.Name, "policy")
		gauge(d.offloaded, float64(g.Offloaded), g.Name)
		gauge(d.refused, float64(g.Refused), g.Name)
		gauge(d.uncovered, float64(g.Uncovered), g.Name)
		gauge(d.held, float64(g.Held), g.Name)
		gauge(d.counterAge, g.CounterAge, g.Name)
		for _, st := range g.Standbys {
			gauge(d.lag, st.Lag, g.Name, st.Peer)
			gauge(d.unacked, float64(st.Unacked), g.Name, st.Peer)
			gauge(d.complete, bit(st.Complete), g.Name, st.Peer)
		}
	}
	gauge(d.peers, float64(len(s.Members)))
	gauge(d.dumpSeconds, s.Counts.DumpTime.Seconds())
	for name, v := range map[string]uint64{
		"dumps": s.Counts.Dumps, "dumperr": s.Counts.DumpErrors, "kernelerr": s.Counts.KernelErrors,
		"resyncs": s.Counts.Resyncs, "repairs": s.Counts.Repairs, "snapsent": s.Counts.SnapshotsSent,
		"snaprecv": s.Counts.SnapshotsReceived, "resumes": s.Counts.Resumes, "cutoffs": s.Counts.CutOffs,
		"recsent": s.Counts.RecordsSent, "recrecv": s.Counts.RecordsReceived, "counters": s.Counts.CountersSent,
		"takeovers": s.Counts.Takeovers, "splits": s.Counts.SplitsSeen, "jumps": s.Counts.SplitJumps, "digests": s.Counts.DigestMismatches, "tail": s.Counts.TailRecords, "heldtotal": s.Counts.HeldDeletes,
		"collected": s.Counts.Collected, "reinserted": s.Counts.Reinserted,
		"droppedtot": s.Counts.DroppedDeletes,
	} {
		ch <- prometheus.MustNewConstMetric(d.totals[name], prometheus.CounterValue, float64(v))
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
