package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestWeb(t *testing.T) {
	reg := prometheus.NewRegistry()
	role := prometheus.NewGauge(prometheus.GaugeOpts{Name: "test_role", Help: "A role."})
	reg.MustRegister(role)
	role.Set(3)
	var healthy, ready atomic.Value
	check := func(v *atomic.Value) Check {
		return func() error {
			if s, _ := v.Load().(string); s != "" {
				return errors.New(s)
			}
			return nil
		}
	}
	w := NewWeb(netip.MustParseAddrPort("127.0.0.1:0"), NewLogger(io.Discard, false, 0), reg, check(&healthy),
		check(&ready))
	w.Handle("/extra", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "page") }))
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	<-w.Ready()
	base := "http://" + (<-w.bound).String()

	get := func(method, path, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s %s lacks its protective headers", method, path)
		}
		return resp.StatusCode, string(body)
	}
	for _, tt := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"GET", "/metrics", "", 200, "test_role 3\n"},
		{"GET", "/healthz", "localhost:9750", 200, "ok\n"},
		{"GET", "/readyz", "[::1]:9750", 200, "ok\n"},
		{"HEAD", "/healthz", "LOCALHOST.", 200, ""},
		{"GET", "/extra", "127.0.0.1", 200, "page"},
		{"GET", "/", "", 404, ""},
		{"POST", "/metrics", "", 405, "only GET"},
		{"DELETE", "/healthz", "", 405, "only GET"},
		{"GET", "/metrics", "attacker.example", 403, "Host"},
		{"GET", "/metrics", "attacker.example:9750", 403, "Host"},
		{"GET", "/metrics", "localhost.attacker.example", 403, "Host"},
	} {
		status, body := get(tt.method, tt.path, tt.host)
		if status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s %s for host %q: %d %q, want %d with %q", tt.method, tt.path, tt.host, status, body, tt.status,
				tt.body)
		}
	}
	healthy.Store("engine is stuck")
	ready.Store("no peer is in sync")
	if status, body := get("GET", "/healthz", ""); status != 503 || body != "engine is stuck\n" {
		t.Errorf("healthz of a stuck daemon: %d %q", status, body)
	}
	if status, body := get("GET", "/readyz", ""); status != 503 || body != "no peer is in sync\n" {
		t.Errorf("readyz of a daemon that is not in sync: %d %q", status, body)
	}
	cancel()
	if err := <-result; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("run returned %v", err)
	}
}

// TestWebForeignAddress binds an address that this machine does not have (yet).
func TestWebForeignAddress(t *testing.T) {
	var log strings.Builder
	for _, addr := range []string{"192.0.2.77:0", "[2001:db8::77]:0"} {
		w := NewWeb(netip.MustParseAddrPort(addr), NewLogger(&log, false, 0), prometheus.NewRegistry(), nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		result := make(chan error, 1)
		go func() { result <- w.Run(ctx) }()
		select {
		case <-w.bound:
			cancel()
			<-result
		case err := <-result:
			t.Errorf("%s: %v\n%s", addr, err, log.String())
			cancel()
		}
	}
	if !strings.Contains(log.String(), "<4>metrics are readable by everyone") {
		t.Error("no warning about an address off loopback")
	}
}
