package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/link"
	"sasyncd/carp/vip"
)

// named notes the addresses too.
type named struct{ *fakes }

func ips(as []vip.Address) (out []netip.Addr) {
	for _, a := range as {
		out = append(out, a.IP)
	}
	return out
}

func (f named) Set(a ...netip.Addr) error               { f.note(fmt.Sprint("fence ", a)); return f.fail }
func (f named) Clear(_ int, a ...netip.Addr) error      { f.note(fmt.Sprint("unfence ", a)); return nil }
func (f named) Forget(a ...netip.Addr) error            { f.note(fmt.Sprint("forget ", a)); return nil }
func (f named) Closed(...netip.Addr) (bool, error)      { return false, nil }
func (f named) Mend(...netip.Addr) (FenceMended, error) { return FenceMended{}, nil }
func (f named) Renew(time.Duration) error               { return nil }

type namedAddresses struct{ fakeAddresses }

func (f namedAddresses) Release(as []vip.Address) error {
	f.note(fmt.Sprint("release ", ips(as)))
	return nil
}
func (f namedAddresses) Acquire(as []vip.Address, _ time.Duration) ([]netip.Addr, error) {
	f.note(fmt.Sprint("acquire ", ips(as)))
	return nil, nil
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// reloadAt is when, before anything else is due.
const reloadAt = 100 * time.Millisecond

// reloaded gives an engine another configuration, and returns what the worker does.
func reloaded(t *testing.T, e *Engine, f *fakes, edit func(*Config)) ([]string, error) {
	t.Helper()
	cfg := config()
	edit(&cfg)
	next, err := New(cfg, e.deps)
	if err != nil {
		t.Fatal(err)
	}
	f.log = nil
	err = e.change(reloadAt, next)
	for _, w := range e.queues.work.take() {
		e.runTask(w)
	}
	return f.log, err
}

// TestReloadOfAddresses: those that stay are not touched; of others what comes is fenced
// before a MASTER takes it, and what goes is silent before it goes.
func TestReloadOfAddresses(t *testing.T) {
	for _, master := range []bool{false, true} {
		two := func(c *Config) { c.Routers[0].VIPs = addrs("10.0.0.9", "10.0.0.8") }
		e, f := testEngine(t, two)
		if master {
			e, f = adoptedMaster(t, two)
		}
		e.deps.Fence, e.deps.Addresses = named{f}, namedAddresses{fakeAddresses{f}}
		state := e.groups[0].machine.Snapshot(reloadAt).State
		got, err := reloaded(t, e, f, func(c *Config) { c.Routers[0].VIPs = addrs("10.0.0.9", "10.0.0.7") })
		want := []string{"fence [10.0.0.7]", "fence [10.0.0.8]", "release [10.0.0.8]", "forget [10.0.0.8]"}
		if master {
			want = append(want, "acquire [10.0.0.7]", "unfence [10.0.0.7]", "announce", "own")
		}
		if err != nil || strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("master %v: %q, %v, want %q", master, got, err, want)
		}
		if s := e.groups[0].machine.Snapshot(reloadAt).State; s != state {
			t.Errorf("state %v, was %v", s, state)
		}
		if v := *e.vips.Load(); !v[netip.MustParseAddr("10.0.0.7")] || v[netip.MustParseAddr("10.0.0.8")] || len(v) != 2 {
			t.Errorf("virtual are %v", v)
		}
		got, err = reloaded(t, e, f, func(c *Config) {
			c.Routers[0].VIPs, c.Routers[0].Machine.Priority = addrs("10.0.0.9", "10.0.0.7"), 120
		})
		if err != nil || len(got) > 0 || e.routers[0].Machine.Priority != 120 {
			t.Errorf("another priority: %q, %v", got, err)
		}
	}
}

// TestReloadRefusesWhatIsFixed, names each, and changes nothing then.
func TestReloadRefusesWhatIsFixed(t *testing.T) {
	second := Router{Instance: "two", Group: "g", Device: "test0", Machine: carp.RouterConfig{ID: 6, Priority: 100,
		Interval: time.Second}, VIPs: addrs("10.0.0.7")}
	const other = "instance one has another interface, group, protocol, id or mac"
	for _, tt := range []struct {
		want string
		edit func(*Config)
	}{
		{"group h is new", func(c *Config) { c.Groups = append(c.Groups, carp.GroupConfig{Name: "h"}) }},
		{"group g is not there any more", func(c *Config) { c.Groups[0].Name, c.Routers[0].Group = "h", "h" }},
		{"instance one has no IPv4 addresses any more", func(c *Config) { c.Routers[0].VIPs = addrs("fe80::9") }},
		{"instance one has new IPv6 addresses", func(c *Config) { c.Routers[0].VIPs = addrs("fe80::9") }},
		{"instance two has new IPv4 addresses", func(c *Config) { c.Routers = append(c.Routers, second) }},
		{other, func(c *Config) { c.Routers[0].Device = "test1" }},
		{other, func(c *Config) { c.Routers[0].Machine.ID = 6 }},
		{other, func(c *Config) { c.Routers[0].Machine.Proto = carp.VRRP2 }},
		{other, func(c *Config) { c.Routers[0].Virtual = true }},
		{"instance one changes between multicast and unicast", func(c *Config) { c.Routers[0].Peers = addrs("10.0.0.1") }},
		{"restart carpd for that", func(c *Config) { c.Routers[0].Device = "x" }},
	} {
		e, f := testEngine(t, nil)
		did, err := reloaded(t, e, f, func(c *Config) {
			c.Routers[0].Machine.Priority = 150
			tt.edit(c)
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
		if len(did) > 0 || e.routers[0].Machine.Priority != 100 {
			t.Errorf("%s: did %q", tt.want, did)
		}
	}
	e, f := testEngine(t, func(c *Config) { c.Routers[0].Peers = addrs("10.0.0.1") })
	if _, err := reloaded(t, e, f, func(*Config) {}); err == nil || !strings.Contains(err.Error(), "and unicast") {
		t.Errorf("unicast to multicast: %v", err)
	}
}

// TestReloadOfMembers: who is spoken to, and from which address.
func TestReloadOfMembers(t *testing.T) {
	e, f := testEngine(t, func(c *Config) { c.Routers[0].Peers = addrs("10.0.0.1") })
	r := e.routers[0]
	other := netip.MustParseAddr("10.7.0.2")
	r.port.known.Addrs = append(r.port.known.Addrs, link.Address{IP: other, Net: netip.PrefixFrom(other, 24).Masked()})
	if _, err := reloaded(t, e, f, func(c *Config) { c.Routers[0].Peers = addrs("10.7.0.1", "10.0.0.1") }); err != nil {
		t.Fatal(err)
	}
	if len(r.paths) != 2 || r.paths[0].Peer != netip.MustParseAddr("10.7.0.1") || r.paths[0].Src != other ||
		r.paths[1].Src != ownAddr || r.src != other {
		t.Errorf("paths %+v, from %v", r.paths, r.src)
	}
	if m := (*e.unicast.Load())["test0"]; len(m) != 2 {
		t.Errorf("members %v", m)
	}
	if !e.again.Load() {
		t.Error("the interfaces are not looked at")
	}
}

// takesCalls lets others call an engine that a test turns.
func takesCalls(t *testing.T, e *Engine) {
	t.Helper()
	poll, err := link.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	e.setPoller(poll)
	t.Cleanup(poll.Close)
}

// TestReloadByAClient: it is answered, with what is wrong.
func TestReloadByAClient(t *testing.T) {
	e, _ := testEngine(t, nil)
	takesCalls(t, e)
	root := api.Peer{ID: 1, Trusted: true}
	if got := replies(e, root, api.Request{ID: 3, Verb: api.VerbReload}); len(got) != 1 ||
		!strings.Contains(got[0].Error, "no configuration file") {
		t.Errorf("without a file: %+v", got)
	}
	cfg := config()
	cfg.Routers[0].Machine.Priority = 150
	bad := errors.New("line 7")
	for i, tt := range []struct {
		cfg  Config
		err  error
		want string
	}{{cfg, nil, ""}, {cfg, bad, bad.Error()}, {Config{}, nil, "group g is not there any more"}} {
		e.OnReload(func() (Config, error) { return tt.cfg, tt.err })
		if err := e.serve(time.Second, root, api.Request{ID: uint64(i + 4), Verb: api.VerbReload}); err != nil {
			t.Fatal(err)
		}
		var got *api.Message
		for began := time.Now(); got == nil; time.Sleep(time.Millisecond) {
			e.runCalls(time.Second)
			for _, o := range e.queues.out.take() {
				if o.to == root.ID && o.message.Event == "" {
					got = &o.message
				}
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("reload %d is not answered", i)
			}
		}
		if got.ID != uint64(i+4) || !strings.Contains(got.Error, tt.want) || (got.Error == "") != (tt.want == "") {
			t.Errorf("reload %d: %+v", i, got)
		}
	}
	if e.routers[0].Machine.Priority != 150 {
		t.Errorf("priority %d", e.routers[0].Machine.Priority)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Reload(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("an engine that does not turn: %v", err)
	}
}

// TestTracks: what carpd itself tracks demotes its group until it is withdrawn, whatever
// people take back.
func TestTracks(t *testing.T) {
	e, _ := testEngine(t, nil)
	takesCalls(t, e)
	demotion := func() int { e.runCalls(time.Second); return e.groups[0].machine.Snapshot(time.Second).Demotion }
	e.Track("g", "track:link:a", 7, "no carrier")
	e.Track("g", "track:link:b", 2, "no carrier")
	e.Track("elsewhere", "track:link:a", 100, "no carrier")
	if got := demotion(); got != 9 {
		t.Errorf("demoted by %d, want 9", got)
	}
	root := api.Peer{ID: 1, Trusted: true}
	replies(e, root, api.Request{Verb: api.VerbUndemote, Group: "g"})
	e.Gone(root)
	if got := demotion(); got != 9 {
		t.Errorf("after people took theirs back: %d, want 9", got)
	}
	e.Track("g", "track:link:a", 0, "")
	if got := demotion(); got != 2 {
		t.Errorf("one is well again: %d, want 2", got)
	}
	d := e.groups[0].machine.Snapshot(time.Second).Demotions
	if len(d) != 1 || d[0].ID != "track:link:b" || d[0].Reason != "no carrier" {
		t.Errorf("demotions %+v", d)
	}
}

// TestWitnessOfAGroup: what is known of it decides whether the group may be MASTER.
func TestWitnessOfAGroup(t *testing.T) {
	e, _ := testEngine(t, func(c *Config) { c.Groups[0].Witness = true })
	takesCalls(t, e)
	blocked := func() string { e.runCalls(time.Second); return e.groups[0].machine.Snapshot(time.Second).Blocked }
	if got := blocked(); got == "" {
		t.Error("without a word of the witness nothing is in the way")
	}
	e.Witness("elsewhere", true, time.Second)
	if got := blocked(); got == "" {
		t.Error("another group's witness counts")
	}
	e.Witness("g", true, time.Second)
	if got := blocked(); got != "" {
		t.Errorf("blocked by %q", got)
	}
	e.Witness("g", false, 0)
	if got := blocked(); got == "" {
		t.Error("that it is gone changes nothing")
	}
}

// TestDemotionsOfClients end with the client, unless it says otherwise, or with their time.
func TestDemotionsOfClients(t *testing.T) {
	e, _ := testEngine(t, nil)
	takesCalls(t, e)
	sum := func(at time.Duration) int {
		e.runCalls(at)
		e.step(e.groups[0], at, carp.Event{Kind: carp.EvTick})
		return e.groups[0].machine.Snapshot(at).Demotion
	}
	demote := func(p api.Peer, d api.Demotion) {
		t.Helper()
		got := replies(e, p, api.Request{Verb: api.VerbDemote, Group: "g", Demotion: &d})
		if len(got) != 1 || got[0].Error != "" {
			t.Errorf("%+v", got)
		}
	}
	one, two := api.Peer{ID: 1, Trusted: true, UID: 5}, api.Peer{ID: 2, Trusted: true}
	replies(e, two, api.Request{Verb: api.VerbHello, Name: "tool"})
	demote(one, api.Demotion{By: 1})
	demote(one, api.Demotion{ID: "mine", By: 2, Hold: api.HoldPersistent})
	demote(two, api.Demotion{By: 4})
	demote(two, api.Demotion{ID: "brief", By: 8, Hold: api.HoldPersistent, TTLMS: 3000})
	ids := make(map[string]bool)
	for _, d := range e.groups[0].machine.Snapshot(time.Second).Demotions {
		ids[d.ID] = true
	}
	if got := sum(time.Second); got != 15 || !ids["uid 5"] || !ids["mine"] || !ids["tool"] || !ids["brief"] {
		t.Errorf("demoted by %d, %v", got, ids)
	}
	if got := sum(3999 * time.Millisecond); got != 15 {
		t.Errorf("before the end of the brief one: %d", got)
	}
	if got := sum(4 * time.Second); got != 7 {
		t.Errorf("behind the end of the brief one: %d", got)
	}
	if e.Gone(one); sum(4*time.Second) != 6 {
		t.Errorf("one has gone: %d", sum(4*time.Second))
	}
	if e.Gone(two); sum(4*time.Second) != 2 {
		t.Errorf("both have gone: %d", sum(4*time.Second))
	}
}
