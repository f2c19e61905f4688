package election

import (
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

func isPrepare(to string) func(api.Message) bool {
	return func(m api.Message) bool { return m.Event == api.EventPrepare && m.To == to }
}

func isState(to string) func(api.Message) bool {
	return func(m api.Message) bool { return m.Event == api.EventState && !m.Snapshot && m.To == to }
}

// required starts a pair whose nodes take nothing without their client.
func required(t *testing.T) (p *pair, ca, cb *client) {
	t.Helper()
	p = newPair(t)
	p.options = "require sasyncd; alone after 1s; prepare-timeout 1s"
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	p.start(b)
	a.await(api.StateBackup, patience)
	b.await(api.StateBackup, patience)
	ca, cb = a.client(true), b.client(true)
	connected := func(m api.Message) bool { return m.Event == api.EventState && m.Snapshot }
	ca.await(t, "snapshot", connected)
	cb.await(t, "snapshot", connected)
	return p, ca, cb
}

func ready(t *testing.T, c *client, r api.Ready) {
	t.Helper()
	if err := c.Ready(t.Context(), "gate", r, 0); err != nil {
		t.Fatal(err)
	}
}

func TestRequiredClient(t *testing.T) {
	t.Parallel()
	p, ca, cb := required(t)
	a, b := p.gws[0], p.gws[1]
	// A client that knows somebody who is ahead must not take over, however
	// alone the node is.
	ready(t, ca, api.Ready{Ahead: true})
	lab.Eventually(t, 5*time.Second, "nobody hears a master", func() bool {
		return a.state().Instances[0].Routers[0].Expired && b.state().Instances[0].Routers[0].Expired &&
			a.state().AgeMS > 2500
	})
	if a.holds() != 0 || b.holds() != 0 {
		t.Fatal("an address was taken without a client that is in sync")
	}
	// In sync: at once.
	ready(t, cb, api.Ready{InSync: true})
	b.await(api.StateMaster, patience)
	if !cb.has(isPrepare(api.StateMaster)) {
		t.Error("taken without prepare")
	}
	// The clean master survives the loss of its client, for nobody is ready.
	cb.stop()
	lab.Eventually(t, 5*time.Second, "a while has passed", func() bool { return b.state().AgeMS > 3000 })
	if b.state().State != api.StateMaster {
		t.Error("master stepped down although no peer is ready")
	}
}

func TestAloneAfter(t *testing.T) {
	p, ca, _ := required(t)
	ready(t, ca, api.Ready{})
	began := time.Now()
	p.gws[0].await(api.StateMaster, patience)
	if took := time.Since(began); took < time.Second {
		t.Errorf("not in sync, and master after %v", took)
	}
}

func TestPrepareTimeout(t *testing.T) {
	t.Parallel()
	p, ca, cb := required(t)
	a, b := p.gws[0], p.gws[1]
	ca.mu.Lock()
	ca.answer = false
	ca.mu.Unlock()
	ready(t, ca, api.Ready{InSync: true})
	ca.await(t, "prepare", isPrepare(api.StateMaster))
	// It advertises, so the other one stays away; it takes nothing.
	ready(t, cb, api.Ready{InSync: true})
	if a.holds() != 0 {
		t.Error("addresses before prepared")
	}
	ca.await(t, "cancel", func(m api.Message) bool { return m.Event == api.EventCancel })
	b.await(api.StateMaster, patience)
	if a.holds() != 0 || a.state().State != api.StateBackup {
		t.Error("the node that is not prepared holds on")
	}
}

// The planned change: fence, counters, takeover by order. The successor does
// not wait for any timer.
func TestHandOver(t *testing.T) {
	p, ca, cb := required(t)
	a, b := p.gws[0], p.gws[1]
	ready(t, ca, api.Ready{InSync: true, PeerReady: true})
	a.await(api.StateMaster, patience)
	ready(t, cb, api.Ready{InSync: true, PeerReady: true})
	ca.mu.Lock()
	ca.answer = false
	ca.mu.Unlock()

	for try := 1; !ca.handOver(t, a, cb); try++ {
		if try == 10 {
			t.Fatal("no order came in time")
		}
		b.await(api.StateMaster, patience)
		b.ctl("resign", "gate")
		a.await(api.StateMaster, patience)
	}
	b.await(api.StateMaster, patience)
	a.await(api.StateBackup, patience)
	cb.await(t, "state master", isState(api.StateMaster))
	ca.await(t, "state backup", isState(api.StateBackup))
	if out := a.d.Output(); !strings.Contains(out, "operation=fence") ||
		strings.Index(out, "operation=fence") > strings.Index(out, "operation=release") {
		t.Error("the addresses went before the fence was set")
	}
	if s := b.state(); s.Reason != "takeover" || s.Term < 2 {
		t.Errorf("state %+v", s)
	}
	if a.holds() != 0 || b.holds() != 4 || b.fenced() != 0 {
		t.Errorf("addresses %d and %d, successor fenced %d", a.holds(), b.holds(), b.fenced())
	}
	// And it stays there.
	lab.Eventually(t, 5*time.Second, "two seconds have passed", func() bool { return b.state().AgeMS > 2000 })
	if b.state().State != api.StateMaster || a.state().State != api.StateBackup {
		t.Error("mastership moved back")
	}
}

// The end of the service is a hand-over too.
func TestTerminateHandsOver(t *testing.T) {
	p, ca, cb := required(t)
	a, b := p.gws[0], p.gws[1]
	ready(t, ca, api.Ready{InSync: true})
	a.await(api.StateMaster, patience)
	ready(t, cb, api.Ready{InSync: true})
	a.d.MayExit()
	if code := a.d.Term(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !ca.has(isPrepare(api.StateBackup)) {
		t.Error("no prepare before the end")
	}
	b.await(api.StateMaster, patience)
	if r := b.state().Reason; r != "master resigned" {
		t.Errorf("reason %q", r)
	}
}
