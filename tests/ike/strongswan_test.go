package ike

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sasyncd/keying"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// keyed is the runner of a gateway, here in the test's process.
type keyed struct {
	*keying.Runner
	t    *testing.T
	stop func()
}

func key(t *testing.T, c *charon) *keyed {
	t.Helper()
	places := c.places()
	p := places[keying.StrongSwan]
	p.Start = func(context.Context) error {
		c.proc.WaitExit(limit)
		c.start()
		return nil
	}
	places[keying.StrongSwan] = p
	r := keying.NewRunner(c.Name, keying.NewStrongSwan(&keying.Local{Places: places}),
		slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	k := &keyed{r, t, sync.OnceFunc(func() { stop(); <-done })}
	t.Cleanup(k.stop)
	return k
}

// passive orders and waits.
func (k *keyed) passive(term uint64) {
	k.t.Helper()
	done := make(chan error, 1)
	k.Passive(keying.PassiveOrder{Term: term, Reason: "drill"}, func(err error) { done <- err })
	if err := <-done; err != nil {
		k.t.Errorf("passive: %v", err)
	}
}

// active orders and waits until all tunnels are negotiated.
func (k *keyed) active(term uint64, tunnels int) {
	k.t.Helper()
	k.Active(keying.Plan{Term: term, VIPs: outside})
	lab.Eventually(k.t, limit, "all tunnels to be negotiated", func() bool {
		s := k.Status()
		return s.State == "active" && s.Term == term && s.Last.Up == tunnels
	})
}

// TestStrongSwan is the life of a pair with strongSwan at all ends: a cold
// start, a power cut, return and failback, each followed by a rekey from
// either side.
func TestStrongSwan(t *testing.T) {
	p, gw1, gw2 := bare(t)
	c1 := newCharon(t, gw1.Node, "c1", example(t, "strongswan", "gateway", "swanctl.conf"))
	c2 := newCharon(t, gw2.Node, "c2", example(t, "strongswan", "gateway", "swanctl.conf"))
	r := newCharon(t, p.RGW, "cf", example(t, "strongswan", "remote", "swanctl.conf"))
	for _, c := range []*charon{c1, c2, r} {
		c.start()
	}
	k1, k2 := key(t, c1), key(t, c2)
	k1.passive(1)
	k2.passive(1)
	for _, m := range p.Members {
		m.StartDaemons()
	}
	gw1.Lead()
	k1.active(1, 2) // nothing was replicated: a cold start comes up too
	p.WaitFit(gw1)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)
	start := time.Now()
	rekey(t, m, "at first", c1, r)

	k1.stop() // it dies with its gateway
	gw1.Off()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate) // on what was replicated, without any help of charon
	w.requireNoIKE(t, gw2.WAN, start, time.Now(), "before it was told to be active")
	negotiate(t, m, "power cut", k2, 2, gw2)
	rekey(t, m, "after the power cut", c2, r)

	// gw1 returns; then gw2 hands back.
	returned := time.Now()
	c1.start()
	k1 = key(t, c1)
	k1.passive(2)
	gw1.Return()
	p.WaitFit(gw2)
	flowing(t, m, rate)
	k2.passive(2)
	silent := time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	flowing(t, m, rate)
	w.requireNoIKE(t, gw1.WAN, returned, time.Now(), "before it was told to be active")
	negotiate(t, m, "failback", k1, 3, gw1)
	rekey(t, m, "after the failback", c1, r)
	w.requireNoIKE(t, gw2.WAN, silent, time.Now(), "after it had become passive")

	k1.stop() // before the daemons, whose end it would undo
	k2.stop()
	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// negotiate makes a gateway active, and checks that fresh tunnels stand beside
// the replicated ones and cost next to nothing.
func negotiate(t *testing.T, m *meter.Meter, what string, k *keyed, term uint64, gw *scenario.Member) {
	t.Helper()
	before, err := scenario.ReadTables(gw.Node)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	k.active(term, 2)
	took := time.Since(from)
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10) // what was under way
	requireLost(t, m, what+", fresh negotiation in "+took.Round(time.Millisecond).String(), from, to)
	after, err := scenario.ReadTables(gw.Node)
	if err != nil {
		t.Fatal(err)
	}
	for spi := range before.Sent {
		if _, ok := after.Sent[spi]; !ok {
			t.Errorf("%s: replicated SA %#x has gone", what, spi)
		}
	}
	if len(after.Sent) < len(before.Sent)+4 {
		t.Errorf("%s: %d SAs before, %d after, want at least 4 more", what, len(before.Sent), len(after.Sent))
	}
}

// rekey rekeys every child from either side.
func rekey(t *testing.T, m *meter.Meter, what string, ends ...*charon) {
	t.Helper()
	for _, c := range ends {
		for _, child := range []string{"site4", "site6"} {
			from := time.Now()
			n := strings.Count(c.log(), "established with SPIs")
			c.swanctl("--rekey --child " + child)
			lab.Eventually(t, limit, what+": rekey of "+child+" from "+c.Name, func() bool {
				return strings.Count(c.log(), "established with SPIs") > n
			})
			flowing(t, m, rate/4)
			to := time.Now()
			flowing(t, m, rate/10)
			// Unlike a first negotiation a rekey delays the use of the new SA.
			requireNone(t, m, what+", rekey of "+child+" from "+c.Name, from, to)
		}
	}
}
