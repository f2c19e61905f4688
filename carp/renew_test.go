package carp

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A MASTER whose addresses are not there must not be heard.
func (s *script) silent(why string) {
	s.t.Helper()
	s.log = nil
	s.to(s.now + 20*time.Second)
	for _, l := range s.log {
		if strings.HasPrefix(l, "advert") && !strings.HasSuffix(l, "prio 0") {
			s.t.Fatalf("%s: still advertises: %q", why, s.log)
		}
	}
}

// A worker that does not answer ends a mastership, or the attempt at one, and there
// is none until it has answered.
func TestWorkerSilent(t *testing.T) {
	const stuck = "leases are not renewed: " + whyStuck
	for _, tc := range []struct {
		name string
		lead func(s *script) // to what is not answered any more
		want []string        // until all is given up
	}{
		{"acquiring", func(s *script) { s.to(s.now + time.Second) }, []string{"term 1", "acquire", "release"}},
		{"as master", func(s *script) {
			s.master()
			s.renewal = errSilent
		}, []string{"announce", "release", "state master>backup (" + stuck + ")"}},
		{"fencing", func(s *script) {
			s.master()
			s.do(Event{Kind: EvResign})
		}, []string{"fence", "release", "state master>backup (resign)"}},
		{"releasing", func(s *script) {
			s.master()
			s.do(Event{Kind: EvDown, Router: 0})
			s.do(Event{Kind: EvUp, Router: 0, Src: ownAddr})
		}, []string{"release", "state master>backup (interface down)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, twoRouters())
			tc.lead(s)
			began := s.now
			for s.g.step.phase != phaseIdle && s.now < began+time.Minute {
				s.to(s.now + 100*ms)
			}
			if took := s.now - began; took > 2*operateLimit+100*ms {
				t.Errorf("given up after %v", took)
			}
			s.expect(tc.want...)
			s.silent("after it was given up")
			if why := s.g.Snapshot(s.now).Blocked; why != whyStuck {
				t.Errorf("blocked by %q, want %q", why, whyStuck)
			}
			s.do(Event{Kind: EvTakeover, Term: 9, Request: 1})
			s.expect("reply " + ErrStuck.Error())
			// It answers at last: the node is a candidate again.
			s.done()
			s.to(s.now + 2*time.Second)
			s.expect("term 2", "acquire")
		})
	}
}

// A renewal that fails is tried again, and acted upon before the leases end.
func TestRenewalFails(t *testing.T) {
	no := errors.New("operation not permitted")
	for _, interval := range []time.Duration{10 * ms, 250 * ms, 650 * ms, time.Second, 3 * time.Second} {
		cfg := twoRouters()
		for i := range cfg.Routers {
			cfg.Routers[i].Interval = interval
		}
		s := start(t, cfg)
		for s.g.step.phase != phaseAcquiring {
			s.to(s.now + 10*ms)
		}
		s.done()
		s.to(s.now + 4*time.Second)
		good := s.g.renewal.good
		s.renewal, s.log = no, nil
		for s.g.step.phase == phaseMaster && s.now < good+time.Minute {
			s.to(s.now + 10*ms)
		}
		tries := 0
		for _, l := range s.log {
			if l == "renew" {
				tries++
			}
		}
		if end := good + cfg.Routers[0].Lease(); s.now >= end || tries < 2 {
			t.Errorf("interval %v: given up after %d tries %v before the leases end", interval, tries, end-s.now)
		}
		s.done()
		if got := s.g.Snapshot(s.now).Reason; got != "leases cannot be renewed: "+no.Error() {
			t.Errorf("interval %v: reason %q", interval, got)
		}
	}
	// One that fails now and then is no reason.
	s := start(t, twoRouters())
	s.master()
	for range 30 {
		s.renewal = no
		s.to(s.now + 600*ms)
		s.renewal = nil
		s.to(s.now + time.Second)
	}
	if s.g.step.phase != phaseMaster {
		t.Errorf("failures that pass ended the mastership: %s", s.g.Snapshot(s.now).Reason)
	}
}

// An answer to a renewal of an earlier mastership says nothing of this one.
func TestOldRenewal(t *testing.T) {
	s := start(t, twoRouters())
	s.master()
	s.to(s.now + time.Second)
	old := s.now
	s.do(Event{Kind: EvResign})
	s.done() // fence
	s.done() // release
	s.log = nil
	s.to(s.now + 5*time.Second)
	s.done() // acquire
	before := s.g.renewal
	s.do(Event{Kind: EvRenewed, Proof: old, Err: errors.New("late")})
	if s.g.renewal != before {
		t.Errorf("%+v became %+v", before, s.g.renewal)
	}
}

// Another MAC address of the interface is announced as a takeover is.
func TestMoved(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvMoved, Router: 0})
	s.expect() // nothing to announce
	s.master()
	s.to(s.now + 30*time.Second)
	s.log = nil
	s.do(Event{Kind: EvMoved, Router: 0})
	s.expect("announce")
	s.to(s.now + 10*time.Second)
	s.expect("announce", "announce")
}
