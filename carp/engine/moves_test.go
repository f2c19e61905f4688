package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

// TestTakeoverIsMeasured: from the last advertisement of the master before.
func TestTakeoverIsMeasured(t *testing.T) {
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	e.packet(e.routers[0].port, time.Second, advert(t, nil))
	if s := e.state(g, time.Second); s.Takeover != nil || s.OutageMS <= 500 || s.OutageMS > 1000 {
		t.Fatalf("before: takeover %+v, predicted outage %d ms, want three intervals of 250 ms and a skew", s.Takeover,
			s.OutageMS)
	}
	g.course = course{decided: 1790 * time.Millisecond, prepared: 1792 * time.Millisecond,
		addresses: 1797 * time.Millisecond, fence: 1799 * time.Millisecond}
	g.moved(1800*time.Millisecond, carp.Action{Kind: carp.ActState, Old: carp.Backup, To: carp.Master,
		Reason: "silence"})
	s := e.state(g, 2*time.Second)
	if s.Takeover == nil || s.Takeover.GapMS != 800 || s.Takeover.AgeMS != 200 || s.Takeover.From != peerAddr ||
		s.Takeover.Reason != "silence" {
		t.Errorf("takeover %+v", s.Takeover)
	}
	want := []api.Step{{Step: api.StepDecided, After: 0.79}, {Step: api.StepPrepared, After: 0.792},
		{Step: api.StepAddresses, After: 0.797}, {Step: api.StepFence, After: 0.799}}
	if d := cmp.Diff(want, s.Takeover.Steps); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
	for _, m := range s.Transitions {
		if want := m.From == "backup" && m.To == "master"; (m.Count == 1) != want && m.From != "init" {
			t.Errorf("transition %+v", m)
		}
	}
}

// TestGapBeginsWithTheLastSign: a master that resigns has given its last sign then,
// and one that was fenced before that, and said so, when it was fenced. A return
// of this node's own mastership is no takeover.
func TestGapBeginsWithTheLastSign(t *testing.T) {
	const ms = time.Millisecond
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	to := func(at time.Duration, from, to carp.State) *api.Takeover {
		g.moved(at, carp.Action{Kind: carp.ActState, Old: from, To: to, Reason: "test"})
		return e.state(g, at).Takeover
	}
	e.packet(e.routers[0].port, 1000*ms, advert(t, nil))
	e.packet(e.routers[0].port, 1200*ms, advert(t, func(_ *packet.Frame, a *packet.VRRP) { a.Priority = 0 }))
	if s := to(1210*ms, carp.Backup, carp.Master); s == nil || s.GapMS != 10 {
		t.Errorf("after a resignation: %+v, want 10 ms", s)
	}
	to(5000*ms, carp.Master, carp.Backup)
	if s := to(5300*ms, carp.Backup, carp.Master); s.AgeMS != 4090 {
		t.Errorf("its own mastership again: %+v, want that of 4.09 s ago", s)
	}
	to(6000*ms, carp.Master, carp.Backup)
	e.packet(e.routers[0].port, 9000*ms, advert(t, nil))
	_ = e.serveGroup(9210*ms, api.Peer{Trusted: true}, new(session), api.Request{Verb: api.VerbTakeover,
		Group: "g", SilentMS: 30}, func() error { return nil })
	if s := to(9215*ms, carp.Backup, carp.Master); s.GapMS != 35 {
		t.Errorf("after the word that it was fenced for 30 ms: %+v, want 35 ms", s)
	}
}

// TestColdStartIsNoTakeover: where no master was heard nobody lost anything.
func TestColdStartIsNoTakeover(t *testing.T) {
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	g.moved(time.Second, carp.Action{Kind: carp.ActState, Old: carp.Backup, To: carp.Master})
	if s := e.state(g, time.Second); s.Takeover != nil {
		t.Errorf("takeover %+v", s.Takeover)
	}
}

// TestTakeoverOfAnUnknownGroup is refused, however long its master was silent.
func TestTakeoverOfAnUnknownGroup(t *testing.T) {
	e, _ := testEngine(t, nil)
	for _, silent := range []int64{0, 30} {
		err := e.serveGroup(time.Second, api.Peer{Trusted: true}, new(session), api.Request{Verb: api.VerbTakeover,
			Group: "absent", SilentMS: silent}, func() error { return nil })
		if err == nil {
			t.Errorf("silent for %d ms: taken", silent)
		}
	}
}
