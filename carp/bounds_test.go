package carp

import (
	"testing"
	"time"
)

// TestHoldBackIsBounded: a promise not to take over ends, however long it was asked for.
func TestHoldBackIsBounded(t *testing.T) {
	for hold, until := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second,
		maxHoldBack: maxHoldBack, time.Hour: maxHoldBack} {
		s := start(t, twoRouters())
		s.do(Event{Kind: EvHoldBack, Hold: hold, Client: 7, Reason: "a hand-over", Request: 1})
		s.expect("reply <nil>")
		s.to(until - ms)
		s.expect()
		s.to(until + time.Second)
		s.expect("term 1", "acquire")
	}
}

// TestLateAnswerOfAWitness takes nothing back, and one of the future proves nothing more
// than one of now.
func TestLateAnswerOfAWitness(t *testing.T) {
	cfg := twoRouters()
	cfg.Witness = true
	for _, late := range []bool{true, false} {
		s := start(t, cfg)
		s.do(Event{Kind: EvWitness, Witness: true})
		for i := range s.g.routers {
			s.heard(i, 200)
		}
		s.to(300 * ms)
		if late {
			s.do(Event{Kind: EvWitness, Witness: true, Proof: s.now})
			s.to(400 * ms)
			s.do(Event{Kind: EvWitness, Witness: true, Proof: s.now})
			s.do(Event{Kind: EvWitness, Witness: true, Proof: 350 * ms})
		} else {
			s.do(Event{Kind: EvWitness, Witness: true, Proof: time.Hour})
		}
		s.to(902 * ms)
		s.expect()
		if s.to(903 * ms); late {
			s.expect("term 1", "acquire")
		} else {
			s.to(5 * time.Second)
			s.expect()
		}
	}
}

// TestTrafficWaitsForASlowMaster: a better master without traffic gives way to a lesser one
// only after that one must have heard it, and it says how often it listens.
func TestTrafficWaitsForASlowMaster(t *testing.T) {
	for every, patience := range map[time.Duration]time.Duration{100 * ms: 375 * ms, time.Second: 1500 * ms} {
		cfg := twoRouters()
		cfg.PreferTraffic = true
		s := start(t, cfg)
		s.master()
		began := s.now
		for s.g.step.phase == phaseMaster && s.now-began < 5*time.Second {
			s.do(Event{Kind: EvAdvert, Router: 0, Advert: Advert{From: lowAddr, Priority: 50, Interval: every}})
			s.to(s.now + 25*ms)
		}
		if took := s.now - began; took < patience || took > patience+100*ms {
			t.Errorf("one that advertises every %v: given way after %v, want %v", every, took, patience)
		}
	}
}

// TestIntervalOfABackup: what was not learned from a master is as it is set, at once.
func TestIntervalOfABackup(t *testing.T) {
	for _, tt := range []struct{ was, is, least, most time.Duration }{
		{250 * ms, 2 * time.Second, 6 * time.Second, 9 * time.Second},
		{5 * time.Second, 250 * ms, 750 * ms, 1100 * ms}} {
		cfg := twoRouters()
		for i := range cfg.Routers {
			cfg.Routers[i].Interval = tt.was
		}
		s := start(t, cfg)
		cfg = twoRouters()
		for i := range cfg.Routers {
			cfg.Routers[i].Interval = tt.is
		}
		s.g.Reconfigure(s.now, cfg)
		s.to(tt.least)
		s.expect()
		s.to(tt.most)
		s.expect("term 1", "acquire")
	}
}

// TestAnswersOfEachInterval: those to a flood are bounded, and begin anew with each
// advertisement that is due.
func TestAnswersOfEachInterval(t *testing.T) {
	r := inState(RouterConfig{Proto: VRRP3, ID: 1, Priority: 200, Interval: 250 * ms}, "master")
	for range 3 {
		sent, now := 0, r.Deadline()-100*ms
		for range 3 * maxAnswers {
			for _, a := range r.Step(now, RouterEvent{Kind: RouterAdvert, Advert: Advert{From: lowAddr, Priority: 1,
				Interval: 250 * ms}}) {
				if a.Kind == RouterSend {
					sent++
				}
			}
		}
		if sent != maxAnswers {
			t.Errorf("%d answers, want %d", sent, maxAnswers)
		}
		r.Step(r.Deadline(), RouterEvent{Kind: RouterTick})
	}
}
