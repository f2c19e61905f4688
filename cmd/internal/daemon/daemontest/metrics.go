// Package daemontest has what tests of several daemons share.
package daemontest

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// unbounded finds labels that would make a series per SA or tunnel.
var unbounded = regexp.MustCompile(`[{,](spi|addr|address|src|dst|reqid)="`)

// Metrics compares the whole exposition of a registry, without those of the Go
// runtime and the process, with testdata/metrics.golden (rewritten if update),
// and has promlint judge it.
func Metrics(t *testing.T, reg *prometheus.Registry, update bool) {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("exposition: %d %s", rec.Code, rec.Body)
	}
	problems, err := promlint.New(bytes.NewReader(rec.Body.Bytes())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	var text strings.Builder
	for line := range strings.Lines(rec.Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		text.WriteString(line)
		if unbounded.MatchString(line) {
			t.Errorf("a label of which there may be any number: %s", line)
		}
	}
	got := regexp.MustCompile(`(_build_info)\{[^}]*\}`).ReplaceAllString(text.String(), `$1{…}`)
	path := filepath.Join("testdata", "metrics.golden")
	if update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("exposition differs from %s (run with -update if that is right), -want +got:\n%s", path, diff)
	}
}
