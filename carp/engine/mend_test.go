package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/filter"
	"sasyncd/carp/link"
	"sasyncd/carp/vip"
)

// fakeFilter is a packet filter that others change.
type fakeFilter struct {
	*fakes
	refuse, lease bool // what Changed says
}

func (f *fakeFilter) Refuse(vips ...netip.Addr) error {
	f.log, f.refuse = append(f.log, "refuse"), false
	return f.fail
}
func (f *fakeFilter) Lease(ls ...filter.Lease) error {
	f.log, f.lease = append(f.log, "lease"), false
	return f.fail
}
func (f *fakeFilter) Changed() (bool, bool, error) { return f.refuse, f.lease, nil }

// mendNow has the worker look at everything, and returns what it did.
func mendNow(e *Engine, f *fakes, now time.Duration) string {
	f.log = nil
	e.mendAll(now)
	drain(e)
	return strings.Join(f.log, ", ")
}

// repairsOf says how often each kind was repaired, for clients.
func repairsOf(e *Engine) map[string]uint64 {
	out := map[string]uint64{}
	for _, r := range e.state(e.groups[0], link.BootTime()).Repairs {
		out[r.Kind] = r.Count
	}
	return out
}

// logged has the engine log to a buffer: what it says is handed on when asked for.
func logged(e *Engine) func(text string) int {
	var b bytes.Buffer
	e.log = slog.New(slog.NewTextHandler(&b, nil))
	return func(text string) int {
		e.flush(context.Background())
		return strings.Count(b.String(), text)
	}
}

// adoptedMaster is an engine that has gone on as MASTER, and whose next event is an
// advertisement at 250 ms.
func adoptedMaster(t *testing.T, edit func(*Config)) (*Engine, *fakes) {
	t.Helper()
	e, f := testEngine(t, edit)
	g := e.groups[0]
	acts, ok := g.machine.Adopt(0, 8)
	if !ok {
		t.Fatal("not adopted")
	}
	e.carryOut(g, 0, acts)
	drain(e)
	return e, f
}

// What somebody else changes of the fence is undone, counted, and logged once; of a
// BACKUP it is set again, of a MASTER taken away.
func TestFenceIsMended(t *testing.T) {
	vip := config().Routers[0].VIPs[0]
	for name, tc := range map[string]struct {
		master bool
		mended FenceMended
		kind   string
		says   string
	}{
		"removed from a backup": {false, FenceMended{Closed: []netip.Addr{vip}}, api.RepairedFence,
			"fence rules removed externally"},
		"set on a master": {true, FenceMended{Opened: []netip.Addr{vip}}, api.RepairedFence,
			"fence rules of a MASTER added externally"},
		"gate of a master": {true, FenceMended{Gated: []netip.Addr{vip}}, api.RepairedGate,
			"IPv6 gate removed externally"},
		"of another group":       {true, FenceMended{Opened: []netip.Addr{ownAddr}}, "", ""},
		"nothing":                {true, FenceMended{}, "", ""},
		"gate's routes, no IPv6": {true, FenceMended{Routes: 1}, "", ""},
	} {
		e, f := testEngine(t, nil)
		if tc.master {
			e, f = adoptedMaster(t, nil)
		}
		said := logged(e)
		f.mended = tc.mended
		for range 3 {
			if got := mendNow(e, f, 100*time.Millisecond); !strings.HasPrefix(got, "mend fence of 1") {
				t.Errorf("%s: %s", name, got)
			}
		}
		got := repairsOf(e)
		if tc.kind == "" && len(got) > 0 || tc.kind != "" && (got[tc.kind] != 3 || len(got) != 1) {
			t.Errorf("%s: counted %v", name, got)
		}
		if tc.says != "" && said(tc.says) != 1 {
			t.Errorf("%s: said %d times", name, said(tc.says))
		}
	}
}

// A node that stood still does not open the fence that its client has set: another one
// may be MASTER.
func TestFenceIsNotOpenedAfterAStall(t *testing.T) {
	e, f := adoptedMaster(t, nil)
	if got := mendNow(e, f, 10*time.Second); got != "mend fence of 0" {
		t.Errorf("the engine is late: %s", got)
	}
	if got := mendNow(e, f, 100*time.Millisecond); got != "mend fence of 1, mend 1 addresses" {
		t.Errorf("the engine is not late: %s", got)
	}
	// The worker is.
	e.mendAll(100 * time.Millisecond)
	for _, w := range e.queues.work.take() {
		f.log = nil
		e.mend(&owned{at: link.BootTime() - 2*mendEach})
		if len(f.log) > 0 {
			t.Errorf("an old look: %q", f.log)
		}
		e.runTask(w)
	}
}

// One look at a time: a worker that is busy does not get more and more of them.
func TestLooksDoNotPileUp(t *testing.T) {
	e, _ := testEngine(t, nil)
	for range 5 {
		e.mendAll(0)
		e.lookAtConfigured()
	}
	if n := len(e.queues.work.take()); n != 2 {
		t.Errorf("%d looks wait", n)
	}
}

// What cannot be repaired is said once, and shown until it can.
func TestMendingThatFails(t *testing.T) {
	e, f := adoptedMaster(t, nil)
	said := logged(e)
	f.fail = errors.New("no netlink")
	for range 3 {
		mendNow(e, f, 100*time.Millisecond)
	}
	list := e.state(e.groups[0], link.BootTime()).Repairs
	if len(list) != 1 || list[0].Kind != api.RepairedFence || list[0].Error != "no netlink" || list[0].Count != 0 ||
		said("kernel state cannot be repaired") != 1 {
		t.Errorf("%+v, said %d times", list, said("kernel state cannot be repaired"))
	}
	f.fail = nil
	mendNow(e, f, 100*time.Millisecond)
	if list := e.state(e.groups[0], link.BootTime()).Repairs; len(list) != 0 {
		t.Errorf("it can be repaired again: %+v", list)
	}
}

func TestRoutesAreMended(t *testing.T) {
	e, f := adoptedMaster(t, nil)
	said := logged(e)
	f.routes = e.groups[0].vips()
	mendNow(e, f, 100*time.Millisecond)
	if got := repairsOf(e); got[api.RepairedRoute] != 1 ||
		said("local routes of virtual addresses removed externally") != 1 {
		t.Errorf("counted %v", got)
	}
	// Not of what the worker has released meanwhile.
	e.order(e.groups[0], carp.Action{Kind: carp.ActRelease})
	if got := mendNow(e, f, 100*time.Millisecond); strings.Contains(got, "mend 1 addresses") {
		t.Errorf("released: %s", got)
	}
}

// The boot hold is what the engine wants, whoever removes or sets it.
func TestHoldIsMended(t *testing.T) {
	e, h := heldEngine(t, guarded)
	said := logged(e)
	h.devices = []string{"test1"}
	mendNow(e, h.fakes, 0)
	if got := strings.Join(h.devices, " "); got != "test0 test1" || repairsOf(e)[api.RepairedHold] != 1 ||
		said("hold rules removed externally") != 1 {
		t.Errorf("held are %q, counted %v", got, repairsOf(e))
	}
	if err := e.lift(e.groups[0], true, "test"); err != nil {
		t.Fatal(err)
	}
	h.devices = []string{"test0", "other0"}
	mendNow(e, h.fakes, 0)
	if len(h.devices) != 0 || repairsOf(e)[api.RepairedHold] != 2 {
		t.Errorf("held are %q, counted %v", h.devices, repairsOf(e))
	}
}

func TestFilterIsMended(t *testing.T) {
	real := func(c *Config) { c.Routers[0].Device = "lo" }
	for name, tc := range map[string]struct {
		edit func(*Config)
		gone fakeFilter
		want string
	}{
		"accept no": {func(c *Config) { real(c); c.Routers[0].Refuse = true }, fakeFilter{refuse: true},
			"refuse"},
		"lease": {func(c *Config) { real(c); c.Routers[0].Lease = true }, fakeFilter{lease: true}, "lease"},
		"both": {func(c *Config) { real(c); c.Routers[0].Lease, c.Routers[0].Refuse = true, true },
			fakeFilter{refuse: true, lease: true}, "refuse, lease"},
		"owner": {func(c *Config) {
			real(c)
			c.Routers[0].Refuse, c.Routers[0].Machine.Priority = true,
				255
		}, fakeFilter{refuse: true}, ""},
		"intact":            {func(c *Config) { real(c); c.Routers[0].Refuse = true }, fakeFilter{}, ""},
		"with an interface": {func(c *Config) { c.Routers[0].Lease = true }, fakeFilter{lease: true}, ""},
	} {
		e, f := testEngine(t, tc.edit)
		said := logged(e)
		tc.gone.fakes = f
		e.deps.Filter = &tc.gone
		got := strings.TrimPrefix(mendNow(e, f, 0), "mend fence of 1")
		if got = strings.TrimPrefix(got, ", "); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
		n := 0
		if tc.want != "" {
			n = 1
		}
		if repairsOf(e)[api.RepairedFilter] != uint64(n) || said("nftables") != n {
			t.Errorf("%s: counted %v, said %d times", name, repairsOf(e), said("nftables"))
		}
	}
}

// A virtual address that the system has configured is told as long as it is there.
func TestConfiguredAddresses(t *testing.T) {
	e, f := testEngine(t, nil)
	said := logged(e)
	f.configured = []vip.Configured{{IP: e.groups[0].vips()[0], Device: "eth7", Bits: 24}}
	look := func() []api.Configured {
		e.lookAtConfigured()
		drain(e)
		return e.state(e.groups[0], 0).Configured
	}
	want := api.Configured{Address: netip.MustParsePrefix("10.0.0.9/24"), Interface: "eth7"}
	for range 2 {
		if got := look(); len(got) != 1 || got[0] != want {
			t.Errorf("configured are %v", got)
		}
	}
	f.configured = nil
	if got := look(); len(got) != 0 || said("also configured by the system") != 1 || said("no longer configured") != 1 {
		t.Errorf("configured are %v, said %d times, %d times that it is over", got,
			said("also configured by the system"), said("no longer configured"))
	}
}

// The owner of an address may have no other one. It sends from it, and what its
// interface has stays.
func TestSourceOfTheOwner(t *testing.T) {
	ip, local := netip.MustParseAddr, netip.MustParseAddr("fe80::9")
	own := func(ips ...netip.Addr) (list []link.Address) {
		for _, a := range ips {
			list = append(list, link.Address{IP: a, Net: netip.PrefixFrom(a, a.BitLen())})
		}
		return list
	}
	for name, tc := range map[string]struct {
		priority uint8
		vips     []netip.Addr
		st       link.State
		want     netip.Addr
	}{
		"only the address itself": {255, []netip.Addr{ip("10.0.0.9")}, link.State{Own: own(ip("10.0.0.9"))},
			ip("10.0.0.9")},
		"another one": {255, []netip.Addr{ip("10.0.0.9")}, link.State{Addrs: own(ownAddr),
			Own: own(ip("10.0.0.9"))}, ownAddr},
		"no owner": {254, []netip.Addr{ip("10.0.0.9")}, link.State{Own: own(ip("10.0.0.9"))},
			netip.Addr{}},
		"of another router": {255, []netip.Addr{ip("10.0.0.9")}, link.State{Own: own(ip("10.0.0.8"))},
			netip.Addr{}},
		"IPv6 sends link-local": {255, []netip.Addr{local, ip("2001:db8::9")},
			link.State{Own: own(ip("2001:db8::9"), local)}, local},
		"IPv6 without link-local": {255, []netip.Addr{local, ip("2001:db8::9")},
			link.State{Own: own(ip("2001:db8::9"))}, netip.Addr{}},
	} {
		e, _ := testEngine(t, func(c *Config) {
			c.Routers[0].VIPs, c.Routers[0].Machine.Priority = tc.vips,
				tc.priority
		})
		r := e.routers[0]
		if got := r.route(&tc.st); got != tc.want {
			t.Errorf("%s: sends from %v, want %v", name, got, tc.want)
		}
		if a := r.address(tc.vips[0], 3, r.port.mac); a.Owner != (tc.priority == 255) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
