package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/kernel/rules"
	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
	"sasyncd/tests/harness/lab"
)

// verb calls the program itself inside the machine, and wants an exit code.
func (g *gateway) verb(name string, want int) {
	g.t.Helper()
	var out bytes.Buffer
	code := -1
	g.in(func() error {
		code = run([]string{"-c", g.conf, name}, &out, &out)
		return nil
	})
	if code != want {
		g.t.Errorf("sasyncd %s: exit code %d, want %d\n%s", name, code, want, &out)
	}
}

// walls reads of what the leak guard is made in the kernel.
func (g *gateway) walls() (out []string) {
	g.t.Helper()
	if strings.Contains(g.Run("nft list tables"), "table inet sasyncd") {
		out = append(out, "nftables")
	}
	if strings.Contains(g.Run("ip -o link show"), rules.SinkDevice) {
		out = append(out, "routes")
	}
	return out
}

// canRoute reports whether the kernel can have the device to which the routes lead.
func (g *gateway) canRoute() bool {
	if _, err := g.Try("ip link add probe0 type dummy"); err != nil {
		return false
	}
	g.Run("ip link del probe0")
	return true
}

// TestLeakGuardOfADaemon: it guards what the policies lead to, also when they are gone and
// when sasyncd is, until an operator says otherwise.
func TestLeakGuardOfADaemon(t *testing.T) {
	g := newGateways(t)[0]
	mode, all := "guard yes", []string{"nftables", "routes"}
	if !g.canRoute() {
		mode, all = "guard nftables", []string{"nftables"}
	}
	g.WriteFile("sasyncd.conf", strings.Replace(g.settings("10.9.0.2", ""), "guard no", mode, 1))
	g.start()
	has := func(what string, selectors, remembered int) (s report.Guard) {
		t.Helper()
		lab.Eventually(t, 20*time.Second, "the leak guard "+what, func() bool {
			s = report.Guard{}
			return g.ask("guard", nil, &s) == nil && s.Selectors == selectors && s.Remembered == remembered &&
				len(s.Gone) == remembered
		})
		if !slices.Equal(s.Walls, all) || !slices.Equal(g.walls(), all) || s.Trouble != "" || s.LeftOut != "" {
			t.Errorf("%s: %+v", what, s)
		}
		return s
	}
	first, second := tunnelPolicy(1, gatewayVIPs[0]), tunnelPolicy(2, gatewayVIPs[1])
	g.apply(sadb.OpAddPolicy, first, second)
	has("of two policies", 2, 0)
	g.apply(sadb.OpDeletePolicy, first)
	s := has("of one that is gone", 2, 1)
	if left := time.Until(s.Gone[0].Until); !strings.Contains(s.Gone[0].Selector, "10.2.1.0/24") ||
		left > guard.Keep || left < guard.Keep-time.Minute {
		t.Errorf("gone: %+v, for %v more", s.Gone[0], left)
	}
	for _, tt := range []struct {
		what      string
		forgotten int
		refused   bool
	}{{"10.2.2.0/24", 0, false}, {"10.2.1.7", 0, false}, {"a network", 0, true}, {"", 0, true},
		{"10.2.1.9/16", 1, false}, {"all", 0, false}} {
		var s report.Guard
		err := g.ask("guard-forget", map[string]any{"destination": tt.what}, &s)
		if (err != nil) != tt.refused || s.Forgotten != tt.forgotten {
			t.Errorf("forget %q: %+v, %v", tt.what, s, err)
		}
	}
	has("of one that is forgotten", 1, 0)
	g.apply(sadb.OpDeletePolicy, second)
	has("of the other that is gone", 1, 1)

	// It outlives sasyncd, and a boot.
	if code := g.d.Term(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	kept := filepath.Join(g.Dir(), guardFile)
	check := func(when string, want ...string) {
		t.Helper()
		if got := g.walls(); !slices.Equal(got, want) {
			t.Errorf("%s the walls are %q, want %q", when, got, want)
		}
	}
	check("after the end of sasyncd", all...)
	g.verb(verbGuardRemove, daemon.ExitOK)
	check("after their removal")
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what the leak guard knows is not kept: %v", err)
	}
	g.verb(verbGuardLoad, daemon.ExitOK)
	check("after a boot", all...)
	g.start()
	has("of the next sasyncd", 1, 1)
	if code := g.d.Term(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Without one.
	g.WriteFile("sasyncd.conf", g.settings("10.9.0.2", ""))
	g.start()
	lab.Eventually(t, 10*time.Second, "the leak guard to be gone", func() bool {
		var s report.Guard
		return g.ask("guard", nil, &s) == nil && len(s.Walls) == 0 && len(g.walls()) == 0
	})
	if err := g.ask("guard-forget", map[string]any{"destination": "all"}, nil); err == nil ||
		!strings.Contains(err.Error(), "no leak guard") {
		t.Errorf("forget without a leak guard: %v", err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("what the leak guard knew is kept")
	}
	g.verb(verbGuardLoad, daemon.ExitOK)
	check("after a boot without anything kept")
}

// TestWalls: each kind of a leak guard has its walls, and takes the others down.
func TestWalls(t *testing.T) {
	g := newGateways(t)[0]
	ctx := context.Background()
	routes := g.canRoute()
	for _, tt := range []struct {
		want   conf.Guard
		has    []string
		before []string // what is left of a guard that was before
	}{
		{conf.GuardYes, []string{"nftables", "routes"}, nil},
		{conf.GuardRoutes, []string{"routes"}, []string{"routes"}},
		{conf.GuardYes, []string{"nftables", "routes"}, []string{"routes"}},
		{conf.GuardNFTables, []string{"nftables"}, []string{"nftables"}},
		{conf.GuardYes, []string{"nftables", "routes"}, []string{"nftables"}},
		{conf.GuardAuto, []string{"nftables"}, []string{"nftables"}},
		{conf.GuardNo, nil, nil},
	} {
		var has []string
		g.in(func() error {
			w, _, err := openWalls(ctx, tt.want)
			if err != nil {
				return err
			}
			if w.filter != nil {
				has = append(has, "nftables")
			}
			if w.sink != nil {
				has = append(has, "routes")
			}
			return w.close()
		})
		if !routes {
			tt.before = slices.DeleteFunc(tt.before, func(s string) bool { return s == "routes" })
		}
		if before := g.walls(); !slices.Equal(has, tt.has) || !slices.Equal(before, tt.before) {
			t.Errorf("guard %s: walls %q, want %q; of before %q, want %q", tt.want, has, tt.has, before, tt.before)
		}
		g.in(func() error { // all are raised, by whom it does not matter
			w, _, err := openWalls(ctx, conf.GuardYes)
			if err != nil {
				return err
			}
			if slices.Contains(tt.has, "nftables") {
				err = table{w.filter}.Set(ctx, guard.Program{})
			}
			if err == nil && routes && slices.Contains(tt.has, "routes") {
				err = w.sink.Set(nil)
			}
			return errors.Join(err, w.close())
		})
	}
}

// TestGuardVerbs: what is encrypted is guarded before an IKE daemon starts, until the
// policies are back, or at once.
func TestGuardVerbs(t *testing.T) {
	g := newGateways(t)[0]
	guarded := func() bool {
		out := g.Run(fmt.Sprintf("ip route show table %d", rules.GuardTable))
		return strings.Contains(out, "blackhole 10.2.1.0/24")
	}
	p := tunnelPolicy(1, gatewayVIPs[0])
	g.apply(sadb.OpAddPolicy, p)
	g.verb(verbGuard, daemon.ExitOK)
	if !guarded() {
		t.Error("not guarded")
	}
	g.verb(verbGuardOff, daemon.ExitOK)
	g.verb(verbGuardWait, daemon.ExitOK) // there is nothing to wait for
	g.verb(verbGuard, daemon.ExitOK)
	g.apply(sadb.OpDeletePolicy, p)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.verb(verbGuardWait, daemon.ExitOK)
	}()
	select {
	case <-ended:
		t.Error("it ends without the policy")
	case <-time.After(300 * time.Millisecond):
	}
	if !guarded() {
		t.Error("not guarded while the policy is gone")
	}
	g.apply(sadb.OpAddPolicy, p)
	<-ended
	if guarded() {
		t.Error("guarded with the policy back")
	}
}

// TestAnswers: whether the sasyncd of a configuration runs.
func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "s"), filepath.Join(dir, "sasyncd.conf")
	text := fmt.Sprintf("interface carp1\npeer 10.9.0.2\nsharedkey 0x%s\ncontrol none\nsocket %q\n",
		strings.Repeat("42", 24), socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if answers(config) {
		t.Error("nobody is there, and answers")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !answers(config) {
		t.Error("it is there, and does not answer")
	}
}

// TestFirstNumber: a place in the lowest quarter of 32 bits, of nodes apart.
func TestFirstNumber(t *testing.T) {
	seen := make(map[uint64]bool)
	for n := range 1024 {
		var id wire.NodeID
		binary.BigEndian.PutUint16(id[:], uint16(n))
		v := firstNumber(id)
		if v < 1<<20 || v > 1<<30 || v%(1<<20) != 0 || seen[v] {
			t.Errorf("node %d begins at %#x", n, v)
		}
		seen[v] = true
	}
	if firstNumber(wire.NodeID{0xff, 0xff}) > 1<<30 {
		t.Error("the last one begins beyond the quarter")
	}
}

// TestTrackedAddresses: with another election than carpd's the addresses say the role, and
// sasyncd keeps the fence.
func TestTrackedAddresses(t *testing.T) {
	g := newGateways(t)[0]
	text := strings.Replace(g.settings("10.9.0.2", ""), "interface carp1\n",
		"interface carp1\nvip 192.0.2.1\nvip 2001:db8::1\n", 1)
	text = strings.Replace(text, fmt.Sprintf("carpd socket %q\n", g.gate.path), "tracker address\n", 1)
	g.WriteFile("sasyncd.conf", text)
	g.start()
	role := func(want string, closed ...netip.Addr) {
		t.Helper()
		lab.Eventually(t, 20*time.Second, "the role of the addresses, and their fence", func() bool {
			var s report.Status
			got := g.closed()
			slices.SortFunc(got, netip.Addr.Compare)
			return g.ask("status", nil, &s) == nil && len(s.Groups) == 1 && s.Groups[0].Role == want &&
				slices.Equal(got, closed)
		})
	}
	role("BACKUP", gatewayVIPs...)
	g.IP("addr add 192.0.2.1/24 dev out0", "addr add 2001:db8::1/64 dev out0 nodad")
	role("MASTER")
	g.IP("addr del 2001:db8::1/64 dev out0")
	role("BACKUP", gatewayVIPs...)
}

// TestEncapped: the port for ESP in UDP is held for the families of the SAs in UDP.
func TestEncapped(t *testing.T) {
	of := func(dst string, encap bool) sadb.Reading {
		return sadb.Reading{Key: sadb.SAKey{Dst: netip.MustParseAddr(dst)}, Encap: encap}
	}
	for _, tt := range []struct {
		list []sadb.Reading
		want encapped
	}{
		{nil, encapped{}},
		{[]sadb.Reading{of("192.0.2.1", false), of("2001:db8::1", false)}, encapped{}},
		{[]sadb.Reading{of("192.0.2.1", true), of("2001:db8::1", false)}, encapped{ip4: true}},
		{[]sadb.Reading{of("192.0.2.1", false), of("2001:db8::1", true), of("2001:db8::2", false)}, encapped{ip6: true}},
		{[]sadb.Reading{of("2001:db8::1", true), of("192.0.2.1", true), of("192.0.2.2", false)}, encapped{true, true}},
	} {
		var e encapped
		e.add(tt.list[:len(tt.list)/2])
		if e.add(tt.list[len(tt.list)/2:]); e != tt.want {
			t.Errorf("%+v: %+v", tt.list, e)
		}
	}
}
