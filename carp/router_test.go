package carp

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

const ms = time.Millisecond

var (
	lowAddr  = netip.MustParseAddr("10.0.0.1")
	ownAddr  = netip.MustParseAddr("10.0.0.2")
	highAddr = netip.MustParseAddr("10.0.0.3")
)

// inState makes a router that has got into a state by events alone.
func inState(cfg RouterConfig, name string) *Router {
	const start = 0
	r := NewRouter(cfg)
	up := RouterEvent{Kind: RouterUp, Src: ownAddr}
	heard := RouterEvent{Kind: RouterAdvert, Advert: Advert{From: lowAddr, Priority: 200, Interval: cfg.Interval}}
	switch name {
	case "init":
	case "backup":
		r.Step(start, up)
		r.Step(start, heard)
	case "expired":
		r.Step(start, up)
		r.Step(start, heard)
		r.Step(start, RouterEvent{Kind: RouterExpire})
	case "master":
		r.Step(start, up)
		r.Step(start, RouterEvent{Kind: RouterWin})
	}
	return r
}

func describe(r *Router, acts []RouterAction, now time.Duration) string {
	var b strings.Builder
	b.WriteString(r.State().String())
	if r.Expired() {
		b.WriteString(" expired")
	}
	if d := r.Deadline(); d != Never {
		fmt.Fprintf(&b, " deadline +%v", d-now)
	}
	for _, a := range acts {
		switch a.Kind {
		case RouterSend:
			fmt.Fprintf(&b, "; send %d", a.Priority)
		case RouterExpired:
			b.WriteString("; expired")
		case RouterYielded:
			fmt.Fprintf(&b, "; yielded to %v", a.Advert.From)
		case RouterContested:
			fmt.Fprintf(&b, "; contested by %v", a.Advert.From)
		}
	}
	return b.String()
}

// TestRouterTable writes down what every event does in every state, 300 ms
// after the state was entered, and compares with the table in testdata.
func TestRouterTable(t *testing.T) {
	events := []struct {
		name    string
		ev      RouterEvent
		preempt bool
		at      time.Duration
	}{
		{name: "up", ev: RouterEvent{Kind: RouterUp, Src: ownAddr}},
		{name: "down", ev: RouterEvent{Kind: RouterDown}},
		{name: "advert higher", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: lowAddr, Priority: 150,
			Interval: time.Second}}},
		{name: "advert equal, lower address", ev: RouterEvent{Kind: RouterAdvert,
			Advert: Advert{From: lowAddr, Priority: 100, Interval: time.Second}}},
		{name: "advert equal, higher address", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: highAddr,
			Priority: 100, Interval: time.Second}}},
		{name: "advert lower", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: highAddr, Priority: 50,
			Interval: time.Second}}},
		{name: "advert lower, preempt", preempt: true, ev: RouterEvent{Kind: RouterAdvert,
			Advert: Advert{From: highAddr, Priority: 50, Interval: time.Second}}},
		{name: "advert owner", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: lowAddr, Priority: 255,
			Interval: time.Second}}},
		{name: "advert 0 of the master", ev: RouterEvent{Kind: RouterAdvert,
			Advert: Advert{From: lowAddr, Interval: time.Second}}},
		{name: "advert 0 of another", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: highAddr,
			Interval: time.Second}}},
		{name: "advert of our own", ev: RouterEvent{Kind: RouterAdvert, Advert: Advert{From: ownAddr, Priority: 255,
			Interval: time.Second}}},
		{name: "tick early", ev: RouterEvent{Kind: RouterTick}},
		{name: "tick late", ev: RouterEvent{Kind: RouterTick}, at: 10 * time.Second},
		{name: "win", ev: RouterEvent{Kind: RouterWin}},
		{name: "expire", ev: RouterEvent{Kind: RouterExpire}},
		{name: "drop", ev: RouterEvent{Kind: RouterDrop}},
		{name: "bow", ev: RouterEvent{Kind: RouterResign}},
		{name: "rearm", ev: RouterEvent{Kind: RouterRearm}},
	}
	for _, tc := range []struct {
		file string
		cfg  RouterConfig
	}{
		{"testdata/vrrp3.table", RouterConfig{Proto: VRRP3, ID: 1, Priority: 100, Interval: 500 * ms}},
		{"testdata/vrrp2.table", RouterConfig{Proto: VRRP2, ID: 1, Priority: 100, Interval: time.Second}},
	} {
		var b strings.Builder
		for _, state := range []string{"init", "backup", "expired", "master"} {
			for _, e := range events {
				r := inState(tc.cfg, state)
				r.preempt = e.preempt
				now := 300 * ms
				if e.at != 0 {
					now = e.at
				}
				acts := r.Step(now, e.ev)
				fmt.Fprintf(&b, "%-8s| %-30s| %s\n", state, e.name, describe(r, acts, now))
			}
		}
		if *update {
			if err := os.WriteFile(tc.file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(tc.file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.file, diff)
		}
	}
}

// Timers of RFC 9568 6.1 and RFC 3768 6.1; short intervals keep their skew.
func TestRouterTimers(t *testing.T) {
	for _, tc := range []struct {
		cfg        RouterConfig
		skew, down time.Duration
	}{
		{RouterConfig{Proto: VRRP3, Priority: 200, Interval: time.Second}, 218750 * time.Microsecond,
			3218750 * time.Microsecond},
		{RouterConfig{Proto: VRRP3, Priority: 200, Interval: 10 * ms}, 2187500, 32187500},
		{RouterConfig{Proto: VRRP3, Priority: 255, Interval: time.Second}, 3906250, 3003906250},
		{RouterConfig{Proto: VRRP2, Priority: 200, Interval: 2 * time.Second}, 218750 * time.Microsecond,
			6218750 * time.Microsecond},
	} {
		r := NewRouter(tc.cfg)
		if r.Skew() != tc.skew || r.Down() != tc.down {
			t.Errorf("%+v: skew %v down %v, want %v %v", tc.cfg, r.Skew(), r.Down(), tc.skew, tc.down)
		}
	}
}

// A backup judges the master by the master's interval, not by its own.
func TestRouterLearnsInterval(t *testing.T) {
	r := inState(RouterConfig{Proto: VRRP3, ID: 1, Priority: 128, Interval: 100 * ms}, "backup")
	r.Step(0, RouterEvent{Kind: RouterAdvert, Advert: Advert{From: lowAddr, Priority: 200, Interval: time.Second}})
	if got, want := r.Deadline(), 3500*ms; got != want {
		t.Errorf("deadline %v, want %v", got, want)
	}
}

func TestRouterDemotion(t *testing.T) {
	for _, tc := range []struct {
		priority uint8
		by       int
		want     uint8
	}{{100, 0, 100}, {100, 30, 70}, {100, 255, 1}, {255, 100, 255}} {
		r := NewRouter(RouterConfig{Priority: tc.priority, Interval: time.Second})
		r.demotion = tc.by
		if got := r.Priority(); got != tc.want {
			t.Errorf("%d demoted by %d: %d, want %d", tc.priority, tc.by, got, tc.want)
		}
	}
}

// A master answers another one at once, and a flood of them a few times an
// interval.
func TestMasterAnswersWithinBounds(t *testing.T) {
	for _, proto := range []Proto{VRRP3, VRRP2, CARP} {
		cfg := RouterConfig{Proto: proto, ID: 1, Priority: 200, Interval: 250 * ms}
		if proto == CARP {
			cfg = CARPRouter(1, 1, 0, OpenBSD)
		}
		r := inState(cfg, "master")
		lesser := Advert{From: lowAddr, Priority: 1, Interval: cfg.Interval, Base: 10, Skew: 254}
		if proto == CARP {
			lesser.Interval = 20 * time.Second
		}
		sent := 0
		const intervals = 10
		for now := ms; now <= intervals*cfg.Interval; now += ms / 10 {
			ev := RouterEvent{Kind: RouterAdvert, Advert: lesser}
			if now >= r.Deadline() {
				ev = RouterEvent{Kind: RouterTick}
			}
			for _, a := range r.Step(now, ev) {
				if a.Kind == RouterSend {
					sent++
				}
			}
			if now == ms && sent != 1 {
				t.Errorf("%v: the first is not answered", proto)
			}
		}
		if r.State() != Master || sent > (maxAnswers+1)*(intervals+1) || sent < intervals {
			t.Errorf("%v: %v, sent %d in %d intervals", proto, r.State(), sent, intervals)
		}
	}
}
