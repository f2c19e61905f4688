package election

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// protect gives the node an IPsec policy, for traffic that there is none of.
func (g *gateway) protect() {
	g.t.Helper()
	g.IP("xfrm policy add dir out src 10.1.0.0/24 dst 10.77.0.0/24 tmpl src 10.3.0.1 dst 10.3.0.99 proto esp reqid " +
		"77 mode tunnel")
}

// held lists the rules that keep the node from forwarding.
func (g *gateway) held() (rules []string) {
	g.t.Helper()
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(g.Run("ip " + family + " rule show pref 3")) {
			_, rule, _ := strings.Cut(line, "iif ")
			rules = append(rules, family+" "+strings.Join(strings.Fields(rule)[:2], " "))
		}
	}
	slices.Sort(rules)
	return rules
}

var heldBoth = []string{"-4 in0 blackhole", "-4 out0 blackhole", "-6 in0 blackhole", "-6 out0 blackhole"}

// What the units do at a boot holds forwarding, and a carpd that starts and is
// killed goes on with it, until its client is in sync and there are policies. From
// then on nothing holds it again.
func TestHold(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "require sasyncd; alone after never"
	g := p.gws[0]
	cleanup := func() {
		t.Helper()
		g.Run(program(t, "carpd") + " -c " + p.config(g) + " cleanup")
	}
	requireHeld := func(when string) {
		t.Helper()
		if got := g.held(); !slices.Equal(got, heldBoth) {
			t.Errorf("%s: held are %q, want %q", when, got, heldBoth)
		}
	}
	requireFree := func(when string) {
		t.Helper()
		if got := g.held(); len(got) != 0 {
			t.Errorf("%s: held are %q", when, got)
		}
	}
	g.Run("ip rule add pref 3 iif gone0 blackhole proto 112") // of another configuration
	cleanup()
	requireHeld("after the boot")
	p.start(g)
	g.await(api.StateBackup, patience)
	requireHeld("carpd has started")
	c := g.client(true)
	c.await(t, "snapshot", func(m api.Message) bool { return m.Event == api.EventState && m.Snapshot })
	ready(t, c, api.Ready{Ahead: true}) // the snapshot has begun
	g.protect()

	g.d.Kill()
	cleanup()
	requireHeld("killed within the snapshot")
	p.start(g)
	g.await(api.StateBackup, patience)
	g.awaitLog("forwarding held", 1)
	if out, _ := g.ctl("show"); !strings.Contains(out, "forwards nothing: its tables are not complete yet") {
		t.Errorf("show says\n%s", out)
	}
	if out, _ := g.ctl("doctor"); !strings.Contains(out, "nothing that comes in by in0 or out0 is forwarded") {
		t.Errorf("doctor says\n%s", out)
	}
	c.stop()
	c = g.client(true)
	c.await(t, "snapshot", func(m api.Message) bool { return m.Event == api.EventState && m.Snapshot })
	ready(t, c, api.Ready{InSync: true, Ahead: true})
	g.awaitLog("forwarding no longer held", 1)
	requireFree("in sync")
	if s := g.state(); s.Held != "" {
		t.Errorf("the state is %+v", s)
	}
	g.d.Kill()
	cleanup()
	requireFree("killed with intact tables")
	p.start(g)
	g.await(api.StateBackup, patience)
	requireFree("started with intact tables")
}

// A master without any policy forwards, after a while.
func TestHoldEnds(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.options = "require sasyncd; alone after never"
	g := p.gws[0]
	p.start(g)
	c := g.client(true)
	c.await(t, "snapshot", func(m api.Message) bool { return m.Event == api.EventState && m.Snapshot })
	ready(t, c, api.Ready{InSync: true})
	g.await(api.StateMaster, patience)
	if got := g.held(); !slices.Equal(got, heldBoth) {
		t.Errorf("a master without policies holds %q, want %q", got, heldBoth)
	}
	lab.Eventually(t, 10*time.Second+patience, "forwarding to be held no longer",
		func() bool { return len(g.held()) == 0 })
	if s := g.state(); s.State != api.StateMaster || s.AgeMS < 10000 {
		t.Errorf("lifted after %d ms as %s", s.AgeMS, s.State)
	}
}
