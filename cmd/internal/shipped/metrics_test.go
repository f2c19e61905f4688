package shipped

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// metric is one of the expositions that the daemons' tests keep as golden files.
type metric struct {
	name, kind, help string
	labels           map[string]bool
}

func metrics(t *testing.T, daemon string) map[string]*metric {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", daemon, "testdata", "metrics.golden"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*metric{}
	label := regexp.MustCompile(`[{,](\w+)="`)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			all[f[2]] = &metric{name: f[2], help: strings.Join(f[3:], " "), labels: map[string]bool{}}
		case strings.HasPrefix(line, "# TYPE "):
			all[f[2]].kind = f[3]
		default:
			name, _, _ := strings.Cut(f[0], "{")
			m := all[name]
			if m == nil {
				m = all[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")]
			}
			for _, l := range label.FindAllStringSubmatch(line, -1) {
				m.labels[l[1]] = true
			}
			if strings.HasSuffix(name, "_build_info") {
				m.labels = map[string]bool{"version": true, "revision": true, "goversion": true}
			}
		}
	}
	return all
}

func everyMetric(t *testing.T) map[string]*metric {
	all := metrics(t, "sasyncd")
	maps.Copy(all, metrics(t, "carpd"))
	return all
}

// used checks every metric that an expression names, with its labels.
func used(t *testing.T, where, expr string, all map[string]*metric) {
	t.Helper()
	found := regexp.MustCompile(`\b((?:sasyncd|carpd)_\w+)(\{[^}]*\})?`).FindAllStringSubmatch(expr, -1)
	if len(found) == 0 && !strings.Contains(expr, "up{") {
		t.Errorf("%s: %q names no metric of ours", where, expr)
	}
	for _, m := range found {
		have := all[m[1]]
		if have == nil {
			have = all[strings.TrimSuffix(m[1], "_bucket")]
			if have == nil || have.kind != "histogram" {
				t.Errorf("%s: there is no metric %s", where, m[1])
				continue
			}
		}
		for _, l := range regexp.MustCompile(`[{,](\w+)[=!]`).FindAllStringSubmatch(m[2], -1) {
			if !have.labels[l[1]] && !slices.Contains([]string{"cluster", "instance", "job"}, l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
	}
}

// alerts returns the expressions of the rules by name, lines joined.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	rules := regexp.MustCompile(`(?s)- alert: (\w+)\n\s+expr: (.*?)\n\s+(?:for|labels):`)
	out := map[string]string{}
	for _, m := range rules.FindAllStringSubmatch(read(t, "prometheus", "alerts.yml"), -1) {
		out[m[1]] = m[2]
	}
	if n := strings.Count(read(t, "prometheus", "alerts.yml"), "- alert:"); n != len(out) || n < 20 {
		t.Fatalf("%d of %d alerts are understood", len(out), n)
	}
	return out
}

func TestAlertsUseRealMetrics(t *testing.T) {
	all := everyMetric(t)
	for name, expr := range alerts(t) {
		used(t, "alert "+name, expr, all)
	}
	for _, m := range regexp.MustCompile(`series: '([^']*)'`).FindAllStringSubmatch(read(t,
		"prometheus", "alerts_test.yml"), -1) {
		used(t, "test of alerts", m[1], all)
	}
}

// TestAlertsAreTested: each fires in one test, and each is among those that
// must be quiet on a healthy pair.
func TestAlertsAreTested(t *testing.T) {
	fires, quiet, ok := strings.Cut(read(t, "prometheus", "alerts_test.yml"), "- name: quiet\n")
	if !ok {
		t.Fatal("there is no test of a healthy pair")
	}
	for name := range alerts(t) {
		if !strings.Contains(fires, "alertname: "+name+"\n        exp_alerts:") {
			t.Errorf("no test shows %s fire", name)
		}
		if !strings.Contains(quiet, "alertname: "+name+"}") {
			t.Errorf("no test shows %s quiet", name)
		}
	}
}

// Every alert is caused in the drill with real daemons and a real server, which
// is not part of "make test": none may be forgotten there.
func TestEveryAlertIsInTheDrill(t *testing.T) {
	b, err := os.ReadFile("../../../tests/monitor/alerts_test.go")
	if err != nil {
		t.Fatal(err)
	}
	caused := map[string]bool{}
	for _, m := range regexp.MustCompile(`alerts:\s+\[\]string\{([^}]*)\}`).FindAllStringSubmatch(string(b), -1) {
		for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(m[1], -1) {
			caused[name[1]] = true
		}
	}
	// Those that a guest cannot cause stand there with the reason.
	_, elsewhere, _ := strings.Cut(string(b), "var elsewhere = map[string]string{\n")
	elsewhere, _, _ = strings.Cut(elsewhere, "\n}")
	for _, m := range regexp.MustCompile(`(?m)^\t"(\w+)":\s+"\w`).FindAllStringSubmatch(elsewhere, -1) {
		caused[m[1]] = true
	}
	for name := range alerts(t) {
		if !caused[name] {
			t.Errorf("no phase of tests/monitor causes %s", name)
		}
		delete(caused, name)
	}
	for name := range caused {
		t.Errorf("tests/monitor causes %s, which is no alert", name)
	}
}

// TestAlertsBehave has promtool play the tests.
func TestAlertsBehave(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is needed to test the alerts: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"check", "config", "prometheus.yml"},
		{"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join(deploy, "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestDashboard compares the panels with the metrics that there are.
func TestDashboard(t *testing.T) {
	var d struct {
		Title, UID  string
		Annotations struct{ List []struct{ Expr string } }
		Templating  struct {
			List []struct{ Name, Query string }
		}
		Panels []struct {
			ID          int
			Title       string
			Description string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana", "sasyncd.json")), &d); err != nil {
		t.Fatal(err)
	}
	all := everyMetric(t)
	vars := map[string]bool{}
	for _, v := range d.Templating.List {
		vars[v.Name] = true
		if name, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			name, _, _ = strings.Cut(name, ",")
			used(t, "variable "+v.Name, name, all)
		}
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: id %d again, or nothing to show", p.Title, p.ID)
		}
		ids[p.ID] = true
		if !strings.HasSuffix(p.Description, ".") {
			t.Errorf("panel %q does not say what it shows: %q", p.Title, p.Description)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or outside", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		for _, q := range p.Targets {
			used(t, "panel "+p.Title, q.Expr, all)
			for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !vars[v[1]] {
					t.Errorf("panel %q: no variable %s", p.Title, v[1])
				}
			}
		}
	}
	for _, a := range d.Annotations.List {
		used(t, "annotation", a.Expr, all)
	}
	text := read(t, "grafana", "sasyncd.json")
	for name := range all {
		on := regexp.MustCompile(`\b` + name + `(_bucket)?\b`).MatchString(text)
		if why, off := notOnDashboard[name]; on == off {
			t.Errorf("%s: on the dashboard: %v, and the reason why not is %q", name, on, why)
		}
	}
}

// notOnDashboard are the metrics without a panel, with the reason.
var notOnDashboard = map[string]string{
	"carpd_addresses_repaired_total":         inAnother,
	"carpd_advertisements_dropped_total":     inAnother,
	"carpd_advskew":                          setting,
	"carpd_authentication_total":             forAlerts,
	"carpd_build_info":                       setting,
	"carpd_carp_bad_digests_total":           inAnother,
	"carpd_clients_refused_total":            forAlerts,
	"carpd_configured_addresses":             inCheck,
	"carpd_down_interval_seconds":            setting,
	"carpd_group_demotion":                   inAnother,
	"carpd_last_takeover_timestamp_seconds":  inAnother,
	"carpd_peer_heard_timestamp_seconds":     inCheck,
	"carpd_priority":                         setting,
	"carpd_starts_total":                     forAlerts,
	"carpd_state_start_timestamp_seconds":    inAnother,
	"carpd_term":                             forAlerts,
	"carpd_transitions_total":                forAlerts,
	"sasyncd_build_info":                     setting,
	"sasyncd_changes_published_total":        inAnother,
	"sasyncd_clients_refused_total":          forAlerts,
	"sasyncd_collected_sas_total":            forAlerts,
	"sasyncd_connections_refused_total":      forAlerts,
	"sasyncd_digest_mismatches_total":        forAlerts,
	"sasyncd_dropped_deletes_total":          forAlerts,
	"sasyncd_gossip_refused_total":           forAlerts,
	"sasyncd_group_info":                     setting,
	"sasyncd_guard_repairs_total":            inCheck,
	"sasyncd_guard_selectors":                setting,
	"sasyncd_guard_whole":                    inCheck,
	"sasyncd_held_deletes_total":             inAnother,
	"sasyncd_ike_promotion_duration_seconds": forAlerts,
	"sasyncd_ike_restarts_total":             forAlerts,
	"sasyncd_kernel_dump_errors_total":       forAlerts,
	"sasyncd_kernel_dumps_total":             inAnother,
	"sasyncd_last_sync_timestamp_seconds":    inAnother,
	"sasyncd_nat_mappings_total":             forAlerts,
	"sasyncd_peer_connections_closed_total":  forAlerts,
	"sasyncd_peer_cutoffs_total":             forAlerts,
	"sasyncd_resumes_total":                  forAlerts,
	"sasyncd_role_start_timestamp_seconds":   inAnother,
	"sasyncd_sadb_digest_match":              inCheck,
	"sasyncd_snapshots_received_total":       inAnother,
	"sasyncd_snapshots_total":                forAlerts,
	"sasyncd_split_jumps_total":              forAlerts,
	"sasyncd_standby_complete":               inCheck,
	"sasyncd_starts_total":                   forAlerts,
	"sasyncd_tail_records_total":             forAlerts,
	"sasyncd_takeovers_total":                inAnother,
	"sasyncd_term":                           forAlerts,
}

const (
	inAnother = "another panel shows it, or what it is about"
	inCheck   = "the panel of findings shows it"
	forAlerts = "for alerts, and for whoever looks for a cause"
	setting   = "it follows from the configuration or the build"
)

// TestMetricsPage: docs/metrics.md lists what there is.
func TestMetricsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Metrics\n\nFor developers of monitoring. This page lists each metric of both daemons. A test " +
		"compares it with the code.\n\n" +
		"Each daemon serves them at `/metrics` of its `metrics listen on` address, beside those of the Go runtime and " +
		"the process.\nNo label names an SA or an address of a tunnel, so their number is bounded. Alerts are in " +
		"`deploy/prometheus`, a\ndashboard in `deploy/grafana`.\n\n" +
		"The label `group` has the same value in both daemons: the group of carpd. If carpd does not elect, or has " +
		"not answered\nsasyncd yet, it is the interface that sasyncd.conf follows. Release 0.1 had that interface in " +
		"the metrics of sasyncd.\n`sasyncd_group_info` has it for a query that still needs the old name:\n\n" +
		"    sasyncd_role * on (instance, group) group_left (followed) sasyncd_group_info\n")
	for _, daemon := range []string{"sasyncd", "carpd"} {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | labels | kind | meaning |\n|---|---|---|---|\n", daemon)
		all := metrics(t, daemon)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			m := all[name]
			delete(m.labels, "le")
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.Join(slices.Sorted(maps.Keys(m.labels)), ", "),
				m.kind, m.help)
		}
	}
	path := "../../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf("docs/metrics.md is not what the daemons export (error %v): run this test with -update", err)
	}
}
