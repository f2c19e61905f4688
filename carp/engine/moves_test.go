package engine

import (
	"testing"
	"time"

	"sasyncd/carp"
)

// TestTakeoverIsMeasured: from the last advertisement of the master before.
func TestTakeoverIsMeasured(t *testing.T) {
	e, _ := testEngine(t, nil)
	g := e.groups[0]
	e.packet(e.routers[0].port, time.Second, advert(t, nil))
	if s := e.state(g, time.Second); s.Takeover != nil || s.OutageMS <= 500 || s.OutageMS > 1000 {
		t.Fatalf("before: takeover %+v, predicted outage %d ms, want three intervals of 250 ms and a skew", s.Takeover, s.OutageMS)
	}
	g.moved(1800*time.Millisecond, carp.Action{Kind: carp.ActState, Old: carp.Backup, To: carp.Master, Reason: "silence"})
	s := e.state(g, 2*time.Second)
	if s.Takeover == nil || s.Takeover.GapMS != 800 || s.Takeover.AgeMS != 200 || s.Takeover.From != peerAddr || s.Takeover.Reason != "silence" {
		t.Errorf("takeover %+v", s.Takeover)
	}
	for _, m := range s.Transitions {
		if want := m.From == "backup" && m.To == "master"; (m.Count == 1) != want && m.From != "init" {
			t.Errorf("transition %+v", m)
		}
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
