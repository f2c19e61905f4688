package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
)

var (
	ownAddr  = netip.MustParseAddr("10.0.0.2")
	peerAddr = netip.MustParseAddr("10.0.0.1")
	peerMAC  = packet.MAC{2, 0, 0, 0, 0, 1}
)

func config() Config {
	return Config{
		Groups: []carp.GroupConfig{{Name: "g", PrepareTimeout: time.Second}},
		Routers: []Router{{
			Instance: "one", Group: "g", Device: "test0",
			Machine: carp.RouterConfig{ID: 5, Priority: 100, Interval: 250 * time.Millisecond},
			VIPs:    []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		}},
	}
}

// testEngine is an engine without thread and network whose interface is up.
func testEngine(t testing.TB, edit func(*Config)) (*Engine, *fakes) {
	t.Helper()
	cfg := config()
	if edit != nil {
		edit(&cfg)
	}
	f := &fakes{}
	e, err := New(cfg, Deps{Fence: fakeFence{f}, Addresses: fakeAddresses{f}, Announcer: f, NextHops: f, Terms: f,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range e.groups {
		g.machine = carp.NewGroup(g.cfg, 0, e.deps.Terms.Term(g.name))
	}
	for _, r := range e.routers {
		r.port.mac, r.port.Index = packet.MAC{2, 0, 0, 0, 0, 2}, 3
		r.port.known.Addrs = []link.Address{{IP: ownAddr, Net: netip.PrefixFrom(ownAddr, 24).Masked()}}
		r.src, r.up = r.route(&r.port.known), true
		e.step(r.group, 0, carp.Event{Kind: carp.EvUp, Router: r.index, Src: ownAddr})
	}
	return e, f
}

// advert builds a frame of the peer.
func advert(t testing.TB, edit func(*packet.Frame, *packet.VRRP)) []byte {
	t.Helper()
	f := packet.Frame{Dst: packet.GroupMAC(packet.Group4()), Src: peerMAC, SrcIP: peerAddr, DstIP: packet.Group4(),
		TTL: 255, Proto: packet.Protocol}
	v := packet.VRRP{Version: 3, ID: 5, Priority: 200, Interval: 250 * time.Millisecond,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}
	if edit != nil {
		edit(&f, &v)
	}
	body, err := v.Append(nil, f.SrcIP, f.DstIP)
	if err != nil {
		t.Fatal(err)
	}
	if f.Payload == nil {
		f.Payload = body
	}
	b, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReceive(t *testing.T) {
	v2 := func(c *Config) {
		c.Routers[0].Machine.Proto, c.Routers[0].Machine.Interval = carp.VRRP2, time.Second
		c.Routers[0].Auth = "secret"
	}
	unicast := func(c *Config) { c.Routers[0].Peers = []netip.Addr{peerAddr} }
	routed := func(c *Config) { c.Routers[0].Peers, c.Routers[0].Hops = []netip.Addr{peerAddr}, 2 }
	type frame = func(*packet.Frame, *packet.VRRP)
	toUs := func(edit func(*packet.Frame)) frame {
		return func(f *packet.Frame, _ *packet.VRRP) {
			f.Dst, f.DstIP = packet.MAC{2, 0, 0, 0, 0, 2}, ownAddr
			if edit != nil {
				edit(f)
			}
		}
	}
	password := func(p string) frame {
		return func(_ *packet.Frame, v *packet.VRRP) {
			v.Version, v.Interval, v.AuthType = 2, time.Second, packet.VRRP2AuthSimple
			copy(v.Auth[:], p)
		}
	}
	for _, tc := range []struct {
		name  string
		cfg   func(*Config)
		frame frame
		taken bool
	}{
		{"good", nil, nil, true},
		{"checksum of the message alone", nil, func(_ *packet.Frame,
			v *packet.VRRP) {
			v.Checksum = packet.ChecksumMessage
		}, true},
		{"other addresses are no reason to refuse", nil,
			func(_ *packet.Frame, v *packet.VRRP) { v.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.8")} }, true},
		{"other id", nil, func(_ *packet.Frame, v *packet.VRRP) { v.ID = 6 }, false},
		{"from beyond a router", nil, func(f *packet.Frame, _ *packet.VRRP) { f.TTL = 254 }, false},
		{"our own address", nil, func(f *packet.Frame, _ *packet.VRRP) { f.SrcIP = ownAddr }, false},
		{"our own frame", nil, func(f *packet.Frame, _ *packet.VRRP) {
			f.Src, f.SrcIP = packet.MAC{2, 0, 0, 0, 0, 2},
				ownAddr
		}, false},
		{"our MAC on another machine", nil, func(f *packet.Frame, _ *packet.VRRP) {
			f.Src = packet.MAC{2, 0, 0, 0, 0,
				2}
		}, true},
		{"other group", nil, func(f *packet.Frame, _ *packet.VRRP) { f.DstIP = netip.MustParseAddr("224.0.0.5") },
			false},
		{"unicast to a multicast instance", nil, toUs(nil), false},
		{"version 2", nil, password(""), false},
		{"CARP", nil, func(f *packet.Frame, _ *packet.VRRP) {
			f.Payload = (&packet.CARP{ID: 5,
				AdvBase: 1}).Append(nil)
		}, false},
		{"garbage", nil, func(f *packet.Frame, _ *packet.VRRP) {
			f.Payload = []byte{0x31, 5, 1, 1, 0, 1, 0, 0, 1, 2, 3,
				4}
		}, false},
		{"unicast", unicast, toUs(nil), true},
		{"unicast from beyond a router", unicast, toUs(func(f *packet.Frame) { f.TTL = 254 }), false},
		{"unicast from beyond routers that are allowed", routed, toUs(func(f *packet.Frame) { f.TTL = 253 }), true},
		{"unicast from beyond more routers than are allowed", routed, toUs(func(f *packet.Frame) { f.TTL = 252 }),
			false},
		{"unicast of a stranger", unicast, toUs(func(f *packet.Frame) { f.SrcIP = netip.MustParseAddr("10.0.0.7") }),
			false},
		{"unicast under the MAC of another machine", unicast, toUs(func(f *packet.Frame) { f.Dst = peerMAC }), false},
		{"unicast under the broadcast MAC", unicast, toUs(func(f *packet.Frame) { f.Dst = packet.Broadcast() }), false},
		{"unicast that is routed through us", unicast,
			toUs(func(f *packet.Frame) { f.DstIP = netip.MustParseAddr("10.0.1.2") }), false},
		{"multicast to a unicast instance", unicast, nil, false},
		{"multicast under the MAC of another group", nil, func(f *packet.Frame, _ *packet.VRRP) { f.Dst[5]++ }, false},
		{"multicast under our MAC", nil, func(f *packet.Frame, _ *packet.VRRP) { f.Dst = packet.MAC{2, 0, 0, 0, 0, 2} },
			false},
		{"password", v2, password("secret"), true},
		{"wrong password", v2, password("secreT"), false},
		{"no password", v2, func(_ *packet.Frame, v *packet.VRRP) { v.Version, v.Interval = 2, time.Second }, false},
		{"other interval of version 2", v2, func(f *packet.Frame, v *packet.VRRP) {
			password("secret")(f, v)
			v.Interval = 2 * time.Second
		}, false},
		{"version 3 to version 2", v2, nil, false},
	} {
		e, _ := testEngine(t, tc.cfg)
		r := e.routers[0]
		e.packet(r.port, time.Second, advert(t, tc.frame))
		heard := r.group.machine.Snapshot(time.Second).Routers[0].Master.IsValid()
		if heard != tc.taken || (r.rx.Load() == 1) != tc.taken {
			t.Errorf("%s: heard %v, counted %d; want %v", tc.name, heard, r.rx.Load(), tc.taken)
		}
	}
}

func TestReceiveLearnsChecksum(t *testing.T) {
	message := func(_ *packet.Frame, v *packet.VRRP) { v.Checksum = packet.ChecksumMessage }
	for _, tc := range []struct {
		set  Checksum
		want packet.Checksum
	}{{ChecksumAuto, packet.ChecksumMessage}, {ChecksumPseudo, packet.ChecksumPseudo}} {
		e, _ := testEngine(t, func(c *Config) { c.Routers[0].Checksum = tc.set })
		e.packet(e.routers[0].port, time.Second, advert(t, message))
		if got := e.routers[0].checksum; got != tc.want {
			t.Errorf("setting %d: sends %v, want %v", tc.set, got, tc.want)
		}
	}
}

func TestReceiveDoesNotAllocate(t *testing.T) {
	e, _ := testEngine(t, nil)
	b := advert(t, nil)
	p := e.routers[0].port
	now := time.Second
	if n := testing.AllocsPerRun(200, func() {
		now += 250 * time.Millisecond
		e.packet(p, now, b)
		e.step(e.groups[0], now, carp.Event{Kind: carp.EvTick})
	}); n != 0 {
		t.Errorf("%v allocations per advertisement", n)
	}
}

func BenchmarkReceive(b *testing.B) {
	e, _ := testEngine(b, nil)
	frame := advert(b, nil)
	p := e.routers[0].port
	b.ReportAllocs()
	now := time.Second
	for b.Loop() {
		now += time.Millisecond
		e.packet(p, now, frame)
	}
}

// The order in which addresses and fence change is what keeps a node silent.
func TestWorkerOrder(t *testing.T) {
	e, f := testEngine(t, nil)
	g := e.groups[0]
	run := func(k carp.ActionKind) string {
		f.log = nil
		e.order(g, carp.Action{Kind: k, Op: 1})
		for _, w := range e.queues.work.take() {
			e.runTask(w)
		}
		return strings.Join(f.log, ", ")
	}
	for k, want := range map[carp.ActionKind]string{
		carp.ActFence:    "fence",
		carp.ActAcquire:  "acquire, unfence, announce, own",
		carp.ActRelease:  "fence, release, purge",
		carp.ActRenew:    "renew fence, renew addresses",
		carp.ActAnnounce: "announce",
	} {
		if got := run(k); got != want {
			t.Errorf("%s: %s; want %s", operation(k), got, want)
		}
	}
	// Whatever happens to the fence, the addresses go.
	f.fail = errors.New("no")
	if got := run(carp.ActRelease); got != "fence, release, purge" {
		t.Errorf("with a failing fence: %s", got)
	}
	if got := run(carp.ActAcquire); got != "acquire, unfence" {
		t.Errorf("with a failing fence: %s", got)
	}
}

func TestRenewalsDoNotPileUp(t *testing.T) {
	e, _ := testEngine(t, nil)
	for range 5 {
		e.order(e.groups[0], carp.Action{Kind: carp.ActRenew})
	}
	if n := len(e.queues.work.take()); n != 1 {
		t.Errorf("%d renewals wait", n)
	}
}

func TestConfigCheck(t *testing.T) {
	for want, edit := range map[string]func(*Config){
		"no group x":              func(c *Config) { c.Routers[0].Group = "x" },
		"no address":              func(c *Config) { c.Routers[0].VIPs = nil },
		"is that of instance one": func(c *Config) { c.Routers = append(c.Routers, c.Routers[0]) },
	} {
		cfg := config()
		edit(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestSilenceComesFirst(t *testing.T) {
	cfg := config()
	f := &fakes{fail: errors.New("no netlink")}
	e, err := New(cfg, Deps{Fence: fakeFence{f}, Addresses: fakeAddresses{f}, Announcer: f, NextHops: f, Terms: f,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background()); err == nil || !strings.Contains(err.Error(),
		"fence addresses before start") {
		t.Errorf("ran without a fence: %v", err)
	}
	if len(f.log) != 1 {
		t.Errorf("did %q", f.log)
	}
}

func TestPasswordDoesNotPrint(t *testing.T) {
	r := config().Routers[0]
	r.Auth = "sekret12"
	for _, s := range []string{r.Auth.String(), strings.ToLower(slog.AnyValue(r).String())} {
		if strings.Contains(s, "sekret") {
			t.Errorf("printed: %s", s)
		}
	}
}

// TestReloadWhileTheWorkerWorks shows the race detector what the two threads share.
func TestReloadWhileTheWorkerWorks(t *testing.T) {
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; {
			for _, task := range e.queues.work.take() {
				e.runTask(task)
				n++
			}
			select {
			case <-stop:
				done <- n
				return
			case <-e.queues.work.wake:
			}
		}
	}()
	for i := range 50 {
		cfg := config()
		cfg.Routers[0].Machine.Priority = uint8(100 + i)
		next, err := New(cfg, e.deps)
		if err != nil {
			t.Fatal(err)
		}
		e.order(g, carp.Action{Kind: carp.ActRenew})
		if err := e.change(time.Second, next); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if n := <-done; n == 0 {
		t.Error("the worker had nothing to do")
	}
}
