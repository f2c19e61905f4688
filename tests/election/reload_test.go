package election

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// settle lets the meter see what comes after an event.
func settle(t *testing.T, d time.Duration) {
	t.Helper()
	until := time.Now().Add(d)
	lab.Eventually(t, d+time.Second, "traffic has gone on", func() bool { return time.Now().After(until) })
}

// same compares role and term with an earlier state.
func (g *gateway) same(t *testing.T, since *api.GroupState) {
	t.Helper()
	s := g.state()
	if s.State != since.State || s.Term != since.Term {
		t.Errorf("%s: %s in term %d was %s in term %d", g.Name, s.State, s.Term, since.State, since.Term)
	}
}

// Settings change under traffic, by signal and by command, without a flap.
func TestReload(t *testing.T) {
	p, a, b := run(t)
	c := a.client(true)
	c.await(t, "snapshot", isSnapshot)
	m := p.traffic()
	began := time.Now()
	wasA, wasB := a.state(), b.state()

	// A file with a mistake changes nothing.
	a.WriteFile("carpd.conf", "group gate { nonsense }\n")
	if out, code := a.ctl("reload"); code != 1 || !strings.Contains(out, "carpd.conf:1:") {
		t.Errorf("reload of nonsense: %d %s", code, out)
	}
	// What needs a restart is refused as a whole.
	p.instances = func(g *gateway) string {
		return fmt.Sprintf("vrrp inside { carpdev in0; vrid 99; priority %d; address 10.1.0.1/32; group gate }",
			g.priority-100)
	}
	p.config(a)
	if out, code := a.ctl("reload"); code != 1 || !strings.Contains(out,
		"another interface, group, protocol, id or mac") || !strings.Contains(out, "outside") {
		t.Errorf("reload of another id: %d %s", code, out)
	}
	if got := a.state().Instances[0].Routers[0].Priority; got != 200 {
		t.Errorf("priority is %d after a refused reload", got)
	}

	// Priorities, timers, and addresses: one more, one less.
	p.instances = func(g *gateway) string {
		return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; interval 100ms; address 10.1.0.1/32; address 10.1.0.2/32; address fd00:1::1/128; address fd00:1::2/128; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; interval 100ms; address 10.3.0.1/32; address fd00:3::1/128; group gate }
`, g.priority+10, g.priority+10)
	}
	p.config(b)
	b.d.Signal(syscall.SIGHUP)
	b.awaitLog("reloaded", 1)
	p.config(a)
	a.d.Signal(syscall.SIGHUP)
	a.awaitLog("reloaded", 1)
	for _, vip := range []string{"10.1.0.2", "fd00:1::2"} {
		lab.Eventually(t, patience, vip+" is on the master",
			func() bool { return strings.Contains(a.Run("ip -o addr show"), " "+vip+"/") })
		if !strings.Contains(b.Run("ip rule show")+b.Run("ip -6 rule show"), "from "+vip+" blackhole") {
			t.Errorf("%s is not fenced on the backup", vip)
		}
	}
	lab.Eventually(t, patience, "the new priority and timer are in use", func() bool {
		r := b.state().Instances[0].Routers[0]
		return a.state().Instances[0].Routers[0].Priority == 210 && r.DownMS < 400
	})
	c.await(t, "event with the new addresses", func(m api.Message) bool {
		return isSnapshot(m) &&
			len(m.State.VIPs) == 8
	})

	p.instances = nil
	p.config(a)
	if out, code := a.ctl("reload"); code != 0 {
		t.Errorf("reload: %d %s", code, out)
	}
	lab.Eventually(t, patience, "the removed addresses are gone", func() bool {
		out := a.Run("ip -o addr show") + a.Run("ip rule show") + a.Run("ip -6 rule show")
		return !strings.Contains(out, " 10.1.0.2/") && !strings.Contains(out, "from 10.1.0.2 ") &&
			!strings.Contains(out, "fd00:1::2")
	})
	settle(t, 500*time.Millisecond)
	a.same(t, wasA)
	b.same(t, wasB)
	if a.holds() != 4 {
		t.Errorf("holds %d addresses", a.holds())
	}
	report := m.Between(began, time.Now())
	m.Stop()
	t.Logf("reloads: %v", report)
	if report.Gap > 100*time.Millisecond {
		t.Errorf("gap of %v", report.Gap)
	}
}

func isSnapshot(m api.Message) bool { return m.Event == api.EventState && m.Snapshot }

// A password is changed node by node, the backup first.
func TestReloadPassword(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	pass := "first"
	p.instances = func(g *gateway) string {
		return fmt.Sprintf("vrrp inside { carpdev in0; version 2; vrid 10; priority %d; pass %q; address "+
			"10.1.0.1/32; group gate }", g.priority, pass)
	}
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.awaitLog("master heard", 1)
	pass = "second"
	was := b.state()
	for _, g := range []*gateway{b, a} {
		p.config(g)
		if out, code := g.ctl("reload"); code != 0 {
			t.Fatalf("reload: %d %s", code, out)
		}
		heard := b.state().Instances[0].Routers[0].Received
		lab.Eventually(t, patience, "the backup hears the master", func() bool {
			return b.state().Instances[0].Routers[0].Received >= heard+2
		})
	}
	b.same(t, was)
	// Now the old one is refused.
	pass = "first"
	p.config(a)
	if _, code := a.ctl("reload"); code != 0 {
		t.Fatal("reload")
	}
	lab.Eventually(t, patience, "the old password is refused", func() bool {
		return b.state().Instances[0].Routers[0].Dropped > 0
	})
}

// The daemon is replaced under traffic on a live master: freeze, restart.
func TestRestart(t *testing.T) {
	p, a, b := run(t)
	c := a.client(true)
	c.await(t, "snapshot", isSnapshot)
	m := p.traffic()
	wasA, wasB := a.state(), b.state()
	for _, how := range []string{"terminated", "killed"} {
		began := time.Now()
		// Two programs end and one starts meanwhile; with the race detector each end
		// takes a second.
		if out, code := a.ctl("freeze", "8"); code != 0 {
			t.Fatalf("freeze: %d %s", code, out)
		}
		c.await(t, "freeze", func(m api.Message) bool { return m.Event == api.EventFreeze && m.For() > 5*time.Second })
		if how == "killed" {
			a.d.Kill()
		} else {
			a.d.MayExit()
			if code := a.d.Term(5 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		}
		// What the unit runs after the end.
		if out, err := a.Try(program(t, "carpd") + " -c " + p.config(a) + " cleanup"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// A slow machine: longer than a down interval, and than the usual lease.
		settle(t, 2500*time.Millisecond)
		p.start(a)
		a.await(api.StateMaster, patience)
		a.awaitLog("mastership continued", 1)
		settle(t, 1500*time.Millisecond)
		a.same(t, wasA)
		b.same(t, wasB)
		if a.holds() != 4 || a.fenced() != 0 || b.holds() != 0 {
			t.Errorf("%s: holds %d, fenced %d, backup holds %d", how, a.holds(), a.fenced(), b.holds())
		}
		report := m.Between(began, time.Now())
		t.Logf("%s: %v", how, report)
		if report.Gap > 150*time.Millisecond {
			t.Errorf("%s: gap %v", how, report.Gap)
		}
	}
	// The backup has learned the normal interval again.
	if down := b.state().Instances[0].Routers[0].DownMS; down > 1000 {
		t.Errorf("the backup waits %d ms for the master", down)
	}
	m.Stop()
}

// A frozen node that finds another master, or the fence set, gives up.
func TestRestartTooLate(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	if _, code := a.ctl("freeze", "2"); code != 0 {
		t.Fatal("freeze")
	}
	a.d.Kill()
	b.await(api.StateMaster, 2*time.Second+takeover)
	p.start(a)
	a.await(api.StateBackup, patience)
	if a.holds() != 0 || a.fenced() != 4 || b.state().State != api.StateMaster {
		t.Errorf("holds %d, fenced %d, the other is %s", a.holds(), a.fenced(), b.state().State)
	}
}

func TestRestartFenced(t *testing.T) {
	t.Parallel()
	p, a, _ := run(t)
	if _, code := a.ctl("freeze", "6"); code != 0 {
		t.Fatal("freeze")
	}
	a.d.Kill()
	a.IP("rule add pref 5 from 10.1.0.1 blackhole proto 112")
	// Without that client it does not take over again: it stays as it gave up.
	p.options = "require sasyncd"
	p.start(a)
	a.await(api.StateBackup, patience)
	lab.Eventually(t, patience, "all is given up and fenced", func() bool { return a.holds() == 0 && a.fenced() == 4 })
	if strings.Contains(a.d.Output(), "mastership continued after a restart") {
		t.Error("mastership was continued behind a fence")
	}
}
