package engine

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
)

// fakeHold is a kernel's routing policy and its policies.
type fakeHold struct {
	*fakes
	devices   []string
	protected bool // by policies of the group's
	foreign   bool // by others
	blind     error
}

func (f *fakeHold) Set(names ...string) error {
	if f.fail != nil {
		return f.fail
	}
	if !slices.Equal(f.devices, names) {
		f.log = append(f.log, "hold "+strings.Join(names, " "))
	}
	f.devices = names
	return nil
}

func (f *fakeHold) Held() ([]string, error) { return f.devices, nil }
func (f *fakeHold) Mend(names ...string) (missing, foreign []string, err error) {
	for _, n := range names {
		if !slices.Contains(f.devices, n) {
			missing = append(missing, n)
		}
	}
	for _, n := range f.devices {
		if !slices.Contains(names, n) {
			foreign = append(foreign, n)
		}
	}
	return missing, foreign, f.Set(names...)
}
func (f *fakeHold) Protected(vips ...netip.Addr) (bool, error) {
	return f.protected || f.foreign && len(vips) == 0, f.blind
}

// guarded is a group that requires sasyncd, on two interfaces.
func guarded(c *Config) {
	c.Groups[0].Require, c.Groups[0].AloneAfter = []string{"sasyncd"}, time.Second
	inside := c.Routers[0]
	inside.Instance, inside.Device = "two", "test1"
	c.Routers = append(c.Routers, inside)
}

// heldEngine is an engine that has begun to hold.
func heldEngine(t *testing.T, edit func(*Config)) (*Engine, *fakeHold) {
	t.Helper()
	e, f := testEngine(t, edit)
	h := &fakeHold{fakes: f}
	e.deps.Hold = h
	if err := e.hold(e.groups); err != nil {
		t.Fatal(err)
	}
	return e, h
}

func TestHoldAtStart(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*Config)
		hold fakeHold
		rest bool // the group is not frozen
		want string
	}{
		"boot":          {guarded, fakeHold{}, true, "test0 test1"},
		"intact tables": {guarded, fakeHold{protected: true}, true, ""},
		"killed before it was lifted": {guarded, fakeHold{protected: true, devices: []string{"test1"}}, true,
			"test0 test1"},
		"left for another interface":   {guarded, fakeHold{protected: true, devices: []string{"test9"}}, true, ""},
		"boot, and another interface":  {guarded, fakeHold{devices: []string{"test9"}}, true, "test0 test1"},
		"no client brings policies":    {nil, fakeHold{devices: []string{"test0"}}, true, ""},
		"left as it is for a restart":  {guarded, fakeHold{}, false, ""},
		"policies that cannot be read": {guarded, fakeHold{blind: errors.New("no")}, true, ""},
	} {
		e, f := testEngine(t, tc.edit)
		tc.hold.fakes = f
		e.deps.Hold = &tc.hold
		var rest []*group
		if tc.rest {
			rest = e.groups
		}
		if err := e.hold(rest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(tc.hold.devices, " "); got != tc.want {
			t.Errorf("%s: held are %q, want %q", name, got, tc.want)
		}
		why := e.state(e.groups[0], 0).Held
		if (why != "") != (tc.want != "") {
			t.Errorf("%s: the state says %q", name, why)
		}
	}
}

// A node that cannot be kept from forwarding does not start.
func TestHoldThatFails(t *testing.T) {
	e, f := testEngine(t, guarded)
	e.deps.Hold = &fakeHold{fakes: &fakes{fail: errors.New("no netlink")}}
	if err := e.silence(e.groups); err == nil || !strings.Contains(err.Error(), "hold forwarding") {
		t.Errorf("started: %v", err)
	}
	if got := strings.Join(f.log, ", "); got != "fence" {
		t.Errorf("did %s", got)
	}
}

// drain has the worker do what waits.
func drain(e *Engine) {
	for _, w := range e.queues.work.take() {
		e.runTask(w)
	}
}

// A backup forwards when its client has all that the master has, and the kernel
// too.
func TestHoldOfABackup(t *testing.T) {
	e, h := heldEngine(t, guarded)
	g := e.groups[0]
	e.step(g, 0, carp.Event{Kind: carp.EvClient, Client: 1, Name: "sasyncd", Prepare: true})
	step := func(when string, ready carp.Ready, protected, held bool) {
		t.Helper()
		h.protected = protected
		e.step(g, 0, carp.Event{Kind: carp.EvReady, Client: 1, Ready: ready})
		e.review(0)
		drain(e)
		if got := len(h.devices) > 0; got != held {
			t.Errorf("%s: held is %v", when, got)
		}
	}
	step("half a snapshot", carp.Ready{}, true, true)
	h.foreign = true
	step("in sync with a master that has none, beside others' policies", carp.Ready{InSync: true}, false, true)
	step("a file is loaded", carp.Ready{InSync: true, Loading: true}, true, true)
	step("complete", carp.Ready{InSync: true}, true, false)
	step("never again", carp.Ready{}, false, false)
	e.hold(nil)
	if len(h.devices) > 0 {
		t.Error("held again")
	}
}

// A MASTER forwards before its fence opens, if it has its policies, or else when
// it has them, or after a while.
func TestHoldOfAMaster(t *testing.T) {
	for _, tc := range []struct {
		name               string
		protected, loading bool
		order              string
		later              time.Duration // until it is lifted, if not at once
		then               func(*fakeHold, *carp.Ready)
	}{
		{name: "with policies", protected: true, order: "acquire, hold , unfence, announce, own"},
		{name: "without", order: "acquire, unfence, announce, own", later: holdLimit},
		{name: "without, they come", order: "acquire, unfence, announce, own", later: time.Second,
			then: func(h *fakeHold, _ *carp.Ready) { h.protected = true }},
		{name: "the first of many", protected: true, loading: true, order: "acquire, unfence, announce, own",
			later: holdLimit},
		{name: "the last of many", protected: true, loading: true, order: "acquire, unfence, announce, own",
			later: time.Second,
			then:  func(_ *fakeHold, r *carp.Ready) { r.Loading = false }},
	} {
		e, h := heldEngine(t, guarded)
		g := e.groups[0]
		h.protected = tc.protected
		ready := carp.Ready{InSync: true, Loading: tc.loading}
		e.step(g, 0, carp.Event{Kind: carp.EvClient, Client: 1, Name: "sasyncd"})
		e.step(g, 0, carp.Event{Kind: carp.EvReady, Client: 1, Ready: ready})
		h.log = nil
		e.order(g, carp.Action{Kind: carp.ActAcquire})
		drain(e)
		if got := strings.Join(h.log, ", "); got != tc.order {
			t.Errorf("%s: %s; want %s", tc.name, got, tc.order)
		}
		if tc.later == 0 {
			continue
		}
		acts, ok := g.machine.Adopt(0, 8) // MASTER
		if !ok {
			t.Fatalf("%s: not adopted", tc.name)
		}
		e.carryOut(g, 0, acts)
		held := func(now time.Duration) bool { e.review(now); drain(e); return len(h.devices) > 0 }
		if !held(tc.later - 1) {
			t.Errorf("%s: lifted too early", tc.name)
		}
		if tc.then != nil {
			tc.then(h, &ready)
			e.step(g, tc.later, carp.Event{Kind: carp.EvReady, Client: 1, Ready: ready})
		}
		if held(tc.later) {
			t.Errorf("%s: still held after %v", tc.name, tc.later)
		}
	}
}

// A virtual MAC has an interface of its own, which comes up with the addresses.
func TestHoldOfAVirtualMAC(t *testing.T) {
	e, h := heldEngine(t, func(c *Config) {
		guarded(c)
		c.Routers[0].Virtual = true
	})
	g := e.groups[0]
	h.log = nil
	for range 2 {
		e.order(g, carp.Action{Kind: carp.ActAcquire})
		drain(e)
	}
	once := "acquire, unfence, announce, own"
	if got := strings.Join(h.log, ", "); got != "hold test0 test1 vm3-105, "+once+", "+once {
		t.Errorf("did %s", got)
	}
	if err := e.lift(g, true, "test"); err != nil || len(h.devices) > 0 {
		t.Errorf("held are %q, %v", h.devices, err)
	}
}

// Of two groups on one interface, the one that becomes MASTER does not wait for the
// other; a backup does.
func TestHoldOfTwoGroups(t *testing.T) {
	two := func(c *Config) {
		guarded(c)
		c.Groups = append(c.Groups, c.Groups[0])
		c.Groups[1].Name = "h"
		other := c.Routers[0]
		other.Instance, other.Group, other.Machine.ID = "three", "h", 6
		c.Routers = append(c.Routers, other)
	}
	for _, tc := range []struct {
		master bool
		want   string
	}{{false, "test0"}, {true, ""}} {
		e, h := heldEngine(t, two)
		if got := strings.Join(h.devices, " "); got != "test0 test1" {
			t.Errorf("held are %q", got)
		}
		if err := e.lift(e.groups[0], tc.master, "test"); err != nil {
			t.Error(err)
		}
		if got := strings.Join(h.devices, " "); got != tc.want {
			t.Errorf("master %v: held are %q, want %q", tc.master, got, tc.want)
		}
	}
}

// Whoever does not require the client any more need not wait for it.
func TestHoldWithoutRequire(t *testing.T) {
	e, h := heldEngine(t, guarded)
	e.groups[0].cfg.Require = nil
	e.review(0)
	drain(e)
	if len(h.devices) > 0 {
		t.Error("still held")
	}
}

// Cleanup holds what has just booted and says so.
func TestCleanupHolds(t *testing.T) {
	cfg := config()
	guarded(&cfg)
	f := &fakes{}
	h := &fakeHold{fakes: f}
	if err := Cleanup(cfg, Deps{Fence: fakeFence{f}, Addresses: fakeAddresses{f}, Hold: h}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.log, ", "); got != "fence, hold test0 test1, release" {
		t.Errorf("did %s", got)
	}
	h.devices, h.protected, f.log = nil, true, nil
	if err := Cleanup(cfg, Deps{Fence: fakeFence{f}, Addresses: fakeAddresses{f}, Hold: h}); err != nil ||
		len(h.devices) > 0 {
		t.Errorf("after a kill: held are %q, %v", h.devices, err)
	}
}
