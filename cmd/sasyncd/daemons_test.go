package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
)

// The tables of SAs need ESP, which not every kernel has: tests/replication has them. Here
// are whole daemons with policies, on the machine's kernel.

const syncPort = 5500

var gatewayVIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// gateway is a machine with a sasyncd.
type gateway struct {
	*lab.Node
	t    *testing.T
	name string // by which the other one knows it
	conf string
	gate *gate
	d    *lab.Daemon
	k    *xfrm.Kernel
}

// newGateways makes two machines that reach each other, without daemons. The first is the
// MASTER by their carpds.
func newGateways(t *testing.T) [2]*gateway {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces and policies")
	}
	t.Parallel()
	n := lab.New(t)
	link, out := n.Switch("sync"), n.Switch("out")
	var gws [2]*gateway
	for i := range gws {
		g := &gateway{Node: n.Node(fmt.Sprintf("gw%d", i+1)), t: t, name: fmt.Sprintf("10.9.0.%d", i+1)}
		g.Plug(link, "sync0", g.name+"/24")
		g.Plug(out, "out0", fmt.Sprintf("192.0.2.1%d/24", i+1), fmt.Sprintf("2001:db8::1%d/64", i+1))
		role := api.StateMaster
		if i > 0 {
			role = api.StateBackup
		}
		g.gate = newGate(t, g.Dir(), role, 1, gatewayVIPs...)
		g.conf = g.WriteFile("sasyncd.conf", g.settings(fmt.Sprintf("10.9.0.%d", 2-i), ""))
		g.in(func() (err error) {
			g.k, err = xfrm.New(xfrm.Options{})
			return err
		})
		t.Cleanup(func() { _ = g.k.Close() })
		gws[i] = g
	}
	return gws
}

const firstKey = "sharedkey 0x000102030405060708090a0b0c0d0e0f1011121314151617\n"

func (g *gateway) settings(peer, more string) string {
	return fmt.Sprintf(`interface carp1
peer %s port %d
listen on %s port %d
%scontrol none
guard no
carpd socket %q
socket %q
statedir %q
metrics listen on 127.0.0.1 port 9750
`, peer, syncPort, g.name, syncPort, firstKey, g.gate.path, g.socket(), g.Dir()) + more
}

func (g *gateway) socket() string { return filepath.Join(g.Dir(), "sasyncd.sock") }

func (g *gateway) start() { g.d = g.Self("sasyncd", "-d", "-c", g.conf) }

// in calls f inside the machine.
func (g *gateway) in(f func() error) {
	g.t.Helper()
	if err := g.Do(f); err != nil {
		g.t.Fatalf("%s: %v", g.Node.Name, err)
	}
}

// ask calls a verb whose answer is one line.
func (g *gateway) ask(verb string, args, v any) error {
	g.t.Helper()
	c, err := daemon.DialControl(g.t.Context(), g.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Get(g.t.Context(), verb, args, v)
}

// lastLine calls a verb that tells its progress, and returns its result.
func lastLine[T any](g *gateway, verb string, args any) (out T, err error) {
	c, err := daemon.DialControl(g.t.Context(), g.socket())
	if err != nil {
		return out, err
	}
	defer c.Close()
	found := false
	err = c.Call(g.t.Context(), verb, args, func(b json.RawMessage) error {
		var l report.Line[T]
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		if l.Result != nil {
			out, found = *l.Result, true
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s has no result", verb)
	}
	return out, err
}

// is waits for a role, and for the group to be in sync.
func (g *gateway) is(role string) (s report.Status) {
	g.t.Helper()
	lab.Eventually(g.t, 20*time.Second, g.Node.Name+" to be "+role+" and in sync", func() bool {
		s = report.Status{}
		return g.ask("status", nil, &s) == nil && len(s.Groups) == 1 && s.Groups[0].Role == role && s.Groups[0].InSync &&
			(role == "BACKUP" || len(s.Groups[0].Standbys) == 1 && s.Groups[0].Standbys[0].Complete)
	})
	return s
}

// policies lists those of the kernel, by destination.
func (g *gateway) policies() (out []string) {
	g.t.Helper()
	list, err := g.k.Policies(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, p := range list {
		dst, _ := p.Key.Selector.DstPrefix()
		out = append(out, p.Key.Dir.String()+" "+dst.String())
	}
	slices.Sort(out)
	return out
}

// has waits until the kernel has just these policies.
func (g *gateway) has(what string, want ...string) {
	g.t.Helper()
	slices.Sort(want)
	lab.Eventually(g.t, 20*time.Second, g.Node.Name+" to have the policies "+what, func() bool {
		return slices.Equal(g.policies(), want)
	})
}

func (g *gateway) apply(kind sadb.OpKind, list ...*sadb.Policy) {
	g.t.Helper()
	for _, p := range list {
		for _, err := range g.k.Apply(g.t.Context(), []sadb.Op{{Kind: kind, Policy: p}}) {
			if err != nil {
				g.t.Fatal(err)
			}
		}
	}
}

// closed reads which virtual addresses are fenced.
func (g *gateway) closed() (out []netip.Addr) {
	g.t.Helper()
	g.in(func() error {
		f, err := rules.OpenFence(false)
		if err != nil {
			return err
		}
		defer f.Close()
		list, err := f.State(context.Background())
		for _, s := range list {
			if s.Closed {
				out = append(out, s.VIP)
			}
		}
		return err
	})
	return out
}

// get asks the metrics listener, which is inside the machine.
func (g *gateway) get(path string) (out string) {
	g.t.Helper()
	g.in(func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:9750", 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		out = string(b)
		return err
	})
	return out
}

// tunnelPolicy is an outbound policy from a local end to a remote one.
func tunnelPolicy(n int, local netip.Addr) *sadb.Policy {
	far := netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	if local.Is6() {
		far = netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", n))
	}
	p := &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sadb.SelectorOf(
		netip.MustParsePrefix("10.1.0.0/24"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(n), 0}), 24))},
		Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
			HardPackets: sadb.NoLimit}, Priority: 1000}
	p.Templates = []sadb.Template{{Src: local, Dst: far, Family: sadb.FamilyOf(local), Proto: sadb.ProtoESP,
		Mode: sadb.ModeTunnel, Reqid: uint32(n), AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0)}}
	return p
}

// TestDaemons: policies of a MASTER are on its standby and stay there; what an operator
// asks and orders is done; a stop hands over; a MASTER whose carpd dies is silent.
func TestDaemons(t *testing.T) {
	gws := newGateways(t)
	one, two := gws[0], gws[1]
	one.start()
	two.start()
	one.is("MASTER")
	if s := two.is("BACKUP"); s.Groups[0].Following != one.name || !s.Groups[0].Complete {
		t.Errorf("the standby follows %q: %+v", s.Groups[0].Following, s.Groups[0])
	}
	local := netip.MustParseAddr("192.0.2.11") // of the gateway itself
	one.apply(sadb.OpAddPolicy, tunnelPolicy(1, gatewayVIPs[0]), tunnelPolicy(2, gatewayVIPs[1]), tunnelPolicy(9, local))
	both := []string{"out 10.2.1.0/24", "out 10.2.2.0/24"}
	two.has("of the virtual addresses", both...)
	two.apply(sadb.OpDeletePolicy, tunnelPolicy(1, gatewayVIPs[0]))
	two.has("again, of which somebody has deleted one", both...)
	one.apply(sadb.OpDeletePolicy, tunnelPolicy(2, gatewayVIPs[1]))
	two.has("but the one that the MASTER has deleted", both[0])
	one.apply(sadb.OpAddPolicy, tunnelPolicy(2, gatewayVIPs[1]))
	two.has("and the one that is back", both...)

	var flows [2][]string
	for i, g := range gws {
		c, err := daemon.DialControl(t.Context(), g.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Call(t.Context(), "show", map[string]any{"what": "flow"}, func(b json.RawMessage) error {
			flows[i] = append(flows[i], string(b))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(flows[0]) < 2 || !slices.Equal(flows[0], flows[1]) {
		t.Errorf("the MASTER shows\n%s\nthe standby\n%s", flows[0], flows[1])
	}
	var d report.Diff
	if err := two.ask("diff", map[string]any{"peer": one.name}, &d); err != nil || len(d.Differences) > 0 {
		t.Errorf("differences %+v: %v", d, err)
	}
	for _, g := range gws {
		res, err := lastLine[report.Resync](g, "resync", map[string]any{"peer": one.name})
		if g == one {
			if err == nil {
				t.Errorf("the MASTER resynchronises itself: %+v", res)
			}
			continue
		}
		if err != nil || len(res.Transfers) != 1 || !res.Transfers[0].Complete || res.Transfers[0].Records < 2 ||
			res.Transfers[0].Push {
			t.Errorf("resync %+v: %v", res, err)
		}
	}
	if res, err := lastLine[report.Resync](one, "resync", map[string]any{"peer": two.name}); err != nil ||
		len(res.Transfers) != 1 || !res.Transfers[0].Push || !res.Transfers[0].Complete {
		t.Errorf("resync of the standby %+v: %v", res, err)
	}
	two.is("BACKUP")

	for path, want := range map[string]string{"/metrics": "sasyncd_", "/healthz": "200 OK", "/status.json": "gate"} {
		if got := two.get(path); !strings.Contains(got, want) {
			t.Errorf("%s: %.200s", path, got)
		}
	}

	// An order, to whom the election chooses, then to one by name.
	for i, to := range []string{"", one.name} {
		from, heir := gws[i], gws[1-i]
		res, err := lastLine[report.Failover](from, "failover", order{Peer: to, Force: true})
		if err != nil || len(res.Handovers) != 1 || !res.Handovers[0].OK || res.Handovers[0].To != heir.name {
			t.Fatalf("from %s to %q: %+v, %v", from.name, to, res, err)
		}
		heir.is("MASTER")
		from.is("BACKUP")
		if said := from.gate.said(api.VerbResign); len(said) != 1 || said[0].Reason != "operator" {
			t.Errorf("%s told its carpd %+v", from.name, said)
		}
	}
	if held := two.gate.said(api.VerbHoldBack); len(held) > 0 {
		t.Errorf("who hands over holds back: %+v", held)
	}
	one.has("still", append([]string{"out 10.2.9.0/24"}, both...)...)
	one.apply(sadb.OpAddPolicy, tunnelPolicy(3, gatewayVIPs[0]))
	all := append(slices.Clone(both), "out 10.2.3.0/24")
	two.has("of the MASTER after two changes", all...)

	// Keys may change while running, other settings not; the session stays.
	since := func() time.Time {
		var p report.Peers
		if err := two.ask("peers", nil, &p); err != nil || len(p.Peers) != 1 || !p.Peers[0].Connected {
			t.Fatalf("peers %+v: %v", p, err)
		}
		return p.Peers[0].Since
	}
	before := since()
	more := "sharedkey 0xff0102030405060708090a0b0c0d0e0f1011121314151617\n"
	two.WriteFile("sasyncd.conf", two.settings(one.name, more))
	if err := two.ask("reload", nil, nil); err != nil && !strings.Contains(err.Error(), "empty") {
		t.Errorf("reload: %v", err)
	}
	two.WriteFile("sasyncd.conf", two.settings(one.name, more+"replay interval 2s\n"))
	if err := two.ask("reload", nil, nil); err == nil || !strings.Contains(err.Error(), "replay interval") {
		t.Errorf("a reload with another interval: %v", err)
	}
	two.d.Signal(syscall.SIGHUP)
	two.d.WaitLog("cannot be changed while running", 10*time.Second)
	if after := since(); !after.Equal(before) {
		t.Errorf("the session is of %v, was of %v", after, before)
	}
	// The other one comes back with the new key only, which this one has to have taken.
	one.d.Kill()
	one.WriteFile("sasyncd.conf", strings.Replace(one.settings(two.name, more), firstKey, "", 1))
	one.start()
	one.is("MASTER")
	two.is("BACKUP")

	// A stop hands over, and leaves the policies where they are.
	if code := one.d.Term(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lab.Eventually(t, 10*time.Second, "the stop to have handed over", func() bool {
		var s report.Status
		return two.ask("status", nil, &s) == nil && len(s.Groups) == 1 && s.Groups[0].Role == "MASTER"
	})
	if said := one.gate.said(api.VerbResign); len(said) != 2 {
		t.Errorf("a stop told carpd %+v", said)
	}
	one.has("after the stop", append([]string{"out 10.2.9.0/24"}, all...)...)
	two.has("as MASTER", all...)

	// Without its carpd a MASTER falls silent.
	if closed := two.closed(); len(closed) > 0 {
		t.Errorf("a MASTER is fenced: %v", closed)
	}
	two.gate.stop()
	lab.Eventually(t, 10*time.Second, "the fence of a MASTER without carpd", func() bool { return len(two.closed()) == 2 })
}
