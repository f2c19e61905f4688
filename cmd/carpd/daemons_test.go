package main

import (
	"context"
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
	"sasyncd/carp/vip"
	"sasyncd/kernel/rules"
	"sasyncd/tests/ask"
	"sasyncd/tests/harness/lab"
)

// How fast a failover is, and what beside it there may be on a network, is shown in
// tests/election. Here are whole daemons from their start to their end.

const patience = 20 * time.Second

var gateVIPs = []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1"),
	netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("fd00:3::1")}

// gateway is a machine with a carpd.
type gateway struct {
	*lab.Node
	t        *testing.T
	priority int
	conf     string
	d        *lab.Daemon
}

func newGateways(t *testing.T) [2]*gateway {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces and addresses")
	}
	t.Parallel()
	n := lab.New(t)
	in, out := n.Switch("in"), n.Switch("out")
	var gws [2]*gateway
	for i := range gws {
		g := &gateway{Node: n.Node(fmt.Sprintf("gw%d", i+1)), t: t, priority: 200 - 50*i}
		g.Forward()
		g.Plug(in, "in0", fmt.Sprintf("10.1.0.1%d/24", i+1), fmt.Sprintf("fd00:1::1%d/64", i+1))
		g.Plug(out, "out0", fmt.Sprintf("10.3.0.1%d/24", i+1), fmt.Sprintf("fd00:3::1%d/64", i+1))
		g.write("10.3.0.1/32")
		gws[i] = g
	}
	return gws
}

// write writes the configuration, with a virtual address outside.
func (g *gateway) write(outside string) {
	g.t.Helper()
	g.conf = g.WriteFile("carpd.conf", fmt.Sprintf(`group gate { start-hold 300ms }
vrrp inside  { carpdev in0;  vrid 10; priority %d; address 10.1.0.1/32; address fd00:1::1/128; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; address %s; address fd00:3::1/128; group gate }
socket %q
statedir %q
metrics listen on 127.0.0.1 port 9751
`, g.priority, g.priority, outside, g.socket(), filepath.Join(g.Dir(), "state")))
}

func (g *gateway) socket() string { return filepath.Join(g.Dir(), "carpd.sock") }

func (g *gateway) start() { g.d = g.Self("carpd", "-d", "-c", g.conf) }

// is waits for a state, and for what it means in the kernel: a MASTER has the addresses
// and no fence, any other has the fence and none of them.
func (g *gateway) is(state string) (s *api.GroupState) {
	g.t.Helper()
	held, closed := 0, 4
	if state == api.StateMaster {
		held, closed = 4, 0
	}
	lab.Eventually(g.t, patience, g.Name+" to be "+state, func() bool {
		var err error
		s, err = ask.Group(g.socket(), 2*time.Second)
		return err == nil && s.State == state && g.held(gateVIPs...) == held && g.closed() == closed
	})
	return s
}

// in calls f inside the machine.
func (g *gateway) in(f func() error) {
	g.t.Helper()
	if err := g.Do(f); err != nil {
		g.t.Fatalf("%s: %v", g.Name, err)
	}
}

// held counts those of the addresses that the machine has.
func (g *gateway) held(ips ...netip.Addr) (n int) {
	g.t.Helper()
	g.in(func() error {
		list, err := vip.Addresses(0)
		for _, a := range list {
			for _, ip := range ips {
				if a.IP == ip {
					n++
				}
			}
		}
		return err
	})
	return n
}

// closed counts those of the addresses that are fenced.
func (g *gateway) closed() (n int) {
	g.t.Helper()
	g.in(func() error {
		f, err := rules.OpenFence(true)
		if err != nil {
			return err
		}
		defer f.Close()
		list, err := f.State(context.Background())
		for _, s := range list {
			if s.Closed && slices.Contains(gateVIPs, s.VIP) {
				n++
			}
		}
		return err
	})
	return n
}

func (g *gateway) ask(r api.Request) error {
	g.t.Helper()
	_, err := ask.Carpd(g.socket(), r, 10*time.Second)
	return err
}

// get asks the metrics listener, which is inside the machine.
func (g *gateway) get(path string) (out string) {
	g.t.Helper()
	g.in(func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:9751", 5*time.Second)
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

// TestDaemons: mastership goes from one to the other by order, by a kill and by a stop, and
// the kernel of each has what its state says.
func TestDaemons(t *testing.T) {
	gws := newGateways(t)
	one, two := gws[0], gws[1]
	one.start()
	one.is(api.StateMaster)
	two.start()
	two.is(api.StateBackup)
	for path, want := range map[string]string{"/metrics": "carpd_", "/healthz": "200 OK"} {
		if got := two.get(path); !strings.Contains(got, want) {
			t.Errorf("%s: %.200s", path, got)
		}
	}
	// A second one beside it ends at once and changes nothing.
	other := one.Self("carpd-2", "-d", "-c", one.conf)
	other.MayExit()
	if code := other.WaitExit(patience); code == 0 {
		t.Error("a second carpd has run")
	}
	one.is(api.StateMaster)

	if err := one.ask(api.Request{Verb: api.VerbResign, Group: "gate"}); err != nil {
		t.Fatal(err)
	}
	now := two.is(api.StateMaster)
	one.is(api.StateBackup)

	// Addresses change while it is MASTER, by command and by signal; a mistake changes nothing.
	instead := netip.MustParseAddr("10.3.0.2")
	two.write("10.3.0.2/32")
	if err := two.ask(api.Request{Verb: api.VerbReload}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the other address", func() bool {
		return two.held(instead) == 1 && two.held(gateVIPs[2]) == 0
	})
	two.WriteFile("carpd.conf", "group gate { nonsense }\n")
	if err := two.ask(api.Request{Verb: api.VerbReload}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("reload of nonsense: %v", err)
	}
	two.write("10.3.0.1/32")
	two.d.Signal(syscall.SIGHUP)
	if s := two.is(api.StateMaster); s.Term != now.Term {
		t.Errorf("term %d behind a reload, was %d", s.Term, now.Term)
	}

	// One that is killed is replaced, and what it leaves is silent.
	two.d.Kill()
	one.is(api.StateMaster)
	lab.Eventually(t, patience, "the addresses of who was killed to lapse", func() bool {
		return two.held(gateVIPs...) == 0
	})
	cleanup := two.Self("cleanup", "-c", two.conf, verbCleanup)
	cleanup.MayExit()
	if code := cleanup.WaitExit(patience); code != 0 || two.closed() != 4 {
		t.Errorf("cleanup: code %d, %d addresses are fenced", code, two.closed())
	}
	// Beside a live one it changes nothing.
	cleanup = one.Self("cleanup", "-c", one.conf, verbCleanup)
	cleanup.MayExit()
	if code := cleanup.WaitExit(patience); code == 0 {
		t.Error("cleanup beside a live carpd has succeeded")
	}
	one.is(api.StateMaster)

	// One that ends in an orderly way gives all up, and remembers its term.
	last := one.is(api.StateMaster)
	if code := one.d.Term(patience); code != 0 || one.held(gateVIPs...) != 0 || one.closed() != 4 {
		t.Errorf("a stop: code %d, %d addresses, %d fenced", code, one.held(gateVIPs...), one.closed())
	}
	one.start()
	if s := one.is(api.StateMaster); s.Term <= last.Term {
		t.Errorf("term %d behind a restart, was %d", s.Term, last.Term)
	}
}

// TestFreeze: a carpd that is to be restarted leaves everything as it is, and the next goes
// on with it.
func TestFreeze(t *testing.T) {
	one := newGateways(t)[0]
	one.start()
	was := one.is(api.StateMaster)
	if err := one.ask(api.Request{Verb: api.VerbFreeze, HoldMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	if code := one.d.Term(patience); code != 0 || one.held(gateVIPs...) != 4 || one.closed() != 0 {
		t.Errorf("frozen: code %d, %d addresses, %d fenced", code, one.held(gateVIPs...), one.closed())
	}
	one.start()
	if s := one.is(api.StateMaster); s.Term != was.Term || s.Reason != "restart" {
		t.Errorf("term %d (%s), was %d", s.Term, s.Reason, was.Term)
	}
	one.is(api.StateMaster)
}

// TestForwardingIsHeldAtBoot: a machine without policies forwards nothing for a group that
// requires who brings them, and everything for one that does not.
func TestForwardingIsHeldAtBoot(t *testing.T) {
	g := newGateways(t)[0]
	holds := func() (list []string) {
		g.in(func() error {
			h, err := rules.OpenHold()
			if err != nil {
				return err
			}
			defer h.Close()
			list, err = h.Held(context.Background())
			return err
		})
		slices.Sort(list)
		return list
	}
	for _, requires := range []bool{false, true} {
		want := []string{}
		if g.write("10.3.0.1/32"); requires {
			want = []string{"in0", "out0"}
			b, err := os.ReadFile(g.conf)
			if err != nil {
				t.Fatal(err)
			}
			g.WriteFile("carpd.conf", strings.Replace(string(b), "start-hold 300ms", "start-hold 300ms; require sasyncd", 1))
		}
		// From the time before the first start on.
		cleanup := g.Self("cleanup", "-c", g.conf, verbCleanup)
		cleanup.MayExit()
		if code, got := cleanup.WaitExit(patience), holds(); code != 0 || !slices.Equal(got, want) {
			t.Errorf("required %v, before the start: code %d, held are %q, want %q", requires, code, got, want)
		}
		g.start()
		lab.Eventually(t, patience, g.Name+" to answer", func() bool {
			_, err := ask.Group(g.socket(), 2*time.Second)
			return err == nil
		})
		if got := holds(); !slices.Equal(got, want) {
			t.Errorf("required %v: held are %q, want %q", requires, got, want)
		}
		if code := g.d.Term(patience); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}
