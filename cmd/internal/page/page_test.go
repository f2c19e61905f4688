package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPageIsSelfContained: nothing is loaded from elsewhere, and the policy
// admits the one script and the one style that there are.
func TestPageIsSelfContained(t *testing.T) {
	rec := httptest.NewRecorder()
	HTML().ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	body, policy := rec.Body.String(), rec.Header().Get("Content-Security-Policy")
	for _, bad := range []string{"src=", "@import", "url(", "innerHTML", "eval(", "style=", "onclick", "//cdn"} {
		if strings.Contains(body, bad) {
			t.Errorf("page has %q", bad)
		}
	}
	for _, u := range regexp.MustCompile(`https?://[^"' ]+`).FindAllString(body, -1) {
		if u != "http://www.w3.org/2000/svg" { // a name, never fetched
			t.Errorf("page names %s", u)
		}
	}
	if !strings.Contains(body, "prefers-color-scheme: dark") || !strings.Contains(body, `name="viewport"`) {
		t.Error("page lacks its dark colours or its phone layout")
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'",
		"base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Count(policy, "'sha256-") != 2 {
		t.Errorf("policy is %q", policy)
	}
	if strings.Count(body, "<script") != 1 || strings.Count(body, "<style") != 1 {
		t.Error("page has more scripts or styles than the policy names")
	}
}

func TestJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status := Status{Program: "sasyncd", Host: "gw1", Time: at, Started: at,
		Groups: []Group{{Name: "outside", Role: "MASTER", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
			{Name: "empty"}},
		Peers: []Peer{{Name: "10.9.0.2"}}, Gateways: []Gateway{{Name: "gw1"}}}
	var fail error
	h := JSON(func(context.Context) (Status, error) { return status, fail })
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/status.json", nil))
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", rec.Code, rec.Header())
	}
	if strings.Contains(rec.Body.String(), "null") {
		t.Errorf("there is a null, at which the page would stumble: %s", rec.Body)
	}
	var back Status
	if err := json.Unmarshal(rec.Body.Bytes(), &back); err != nil ||
		back.Groups[0].VIPs[0] != status.Groups[0].VIPs[0] {
		t.Errorf("%v %+v", err, back)
	}
	fail = errors.New("the engine does not answer")
	rec = httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/status.json", nil))
	if rec.Code != 503 || !strings.Contains(rec.Body.String(), "does not answer") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestRecorder(t *testing.T) {
	var out bytes.Buffer
	r := NewRecorder("role")
	log := slog.New(r.Tee(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.Debug("quiet")
	log.With("peer", "10.9.0.2").Info("session up", "rtt", time.Millisecond)
	log.Info("role", "group", "outside", "from", "backup", "to", "master", "reason", "silence")
	log.Warn("loud", "err", errors.New("no"))
	ev := r.Events()
	if len(ev) != 3 || ev[0].Text != "loud err=no" || ev[0].Level != "warn" ||
		ev[2].Text != "session up peer=10.9.0.2 rtt=1ms" {
		t.Errorf("events %+v", ev)
	}
	fo := r.Failovers()
	if len(fo) != 1 || fo[0].Group != "outside" || fo[0].From != "BACKUP" || fo[0].To != "MASTER" ||
		fo[0].Reason != "silence" || fo[0].Gap >= 0 {
		t.Errorf("failovers %+v", fo)
	}
	if strings.Contains(out.String(), "session up") || !strings.Contains(out.String(), "loud") {
		t.Errorf("the log behind has %q", out.String())
	}
	for i := range 3 * keepEvents {
		log.Info("role", "group", fmt.Sprint(i))
	}
	if ev := r.Events(); len(ev) != keepEvents || !strings.Contains(ev[0].Text, fmt.Sprint(3*keepEvents-1)) {
		t.Errorf("%d events, the newest %+v", len(ev), ev[0])
	}
	if n := len(r.Failovers()); n != keepFailovers {
		t.Errorf("%d failovers", n)
	}
}

func TestHistoryAndRate(t *testing.T) {
	h := NewHistory([2]string{"a", "s"}, [2]string{"b", "/s"})
	for i := range 2 * points {
		h.Add(float64(i), 1)
	}
	p := h.Plots()
	if len(p) != 2 || len(p[0].Values) != points || p[0].Values[0] != points || p[0].Values[points-1] != 2*points-1 {
		t.Errorf("%d points from %v", len(p[0].Values), p[0].Values[0])
	}
	var r Rate
	at := time.Now()
	for _, tt := range []struct {
		after time.Duration
		count uint64
		want  float64
	}{{0, 1000, 0}, {2 * time.Second, 1500, 250}, {4 * time.Second, 100, 0}, {5 * time.Second, 110, 10}} {
		if got := r.Next(at.Add(tt.after), tt.count); got != tt.want {
			t.Errorf("after %s: %v, want %v", tt.after, got, tt.want)
		}
	}
}
