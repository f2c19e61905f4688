// Package page is the status page of the daemons: one page without anything
// from elsewhere, and the same data as JSON. It shows and changes nothing.
//
// What the page shows may come from other machines (host names, reasons), so
// its script puts all of it into text nodes, and the browser is told to run
// that one script and to load nothing else.
package page

import (
	"context"
	"crypto/sha256"
	_ "embed" // page.html
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

//go:embed page.html
var html []byte

// Status is what the page shows, and what /status.json is.
type Status struct {
	Program string    `json:"program"`
	Version string    `json:"version"`
	Host    string    `json:"host"`
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`
	// Fit says whether a failover would work now, Problems why not.
	Fit      bool      `json:"fit"`
	Summary  string    `json:"summary"`
	Problems []Problem `json:"problems"`
	// Gateways begin with this one.
	Gateways  []Gateway  `json:"gateways"`
	Groups    []Group    `json:"groups"`
	Peers     []Peer     `json:"peers"`
	Plots     []Plot     `json:"plots"`
	Events    []Event    `json:"events"`    // newest first
	Failovers []Failover `json:"failovers"` // newest first
}

// Problem is a reason why a failover would not work, and what to do.
type Problem struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Gateway is one of the drawn boxes.
type Gateway struct {
	Name  string            `json:"name"`
	Self  bool              `json:"self"`
	Up    bool              `json:"up"`    // there is contact
	Roles map[string]string `json:"roles"` // of groups, as far as known
}

// Group is a set of virtual IPs.
type Group struct {
	Name    string       `json:"name"`
	Role    string       `json:"role"` // MASTER, BACKUP, INIT
	Since   time.Time    `json:"since"`
	Reason  string       `json:"reason"`
	Term    uint64       `json:"term"`
	VIPs    []netip.Addr `json:"vips"`
	InSync  bool         `json:"in_sync"`
	Why     string       `json:"why"`
	Details []Detail     `json:"details"`
}

// Peer is another gateway as this one sees it.
type Peer struct {
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Details []Detail `json:"details"`
}

// Detail is a figure with its name.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Failover is a change of role. Gap is negative where it is not known.
type Failover struct {
	Time   time.Time `json:"time"`
	Group  string    `json:"group"`
	From   string    `json:"from"`
	To     string    `json:"to"`
	Reason string    `json:"reason"`
	Gap    float64   `json:"gap_seconds"`
}

// Source returns the status of the moment.
type Source func(context.Context) (Status, error)

// sourceLimit bounds how long a visitor waits for a busy daemon.
const sourceLimit = 2 * time.Second

// JSON serves the status as JSON.
func JSON(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), sourceLimit)
		defer cancel()
		s, err := source(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		s.fill()
		b, err := json.Marshal(s)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(b, '\n'))
	})
}

// fill makes every list one, so that no reader meets a null.
func (s *Status) fill() {
	list(&s.Problems)
	list(&s.Gateways)
	list(&s.Groups)
	list(&s.Peers)
	list(&s.Plots)
	list(&s.Events)
	list(&s.Failovers)
	for i := range s.Gateways {
		if s.Gateways[i].Roles == nil {
			s.Gateways[i].Roles = map[string]string{}
		}
	}
	for i := range s.Groups {
		list(&s.Groups[i].VIPs)
		list(&s.Groups[i].Details)
	}
	for i := range s.Peers {
		list(&s.Peers[i].Details)
	}
}

func list[T any](l *[]T) {
	if *l == nil {
		*l = []T{}
	}
}

// HTML serves the page.
func HTML() http.Handler {
	policy := "default-src 'none'; connect-src 'self'; script-src " + source("script") + "; style-src " +
		source("style") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		_, _ = w.Write(html)
	})
}

// source names the page's only element of a kind for a content security policy.
func source(element string) string {
	_, text, _ := strings.Cut(string(html), "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:]))
}
