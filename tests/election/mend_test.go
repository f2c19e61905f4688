package election

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// soon is how long a repair may take: half a second, and what is lost on a machine that
// does much else.
const soon = 3 * time.Second

// repairs says how often carpd has repaired what others changed, by kind.
func (g *gateway) repairs() map[string]uint64 {
	out := map[string]uint64{}
	for _, r := range g.state().Repairs {
		out[r.Kind] = r.Count
	}
	return out
}

// flushRules removes all routing rules but those of the kernel, as systemd-networkd does
// when it is restarted.
func (g *gateway) flushRules() {
	g.t.Helper()
	for _, family := range []string{"-4", "-6"} {
		// The first of the kernel's rules, and the last but one, stay or are put back.
		g.Run("ip " + family + " rule flush")
		g.Run("ip " + family + " rule add pref 32766 lookup main")
	}
}

// gates counts what closes the fence of IPv6 addresses if carpd dies: rules, and routes
// that expire, that end the table.
func (g *gateway) gates() (rules, ways, ends int) {
	g.t.Helper()
	// Without a table there is an error.
	routes, _ := g.Try("ip -6 route show table 112112")
	return strings.Count(g.Run("ip -6 rule show pref 6"), "lookup 112112"), strings.Count(routes, "expires"),
		strings.Count(routes, "blackhole default")
}

// locals counts the virtual addresses that the kernel routes as its own.
func (g *gateway) locals() (n int) {
	g.t.Helper()
	for _, a := range allVIPs {
		if out, err := g.Try("ip route get " + a.String()); err == nil && strings.HasPrefix(out, "local ") {
			n++
		}
	}
	return n
}

// What others change of what a MASTER has in the kernel is undone within a second,
// counted, logged once and told by doctor, and nobody notices. What nobody changes is
// no repair.
func TestMasterIsMended(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	for _, g := range p.gws {
		g.awaitFor(2 * time.Second)
		if got := g.repairs(); len(got) != 0 {
			t.Fatalf("%s has repaired %v, but nobody changed anything", g.Name, got)
		}
	}
	whole := func() bool { rules, ways, ends := a.gates(); return rules == 4 && ways == 2 && ends == 1 }
	if !whole() {
		t.Fatalf("a master has:\n%s%s", a.Run("ip -6 rule show"), a.Run("ip -6 route show table 112112"))
	}
	for name, tc := range map[string]struct {
		change func()
		mended func() bool
		kind   string
	}{
		"rules are flushed":             {a.flushRules, whole, api.RepairedGate},
		"the gate's routes are removed": {func() { a.Run("ip -6 route flush table 112112") }, whole, api.RepairedGate},
		"it is fenced": {func() {
			for _, v := range allVIPs {
				a.Run(fmt.Sprintf("ip -%d rule add pref 5 from %s blackhole protocol 112",
					map[bool]int{true: 4, false: 6}[v.Is4()], v))
			}
		}, func() bool { return a.fenced() == 0 }, api.RepairedFence},
		"IPv4 loses its local routes": {func() { a.Run("ip -4 route flush table local") },
			func() bool { return a.locals() == 4 }, api.RepairedRoute},
		"IPv6 loses its local routes": {func() {
			a.Run("ip -6 route del local fd00:1::1 table local")
			a.Run("ip -6 route del local fd00:3::1 table local")
		}, func() bool { return a.locals() == 4 }, api.RepairedRoute},
		"forwarding is held": {func() { a.IP("rule add pref 3 iif in0 blackhole protocol 112") },
			func() bool { return len(a.held()) == 0 }, api.RepairedHold},
	} {
		before := a.repairs()[tc.kind]
		counted := func() bool { return a.repairs()[tc.kind] > before }
		// A renewal that comes first puts back what is missing, and counts nothing.
		for tries := 3; !counted(); tries-- {
			if tries == 0 {
				t.Fatalf("%s, and that is not counted", name)
			}
			tc.change()
			lab.Eventually(t, soon, name+", and that is undone", tc.mended)
			for w := lab.NewWatch(); w.Elapsed() < 2*time.Second && !counted(); {
				w.Sleep(20 * time.Millisecond)
			}
		}
		if s := a.state(); s.State != api.StateMaster || a.holds() != 4 || a.locals() != 4 {
			t.Errorf("%s: the master is %+v, holds %d addresses, %d are local", name, s, a.holds(), a.locals())
		}
	}
	// Everything still goes when the address goes, and only the fence stays.
	for _, text := range []string{"IPv6 gate removed", "fence rules of a MASTER added",
		"local routes of virtual addresses removed", "hold rules added"} {
		if n := strings.Count(a.d.Output(), text); n != 1 {
			t.Errorf("%q is logged %d times", text, n)
		}
	}
	out, code := a.ctl("doctor")
	out = strings.Join(strings.Fields(out), " ")
	if code != 1 || !strings.Contains(out, "PROBLEM: group gate: the IPv6 gate was removed") || !strings.Contains(out,
		"set on a MASTER") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	if out, code := b.ctl("doctor"); code != 0 {
		t.Errorf("doctor of the backup: %d\n%s", code, out)
	}
	if out, code := a.ctl("resign", "gate"); code != 0 {
		t.Fatalf("resign: %s", out)
	}
	b.await(api.StateMaster, patience)
	lab.Eventually(t, patience, "the addresses and their routes to be gone",
		func() bool { return a.holds() == 0 && a.locals() == 0 && a.fenced() == 4 })
}

// A master whose gate was removed and mended falls silent when it is killed.
func TestMendedGateCloses(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	a := p.gws[0]
	p.start(a)
	a.await(api.StateMaster, patience)
	a.flushRules()
	lab.Eventually(t, patience, "the gate to be there again",
		func() bool { rules, _, _ := a.gates(); return rules == 4 })
	leaves := func() bool {
		_, err := a.Try("ip -6 route get fd00:3::100 from fd00:3::1")
		return err == nil
	}
	if !leaves() {
		t.Error("the master's address is silent")
	}
	a.d.Kill()
	lab.Eventually(t, patience, "the address to be silent", func() bool { return !leaves() })
}

// The boot hold stands until carpd lifts it.
func TestHoldIsMended(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "require sasyncd; alone after never"
	g := p.gws[0]
	p.start(g)
	g.await(api.StateBackup, patience)
	g.flushRules()
	lab.Eventually(t, patience, "forwarding to be held again", func() bool { return len(g.held()) == len(heldBoth) })
	lab.Eventually(t, patience, "the fence to be set again", func() bool { return g.fenced() == 4 })
	lab.Eventually(t, patience, "that to be counted", func() bool {
		got := g.repairs()
		// The two families are flushed one after the other, perhaps with a look between.
		return got[api.RepairedHold] > 0 && got[api.RepairedFence] > 0 && got[api.RepairedGate] > 0
	})
}

// `nft flush ruleset`, with which rulesets begin, takes the tables of carpd too. They are
// set again within a second.
func TestFilterIsMended(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.instances = func(*gateway) string {
		return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority 200; interval %s; address 10.1.0.1/32; address fd00:1::1/128; group gate; accept no }
vrrp outside { carpdev out0; vrid 11; priority 200; interval %s; address 10.3.0.1/32; address fd00:3::1/128; group gate; lease nftables }
`, p.interval, p.interval)
	}
	a := p.gws[0]
	if !filters(a.Node) {
		p.refusesToStart(a, "refuse packets to addresses")
		return
	}
	p.start(a)
	a.await(api.StateMaster, patience)
	a.awaitFor(2 * time.Second)
	if got := a.repairs(); len(got) != 0 {
		t.Fatalf("has repaired %v, but nobody changed anything", got)
	}
	a.Run("nft add table inet foreign") // raises the generation, and is nothing of ours
	want := a.Run("nft list tables")
	chains := strings.Count(a.Run("nft list chains"), "chain")
	for i, change := range []string{"flush ruleset", "delete table netdev carpd", "flush table inet carpd",
		"delete table inet carpd"} {
		a.Run("nft " + change)
		if change == "flush ruleset" {
			a.Run("nft add table inet foreign")
		}
		lab.Eventually(t, soon, change+" to be undone and counted",
			func() bool { return a.repairs()[api.RepairedFilter] == uint64(i+1) })
		if got := a.Run("nft list tables"); len(got) != len(want) || strings.Count(a.Run("nft list chains"),
			"chain") != chains {
			t.Errorf("%s: there are\n%s\nwant\n%s", change, got, want)
		}
		if p.host.Ping(vipIn, 300*time.Millisecond) == nil {
			t.Errorf("%s: an address with accept no answers", change)
		}
	}
	a.awaitFor(4 * time.Second)
	if got := a.repairs(); got[api.RepairedFilter] != 4 || len(got) != 1 {
		t.Errorf("has repaired %v, but there were 4 changes", got)
	}
	if n := strings.Count(a.d.Output(), "nftables tables of carpd changed"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if out, _ := a.ctl("doctor"); !strings.Contains(strings.Join(strings.Fields(out), " "),
		"the nftables tables of carpd") {
		t.Errorf("doctor: %s", out)
	}
	if p.peer.Ping(vipOut, time.Second) != nil {
		t.Error("an address with a lease does not answer")
	}
	// The lease still ends with the process.
	a.d.Kill()
	lab.Eventually(t, patience, "the address to be silent",
		func() bool { return p.peer.Ping(vipOut, 100*time.Millisecond) != nil })
}

// A virtual address that the system has configured on a backup stays, and is told.
func TestConfiguredAddress(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	a, b := p.gws[0], p.gws[1]
	b.IP("addr add 10.1.0.1/24 dev in0")
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.await(api.StateBackup, patience)
	b.awaitLog("also configured by the system", 1)
	out, code := b.ctl("doctor")
	if out = strings.Join(strings.Fields(out), " "); code != 1 || !strings.Contains(out,
		"PROBLEM: group gate: the virtual address 10.1.0.1/24 is also configured by the system on in0") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	if s := a.state(); len(s.Configured) != 0 {
		t.Errorf("of the master's own: %+v", s.Configured)
	}
	b.IP("addr del 10.1.0.1/24 dev in0")
	lab.Eventually(t, patience, "the backup to be content",
		func() bool { s := b.state(); return len(s.Configured) == 0 })
	// And while it runs, on another interface.
	b.IP("addr add 10.3.0.1/32 dev lo")
	b.awaitLog("also configured by the system", 2)
}

// The owner of the addresses (RFC 9568, priority 255), whose interface has no other
// ones, becomes MASTER, sends from them, and keeps them whatever happens.
func TestOwner(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.instances = func(g *gateway) string {
		return fmt.Sprintf("vrrp inside { carpdev in0; vrid 10; priority %d; interval %s; address 10.1.0.1; address "+
			"fd00:1::1; group gate }\n",
			map[int]int{1: 255, 2: 100}[g.n], p.interval)
	}
	owner, b := p.gws[0], p.gws[1]
	owner.IP("addr del 10.1.0.11/24 dev in0", "addr add 10.1.0.1/24 dev in0", "addr del fd00:1::11/64 dev in0",
		"addr add fd00:1::1/64 dev in0 nodad")
	p.start(b)
	b.await(api.StateMaster, patience)
	p.start(owner)
	owner.await(api.StateMaster, patience)
	b.await(api.StateBackup, patience)
	s := owner.state()
	if src := s.Instances[0].Routers[0].Source; src != vipIn || len(s.Configured) != 0 {
		t.Errorf("the owner sends from %v, configured are %v", src, s.Configured)
	}
	settled := func(when string) {
		t.Helper()
		out := owner.Run("ip -o addr show dev in0")
		for _, a := range []string{"10.1.0.1/24", "fd00:1::1/64"} {
			if strings.Count(out, " "+a+" ") != 1 || strings.Contains(out, "10.1.0.1/32") || strings.Contains(out,
				"fd00:1::1/128") {
				t.Errorf("%s the owner has\n%s", when, out)
			}
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "10.1.0.1/") || strings.Contains(line, "fd00:1::1/") {
				if !strings.Contains(line, "valid_lft forever") {
					t.Errorf("%s an address of the owner ends: %s", when, line)
				}
			}
		}
	}
	owner.awaitFor(2 * time.Second) // renewals
	settled("as MASTER")
	if p.host.Ping(vipIn, time.Second) != nil || p.host.Ping(vipIn6, time.Second) != nil {
		t.Error("the owner does not answer")
	}
	owner.d.Term(patience)
	b.await(api.StateMaster, patience)
	settled("stopped")
	if n := owner.fenced(); n != 2 {
		t.Errorf("%d addresses of the stopped owner are fenced", n)
	}
}
