package carp

import (
	"testing"
	"time"
)

// held is a backup of a master of priority 200 that has promised to hold back.
func held(t *testing.T, cfg GroupConfig) *script {
	s := start(t, cfg)
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd"})
	s.heard(0, 200)
	s.heard(1, 200)
	s.do(Event{Kind: EvHoldBack, Client: 7, Hold: 10 * time.Second, Reason: "b is next", Request: 1})
	s.expect("reply <nil>")
	return s
}

// While the promise holds, neither silence nor a resignation makes the group
// take over; when it ends, the group does what it would have done.
func TestHoldBackEndsByItself(t *testing.T) {
	s := held(t, twoRouters())
	s.heard(0, 0)
	s.heard(1, 0)
	s.to(s.now + 9*time.Second)
	s.expect()
	if got := s.g.Snapshot(s.now).Blocked; got != "holding back: b is next" {
		t.Errorf("blocked: %q", got)
	}
	s.to(s.now + 2*time.Second)
	s.expect("term 1", "acquire")
}

func TestHoldBackEndsWithItsHolder(t *testing.T) {
	for name, ev := range map[string]Event{
		"gone":     {Kind: EvGone, Client: 7},
		"withdraw": {Kind: EvHoldBack, Client: 7},
	} {
		t.Run(name, func(t *testing.T) {
			s := held(t, twoRouters())
			s.heard(0, 0)
			s.heard(1, 0)
			s.to(s.now + 2*time.Second)
			s.do(ev)
			s.to(s.now + time.Second)
			s.expect("term 1", "acquire")
		})
	}
}

// Whoever was let past is not preempted afterwards, by a better one either.
func TestHoldBackDoesNotPreemptTheSuccessor(t *testing.T) {
	cfg := twoRouters()
	cfg.Preempt = PreemptYes
	for _, held := range []bool{false, true} {
		s := start(t, cfg)
		hear := func(prio uint8) { s.heard(0, prio); s.heard(1, prio) }
		hear(200)
		if held {
			s.do(Event{Kind: EvHoldBack, Client: 7, Hold: 2 * time.Second})
		}
		for range 40 { // 10 s, a lesser one all the time
			s.to(s.now + 250*ms)
			hear(50)
		}
		if got := s.g.Snapshot(s.now).Term == 0; got != held {
			t.Errorf("held %v: kept from preempting %v", held, got)
		}
	}
}

func TestHoldBackGivesWayToAnOrder(t *testing.T) {
	s := held(t, twoRouters())
	s.do(Event{Kind: EvTakeover, Term: 41, Request: 2})
	s.expect("reply <nil>", "term 42", "acquire")
	s.do(Event{Kind: EvHoldBack, Client: 7, Hold: time.Second, Request: 3})
	s.expect("reply " + ErrIsMaster.Error())
}
