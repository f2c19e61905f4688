package election

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

// vrrpFrame builds an advertisement of the router inside, in the name of gw2, and
// lets a test change what it likes.
func (p *pair) vrrpFrame(priority uint8, edit func(f *packet.Frame)) []byte {
	p.t.Helper()
	f := packet.Frame{
		Dst: packet.GroupMAC(packet.Group4()), Src: packet.MAC{2, 0, 0, 0, 0, 9},
		SrcIP: addr("10.1.0.12"), DstIP: packet.Group4(), TTL: 255, Proto: packet.Protocol,
	}
	if edit != nil {
		edit(&f)
	}
	v := packet.VRRP{Version: 3, ID: 10, Priority: priority, Interval: time.Second, Addrs: []netip.Addr{vipIn}}
	body, err := v.Append(nil, f.SrcIP, f.DstIP)
	if err != nil {
		p.t.Fatal(err)
	}
	if f.Payload == nil {
		f.Payload = body
	}
	b, err := f.Append(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// doctor is what carpctl doctor says, whatever lines it is broken into.
func (g *gateway) doctor() string {
	g.t.Helper()
	out, _ := g.ctl("doctor")
	return strings.Join(strings.Fields(out), " ")
}

// tagged puts a VLAN tag into a frame.
func tagged(b []byte, vid byte) []byte {
	return append(append(append([]byte(nil), b[:12]...), 0x81, 0x00, 0xe0, vid), b[12:]...)
}

// Only what is for this interface and this way of speaking is heard, and what is
// addressed to us and not taken is told with its sender.
func TestForeignFrames(t *testing.T) {
	t.Parallel()
	const head = "vrrp inside { carpdev in0; vrid 10; priority 100; address 10.1.0.1/32; "
	const unicast = head + "unicast { 10.1.0.12 }; group gate }"
	const group = head + "group gate }"
	const routed = head + "unicast { 10.1.0.12 }; hops 2; group gate }"
	also := func(fs ...func(f *packet.Frame)) func(f *packet.Frame) {
		return func(f *packet.Frame) {
			for _, one := range fs {
				one(f)
			}
		}
	}
	from := func(s string) func(f *packet.Frame) { return func(f *packet.Frame) { f.SrcIP = addr(s) } }
	hops := func(n uint8) func(f *packet.Frame) { return func(f *packet.Frame) { f.TTL = n } }
	for _, tc := range []struct {
		name, instance string
		toUs           bool // unicast to gw1
		edit           func(f *packet.Frame)
		vlan           int // -1: no tag
		taken          bool
		kind           string // of the refusal, "" none
	}{
		{name: "multicast", instance: group, vlan: -1, taken: true},
		{name: "of another VLAN", instance: group, vlan: 5},
		{name: "with a priority tag", instance: group, vlan: 0, taken: true},
		{name: "under the MAC of another group", instance: group, vlan: -1,
			edit: func(f *packet.Frame) { f.Dst = packet.MAC{1, 0, 0x5e, 0, 0, 5} }, kind: "cast"},
		{name: "unicast to an instance that multicasts", instance: group, toUs: true, vlan: -1, kind: "cast"},
		{name: "unicast", instance: unicast, toUs: true, vlan: -1, taken: true},
		{name: "unicast of another VLAN", instance: unicast, toUs: true, vlan: 5},
		{name: "unicast with a priority tag", instance: unicast, toUs: true, vlan: 0, taken: true},
		{name: "unicast from beyond a router", instance: unicast, toUs: true, edit: hops(254), vlan: -1, kind: "ttl"},
		{name: "unicast from who is no member", instance: unicast, toUs: true, vlan: -1,
			edit: from("10.1.0.77"), kind: "peer"},
		{name: "unicast under the broadcast MAC", instance: unicast, toUs: true, vlan: -1,
			edit: func(f *packet.Frame) { f.Dst = packet.Broadcast() }, kind: "cast"},
		{name: "unicast to another machine", instance: unicast, toUs: true, vlan: -1,
			edit: func(f *packet.Frame) { f.Dst[5] ^= 1; f.DstIP = addr("10.1.0.99") }},
		{name: "multicast to an instance that unicasts", instance: unicast, vlan: -1, kind: "cast"},
		{name: "from beyond routers, allowed", instance: routed, toUs: true, edit: hops(253), vlan: -1, taken: true},
		{name: "from beyond too many routers", instance: routed, toUs: true, edit: hops(252), vlan: -1, kind: "ttl"},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = func(*gateway) string { return tc.instance }
			a := p.gws[0]
			p.start(a)
			a.await(api.StateMaster, patience)
			toUs := func(f *packet.Frame) { f.Dst, f.DstIP = packet.MAC([]byte(a.in.MAC)), addr("10.1.0.11") }
			edit := tc.edit
			if tc.toUs {
				edit = toUs
				if tc.edit != nil {
					edit = also(toUs, tc.edit)
				}
			}
			b := p.vrrpFrame(1, edit)
			if tc.vlan >= 0 {
				b = tagged(b, byte(tc.vlan))
			}
			// CARP with our number is refused, whatever the instance is, and
			// counted: then what came before it has been judged.
			end := p.vrrpFrame(1, func(f *packet.Frame) {
				if strings.Contains(tc.instance, "unicast") {
					toUs(f)
				}
				f.Payload = (&packet.CARP{ID: 10, AdvBase: 1}).Append(nil)
			})
			p.replay([][]byte{b, end})
			router := func() api.RouterState { return a.state().Instances[0].Routers[0] }
			refused := func(kind string) (n uint64) {
				for _, x := range router().Refusals {
					if x.Kind == kind {
						n += x.Count
					}
				}
				return n
			}
			lab.Eventually(t, patience, "the frames are judged", func() bool { return refused("protocol") > 0 })
			if got := router().Received == 1; got != tc.taken {
				t.Errorf("taken: %v, want %v", got, tc.taken)
			}
			for _, kind := range []string{"cast", "peer", "ttl"} {
				if got := refused(kind) == 1; got != (kind == tc.kind) {
					t.Errorf("refused for %s: %v, want %v", kind, got, kind == tc.kind)
				}
			}
			if tc.kind != "" {
				a.awaitLog("advertisement refused", 2)
				out := a.doctor()
				if !strings.Contains(out, "are refused") || !strings.Contains(out, "from 10.1.0.") {
					t.Errorf("doctor does not tell:\n%s", out)
				}
			}
		})
	}
}

// An interface with other addresses than the one that unicast of the peer names
// still speaks from that one, from the start and when others come.
func TestUnicastSource(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ vip, member, other, late string }{
		"IPv4": {"10.1.0.1", "10.1.0.1%d", "172.16.9.1%d/24", "10.0.0.1%d/8"},
		"IPv6": {"fd00:1::1", "fd00:1::1%d", "fd00:9::1%d/64", "fd00:1:0:5::1%d/64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = func(g *gateway) string {
				one := func(name string, vrid int, vip, member string) string {
					return fmt.Sprintf("vrrp %s { carpdev in0; vrid %d; priority %d; address %s; unicast { %s }; "+
						"group gate }\n",
						name, vrid, g.priority, vip, member)
				}
				return one("inside", 10, tc.vip, fmt.Sprintf(tc.member, 3-g.n)) +
					one("other", 11, strings.TrimSuffix(tc.vip, "1")+"2", prefixAddr(tc.other, 3-g.n))
			}
			a, b := p.gws[0], p.gws[1]
			for _, g := range p.gws {
				// The kernel lists the first address of IPv4 and the latest of IPv6 first.
				g.IP("addr flush dev in0 scope global", "addr add "+fmt.Sprintf(tc.other, g.n)+" dev in0 nodad",
					"addr add "+fmt.Sprintf(tc.member, g.n)+map[string]string{"IPv4": "/24", "IPv6": "/64"}[name]+
						" dev in0 nodad")
			}
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			lab.Eventually(t, patience, "the backup hears both routers", func() bool {
				s := b.state()
				return s.Instances[0].Routers[0].Received > 0 && s.Instances[1].Routers[0].Received > 0
			})
			b.awaitFor(takeover)
			since := b.state()
			if since.State != api.StateBackup {
				t.Fatal("two masters from the start")
			}
			a.IP("addr add " + fmt.Sprintf(tc.late, a.n) + " dev in0 nodad")
			settle(t, 2*takeover)
			b.same(t, since)
			for _, in := range b.state().Instances {
				if r := in.Routers[0]; r.Dropped != 0 {
					t.Errorf("%s: %d advertisements were dropped: %+v", in.Name, r.Dropped, r.Refusals)
				}
			}
			a.d.Kill()
			b.await(api.StateMaster, 2*takeover)
		})
	}
}

func prefixAddr(format string, n int) string {
	a, _, _ := strings.Cut(fmt.Sprintf(format, n), "/")
	return a
}

// A flood of harmless advertisements neither cuts off a client that reads late
// nor fills the log, and moves nothing.
func TestFlood(t *testing.T) {
	p := newPair(t)
	p.instances = func(g *gateway) string {
		return "vrrp inside { carpdev in0; vrid 10; interval 1s; address 10.1.0.1/32; group gate }"
	}
	a := p.gws[0]
	p.start(a)
	a.await(api.StateMaster, patience)
	c, err := api.Dial(t.Context(), a.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, r := range []api.Request{{Verb: api.VerbHello, Name: "sasyncd", Prepare: true}, {Verb: api.VerbSubscribe}} {
		if _, err := c.Call(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() int { // but those of each kernel operation, which only -v -v writes
		out := a.d.Output()
		return strings.Count(out, "\n") - strings.Count(out, "kernel operation")
	}
	since, before := a.state(), lines()
	var frames [][]byte
	for n := range 250 {
		b := p.vrrpFrame(1, func(f *packet.Frame) { f.SrcIP = netip.AddrFrom4([4]byte{10, 1, 1, byte(n % 2)}) })
		frames = append(frames, b, p.vrrpFrame(1, func(f *packet.Frame) {
			f.SrcIP, f.TTL = netip.AddrFrom4([4]byte{10, 1, 2, byte(n)}), 7
		}))
	}
	began := time.Now()
	router := func() api.RouterState { return a.state().Instances[0].Routers[0] }
	var heard, refused uint64
	// 60,000 at the most, and not for so long that a master gives way to one that
	// does not hear it, which takes three down intervals.
	for n := 0; n < 120 && (time.Since(began) < time.Second || heard < 5000 || refused < 5000); n++ {
		p.replay(frames)
		heard, refused = router().Received, router().Dropped
	}
	if heard < 5000 || refused < 5000 {
		t.Fatalf("%d advertisements were heard and %d refused, which is no flood", heard, refused)
	}
	took := time.Since(began)
	t.Logf("%d heard and %d refused in %v", heard, refused, took)
	a.same(t, since)
	if sent, limit := router().Sent-since.Instances[0].Routers[0].Sent, uint64(20+11*took.Seconds()); sent > limit {
		t.Errorf("the flood was answered %d times", sent)
	}
	// Four senders of each kind a minute, and a little for what else happens.
	if n := lines() - before; n > 20 {
		t.Errorf("%d lines of log", n)
	}
	events := 0
	for done := false; !done; {
		select {
		case m, ok := <-c.Events():
			if !ok {
				t.Fatalf("the client was cut off after %d events", events)
			}
			events++
			_ = m
		case <-time.After(500 * time.Millisecond):
			done = true
		}
	}
	if _, err := c.Call(t.Context(), api.Request{Verb: api.VerbStatus}); err != nil {
		t.Errorf("the client was cut off after %d events: %v", events, err)
	}
	if limit := 20 + 2*int(took.Seconds()); events > limit {
		t.Errorf("%d events in %v", events, took)
	}
}

// Machines with one MAC, as clones of a virtual machine are, elect all the same
// and say what is wrong. With one address too there is no way to tell them apart,
// and that is said.
func TestClones(t *testing.T) {
	t.Parallel()
	for _, sameAddress := range []bool{false, true} {
		t.Run(fmt.Sprintf("same address %v", sameAddress), func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances = func(g *gateway) string {
				return fmt.Sprintf("vrrp inside { carpdev in0; vrid 10; priority %d; address 10.1.0.1/32; group gate }",
					g.priority)
			}
			a, b := p.gws[0], p.gws[1]
			b.IP("link set in0 down", "link set in0 address "+a.in.MAC.String(), "link set in0 up")
			if sameAddress {
				b.IP("addr del 10.1.0.12/24 dev in0", "addr add 10.1.0.11/24 dev in0")
			}
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("MAC address", 1)
			if out := b.doctor(); !strings.Contains(out, "PROBLEM") || !strings.Contains(out, "MAC address") {
				t.Errorf("doctor:\n%s", out)
			}
			if sameAddress {
				return
			}
			b.awaitFor(takeover)
			if b.state().State != api.StateBackup || a.state().State != api.StateMaster {
				t.Error("two masters")
			}
		})
	}
}

// Unicast without a key is worth a warning, and no error.
func TestUnicastWithoutKey(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for key, want := range map[string]bool{"": true, signKey: false} {
		p.instances = func(*gateway) string {
			return "vrrp inside { carpdev in0; vrid 10; address 10.1.0.1/32; unicast { 10.1.0.12 }; group gate; " +
				key + " }"
		}
		out, err := exec.Command(program(t, "carpd"), "-n", "-c", p.config(p.gws[0])).CombinedOutput()
		if err != nil || strings.Contains(string(out), "has no key") != want {
			t.Errorf("with key %q: %v\n%s", key, err, out)
		}
	}
}
