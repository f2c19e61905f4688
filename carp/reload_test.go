package carp

import (
	"net/netip"
	"testing"
	"time"
)

// lone is a group of one router that has become master.
func lone(t *testing.T, cfg RouterConfig) (*Group, time.Duration) {
	t.Helper()
	g := NewGroup(GroupConfig{Name: "g", Routers: []RouterConfig{cfg}}, 0, 3)
	step := func(now time.Duration, ev Event) {
		for _, a := range g.Step(now, ev) {
			if a.Kind == ActAcquire {
				g.Step(now, Event{Kind: EvDone, Op: a.Op})
				return
			}
		}
	}
	step(0, Event{Kind: EvUp, Src: netip.MustParseAddr("192.0.2.2")})
	now := g.Deadline()
	step(now, Event{Kind: EvTick})
	g.Step(now, Event{Kind: EvSent})
	if g.public != Master {
		t.Fatalf("state %v", g.public)
	}
	return g, now
}

// A shorter interval must not look like a stall, and peers must learn it at once.
func TestReconfigureMaster(t *testing.T) {
	g, now := lone(t, RouterConfig{ID: 1, Priority: 100, Interval: time.Second})
	now += 900 * time.Millisecond
	acts := g.Reconfigure(now, GroupConfig{Name: "g", Routers: []RouterConfig{{ID: 1, Priority: 120,
		Interval: 50 * time.Millisecond}}})
	if len(acts) != 1 || acts[0].Kind != ActAdvert || acts[0].Priority != 120 {
		t.Fatalf("actions %+v", acts)
	}
	g.Step(now, Event{Kind: EvSent})
	if at := g.Deadline(); at != now+50*time.Millisecond {
		t.Errorf("next advertisement after %v", at-now)
	}
	for _, a := range g.Step(now+50*time.Millisecond, Event{Kind: EvTick}) {
		if a.Kind == ActState || a.Kind == ActStall {
			t.Errorf("flap: %+v", a)
		}
	}
}

// A backup goes on following its master by what that one says.
func TestReconfigureBackup(t *testing.T) {
	g := NewGroup(GroupConfig{Name: "g", Routers: []RouterConfig{{ID: 1, Priority: 100, Interval: time.Second}}}, 0, 3)
	g.Step(0, Event{Kind: EvUp, Src: netip.MustParseAddr("192.0.2.2")})
	g.Step(0, Event{Kind: EvAdvert, Advert: Advert{From: netip.MustParseAddr("192.0.2.1"), Priority: 200,
		Interval: time.Second}})
	before := g.Deadline()
	acts := g.Reconfigure(time.Millisecond, GroupConfig{Name: "g", Routers: []RouterConfig{{ID: 1, Priority: 100,
		Interval: 50 * time.Millisecond}}})
	if len(acts) != 0 || g.Deadline() != before {
		t.Errorf("actions %v, deadline moved by %v", acts, g.Deadline()-before)
	}
}

func TestAdopt(t *testing.T) {
	cfg := GroupConfig{Name: "g", StartHold: time.Second,
		Routers: []RouterConfig{{ID: 1, Priority: 100, Interval: time.Second}}}
	up := Event{Kind: EvUp, Src: netip.MustParseAddr("192.0.2.2")}
	heard := Event{Kind: EvAdvert, Advert: Advert{From: netip.MustParseAddr("192.0.2.1"), Priority: 1,
		Interval: time.Second}}

	g := NewGroup(cfg, 0, 5)
	g.Step(0, up)
	acts, ok := g.Adopt(time.Millisecond, 5)
	if !ok || g.public != Master || g.term != 5 {
		t.Fatalf("adopted %v, state %v, term %d", ok, g.public, g.term)
	}
	kinds := map[ActionKind]bool{}
	for _, a := range acts {
		kinds[a.Kind] = true
	}
	if !kinds[ActAdvert] || !kinds[ActAcquire] || kinds[ActTerm] || kinds[ActPrepare] {
		t.Errorf("actions %+v", acts)
	}

	for name, refuse := range map[string]func(*Group) uint64{
		"another master": func(g *Group) uint64 { g.Step(0, heard); return 5 },
		"newer term":     func(g *Group) uint64 { g.Step(0, Event{Kind: EvTerm, Term: 6}); return 5 },
		"no interface":   func(g *Group) uint64 { g.Step(0, Event{Kind: EvDown}); return 5 },
		"no term":        func(*Group) uint64 { return 0 },
	} {
		g := NewGroup(cfg, 0, 0)
		g.Step(0, up)
		if _, ok := g.Adopt(time.Millisecond, refuse(g)); ok || g.public == Master {
			t.Errorf("%s: adopted", name)
		}
	}
}
