package carp

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// carpInState is inState for CARP: the master that was heard is a little better.
func carpInState(cfg RouterConfig, name string, demotion int) *Router {
	r := NewRouter(cfg)
	r.demotion = demotion
	heard := CARPAdvert(lowAddr, cfg.Base, cfg.Skew-10, uint8(demotion), false)
	switch name {
	case "init":
		return r
	case "master":
		r.Step(0, RouterEvent{Kind: RouterUp, Src: ownAddr})
		r.Step(0, RouterEvent{Kind: RouterWin})
		return r
	}
	r.Step(0, RouterEvent{Kind: RouterUp, Src: ownAddr})
	r.Step(0, RouterEvent{Kind: RouterAdvert, Advert: heard})
	if name == "expired" {
		r.Step(0, RouterEvent{Kind: RouterExpire})
	}
	return r
}

func describeCARP(r *Router, acts []RouterAction, now time.Duration) string {
	out := describe(r, nil, now)
	for _, a := range acts {
		if a.Kind == RouterSend {
			out += fmt.Sprintf("; send %d/%d demotion %d", a.Base, a.Skew, a.Demotion)
			if a.Priority == 0 {
				out += " (bow-out)"
			}
			continue
		}
		_, text, _ := strings.Cut(describe(r, []RouterAction{a}, now), ";")
		out += ";" + text
	}
	if r.cause != "" {
		out += "; cause: " + r.cause
	}
	return out
}

// TestCARPTable writes down what every event does in every state, 300 ms after
// the state was entered, and compares with the tables in testdata.
func TestCARPTable(t *testing.T) {
	type event struct {
		name    string
		ev      RouterEvent
		preempt bool
		at      time.Duration
	}
	const ownDemotion = 2
	advert := func(name string, from netip.Addr, base, skew, demotion uint8, signed, preempt bool) event {
		return event{name: name, preempt: preempt, ev: RouterEvent{Kind: RouterAdvert, Advert: CARPAdvert(from, base,
			skew, demotion, signed)}}
	}
	for _, tc := range []struct {
		file string
		cfg  RouterConfig
	}{
		{"testdata/carp-openbsd.table", CARPRouter(1, 1, 100, OpenBSD)},
		{"testdata/carp-freebsd.table", CARPRouter(1, 1, 100, FreeBSD)},
		{"testdata/carp-fast.table", CARPRouter(1, 0, 100, OpenBSD)},
	} {
		base := tc.cfg.Base
		events := []event{
			{name: "up", ev: RouterEvent{Kind: RouterUp, Src: ownAddr}},
			{name: "down", ev: RouterEvent{Kind: RouterDown}},
			advert("advert better", lowAddr, base, 50, 2, false, false),
			advert("advert better, demoted more", lowAddr, base, 50, 3, false, false),
			advert("advert better, demoted less", lowAddr, base, 50, 0, false, false),
			advert("advert equal, lower", lowAddr, base, 100, 2, false, false),
			advert("advert equal, lower, signed", lowAddr, base, 100, 2, true, false),
			advert("advert equal, higher, signed", highAddr, base, 100, 2, true, false),
			advert("advert worse", highAddr, base, 200, 2, false, false),
			advert("advert worse, preempt", highAddr, base, 200, 2, false, true),
			advert("advert worse, demoted more", highAddr, base, 200, 3, false, false),
			advert("advert worse, demoted less", highAddr, base, 200, 1, false, true),
			advert("advert of base 10", highAddr, 10, 0, 2, false, false),
			advert("bow-out of the master", lowAddr, 255, 255, 2, false, false),
			advert("bow-out of another", highAddr, 255, 255, 2, false, false),
			advert("bow-out, demoted less", lowAddr, 255, 255, 0, false, false),
			advert("advert of our own", ownAddr, base, 0, 0, false, false),
			{name: "tick early", ev: RouterEvent{Kind: RouterTick}},
			{name: "tick late", ev: RouterEvent{Kind: RouterTick}, at: time.Minute},
			{name: "win", ev: RouterEvent{Kind: RouterWin}},
			{name: "expire", ev: RouterEvent{Kind: RouterExpire}},
			{name: "drop", ev: RouterEvent{Kind: RouterDrop}},
			{name: "bow", ev: RouterEvent{Kind: RouterResign}},
			{name: "rearm", ev: RouterEvent{Kind: RouterRearm}},
			{name: "say", ev: RouterEvent{Kind: RouterSay}},
		}
		var b strings.Builder
		for _, state := range []string{"init", "backup", "expired", "master"} {
			for _, e := range events {
				r := carpInState(tc.cfg, state, ownDemotion)
				r.preempt = e.preempt
				now := 300 * ms
				if e.at != 0 {
					now = e.at
				}
				acts := r.Step(now, e.ev)
				fmt.Fprintf(&b, "%-8s| %-29s| %s\n", state, e.name, describeCARP(r, acts, now))
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

// Timers of carp(4); those of OpenBSD's section on advbase 0 in the last rows.
func TestCARPTimers(t *testing.T) {
	for _, tc := range []struct {
		base, skew  uint8
		every, down time.Duration
	}{
		{1, 0, time.Second, 3 * time.Second},
		{1, 128, 1500 * ms, 3500 * ms},
		{20, 64, 20250 * ms, 60250 * ms},
		{0, 64, 250 * ms, 750 * ms},
		{0, 1, 3906250, 11718750},
		{0, 0, 3906250, 11718750},
	} {
		r := NewRouter(CARPRouter(1, tc.base, tc.skew, OpenBSD))
		if r.every() != tc.every || r.Down() != tc.down {
			t.Errorf("%d/%d: every %v down %v, want %v %v", tc.base, tc.skew, r.every(), r.Down(), tc.every, tc.down)
		}
	}
}

// Where demotion goes.
func TestCARPDemotion(t *testing.T) {
	for _, tc := range []struct {
		d              Dialect
		skew           uint8
		by             int
		sends, demoted uint8
	}{
		{OpenBSD, 100, 30, 100, 30},
		{OpenBSD, 100, 255, 100, 255},
		{FreeBSD, 100, 30, 130, 0},
		{FreeBSD, 100, 200, 240, 0},
		{FreeBSD, 250, 1, 250, 0}, // never better by demotion
		{FreeBSD, 250, 0, 250, 0},
	} {
		r := NewRouter(CARPRouter(1, 1, tc.skew, tc.d))
		r.demotion = tc.by
		if a := r.say(); a.Skew != tc.sends || a.Demotion != tc.demoted || a.Base != 1 {
			t.Errorf("dialect %d, skew %d demoted by %d: %+v", tc.d, tc.skew, tc.by, a)
		}
	}
}

// With advbase 0 a better node that returns must not time out a slower master
// between two of its advertisements.
func TestCARPFastLearnsInterval(t *testing.T) {
	r := NewRouter(CARPRouter(1, 0, 10, OpenBSD))
	r.Step(0, RouterEvent{Kind: RouterUp, Src: ownAddr})
	r.Step(0, RouterEvent{Kind: RouterAdvert, Advert: CARPAdvert(lowAddr, 0, 200, 0, false)})
	if got, want := r.Deadline(), 3*200*carpUnit; got != want {
		t.Errorf("deadline %v, want %v", got, want)
	}
}
