package ike

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/sync/engine"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

func ikeStatus(t *testing.T, m *scenario.Member) engine.KeyingStatus {
	s, err := m.Status()
	if err != nil || len(s.Groups) != 1 {
		return engine.KeyingStatus{Error: fmt.Sprint(err)}
	}
	return s.Groups[0].Keying
}

// waitIKE waits until the IKE daemon is "active" with all tunnels of its own,
// or "passive".
func waitIKE(t *testing.T, m *scenario.Member, state string) engine.KeyingStatus {
	t.Helper()
	return waitTunnels(t, m, state, 2)
}

// waitTunnels is waitIKE for another number of tunnels.
func waitTunnels(t *testing.T, m *scenario.Member, state string, tunnels int) engine.KeyingStatus {
	t.Helper()
	var k engine.KeyingStatus
	lab.Eventually(t, limit, "the ike daemon of "+m.Name+" to be "+state, func() bool {
		k = ikeStatus(t, m)
		return k.State == state && k.Error == "" && (state != "active" || k.Up == tunnels && k.Wanted == tunnels)
	})
	return k
}

// requireBudget fails the test if a takeover took longer than the budget, or cost more
// packets than that has time for, its fresh SAs' share included. A sender that stood
// still makes up for it, so what it sent late is not the takeover's.
func requireBudget(t *testing.T, m *meter.Meter, what string, budget time.Duration, from, to time.Time) {
	t.Helper()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		if may := int((budget + r.Idle + min(r.Stall, slowest)).Seconds() * rate); r.Lost > may || r.Gap > budget ||
			r.Sent == 0 {
			t.Errorf("%s: %s lost %d of %d packets, at most %d may be in a gap of at most %v", what, f.Name, r.Lost,
				r.Sent, may, budget)
		}
	}
}

// TestStrongSwanControlled is a pair as users run it: sasyncd itself makes
// charon active and passive.
func TestStrongSwanControlled(t *testing.T) {
	p, gw1, gw2 := bare(t)
	c1 := newCharon(t, gw1.Node, "c1", example(t, "strongswan", "gateway", "swanctl.conf"))
	c2 := newCharon(t, gw2.Node, "c2", example(t, "strongswan", "gateway", "swanctl.conf"))
	r := newCharon(t, p.RGW, "cf", example(t, "strongswan", "remote", "swanctl.conf"))
	r.start()
	c1.supervise()
	c2.supervise()
	startOn(t, p, gw1, &stage{Node: gw1.Node}, "strongswan")
	startOn(t, p, gw2, &stage{Node: gw2.Node}, "strongswan")
	gw1.Lead()
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// charon dies on the master: nothing is lost, and it negotiates again.
	from := time.Now()
	kill(t, c1)
	lab.Eventually(t, limit, "charon's return to be noticed", func() bool { return ikeStatus(t, gw1).Restarts == 1 })
	waitIKE(t, gw1, "active")
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	requireLost(t, m, "charon's crash on the master", from, to)

	// Power cut.
	from = time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	waitIKE(t, gw2, "active")
	flowing(t, m, rate)
	to = time.Now()
	w.requireNoIKE(t, gw2.WAN, time.Time{}, from, "as a backup")
	requireBudget(t, m, "power cut", scenario.BudgetPowerCut, from, to)

	// Return, hand-over.
	from = time.Now()
	c1.supervise()
	startOn(t, p, gw1, &stage{Node: gw1.Node}, "strongswan")
	gw1.PowerOn()
	gw1.WaitInSync()
	p.WaitFit(gw2)
	waitIKE(t, gw1, "passive")
	flowing(t, m, rate)
	w.requireNoIKE(t, gw1.WAN, from, time.Now(), "as a backup")
	from = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	flowing(t, m, rate)
	to = time.Now()
	requireBudget(t, m, "hand-over", budgetHandOver, from, to)
	requireSilentAfter(t, w, gw2, gw1, from)
	p.WaitFit(gw1)

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// requireSilentAfter fails the test if a gateway has spoken IKE after its
// successor did for the first time in a period.
func requireSilentAfter(t *testing.T, w *wire, old, next *scenario.Member, from time.Time) {
	t.Helper()
	msgs := w.ike(next.WAN, from, time.Now())
	if len(msgs) == 0 {
		t.Fatalf("%s has not spoken IKE", next.Name)
	}
	w.requireNoIKE(t, old.WAN, msgs[0].at, time.Now(), "after its successor had begun")
}

// kill kills the charon behind a control socket, as a crash does.
func kill(t *testing.T, c *charon) {
	t.Helper()
	conn, err := net.Dial("unix", c.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET,
			unix.SO_PEERCRED)
	}); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	if err := unix.Kill(int(cred.Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
