package carp

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// What holds for a group holds for each of its routers and clients, whichever it is.

// TestHandLimit: the silence of a hand-over is bounded by the fastest router.
func TestHandLimit(t *testing.T) {
	for _, tt := range []struct{ a, b, want time.Duration }{{250 * ms, 250 * ms, handTime},
		{10 * ms, 250 * ms, 20 * ms}, {250 * ms, 10 * ms, 20 * ms}, {60 * ms, 50 * ms, handTime}} {
		cfg := twoRouters()
		cfg.Routers[0].Interval, cfg.Routers[1].Interval = tt.a, tt.b
		s := start(t, cfg)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
		s.to(2 * time.Second)
		s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
		s.done()
		s.do(Event{Kind: EvResign, Request: 1})
		var limit time.Duration
		for _, a := range s.g.Step(s.now, Event{Kind: EvDone, Op: s.op}) {
			if a.Kind == ActPrepare {
				limit = a.For
			}
		}
		if limit != tt.want || s.g.Deadline() != s.now+tt.want {
			t.Errorf("%v and %v: clients have %v, and it ends after %v, want %v", tt.a, tt.b, limit, s.g.Deadline()-s.now,
				tt.want)
		}
	}
}

// TestRenewalNeedsEachRouter: leases are renewed only while each router is heard.
func TestRenewalNeedsEachRouter(t *testing.T) {
	for mute := range 2 {
		s := start(t, twoRouters())
		s.master()
		s.to(s.now + 5*time.Second)
		renewed := func() (n int) {
			for _, l := range s.log {
				if l == "renew" {
					n++
				}
			}
			s.log = nil
			return n
		}
		if renewed() < 4 {
			t.Fatal("leases are not renewed")
		}
		// The advertisements of one do not leave any more; those of the other do.
		for end := s.now + 600*ms; s.now < end; {
			s.now = max(s.now, s.g.Deadline())
			for _, a := range slices.Clone(s.g.Step(s.now, Event{Kind: EvTick})) {
				if a.Kind != ActAdvert || a.Router == mute {
					continue
				}
				for _, b := range s.g.Step(s.now, Event{Kind: EvSent, Router: a.Router}) {
					if b.Kind == ActRenew && s.now > end-600*ms+375*ms {
						t.Errorf("router %d is not heard for %v, and leases are renewed", mute, s.now-end+600*ms)
					}
				}
			}
		}
	}
}

// TestAloneCountsFromTheLastMaster that any router has heard.
func TestAloneCountsFromTheLastMaster(t *testing.T) {
	for router := range 2 {
		cfg := twoRouters()
		cfg.Require = []string{"sasyncd"}
		s := start(t, cfg)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
		s.do(Event{Kind: EvReady, Client: 7})
		s.to(8 * time.Second)
		s.heard(router, 50)
		s.to(17900 * ms)
		s.expect()
		s.to(19 * time.Second)
		s.expect("term 1", "prepare master")
	}
}

// TestCancelReachesWhoPrepares, whoever else there is.
func TestCancelReachesWhoPrepares(t *testing.T) {
	for range 20 { // the order of clients is not theirs
		s := start(t, twoRouters())
		for id := range 4 {
			s.do(Event{Kind: EvClient, Client: uint64(id + 1), Name: "x", Prepare: id == 2})
		}
		s.to(time.Second)
		s.expect("term 1", "prepare master")
		s.do(Event{Kind: EvDown, Router: 1})
		s.expect("cancel (interface down)", "advert 0 prio 0", "state backup>init (interface down)")
		if d := s.g.Snapshot(s.now).Demotions; len(d) != 1 || d[0].Reason != "interface down" || d[0].By != 1 {
			t.Errorf("demotions %+v", d)
		}
	}
}

// TestStopInEachPhase: an order to stop ends in a stop, by way of what was under way.
func TestStopInEachPhase(t *testing.T) {
	for name, tt := range map[string]struct {
		lead func(s *script)
		want []string
	}{
		"backup": {func(*script) {}, []string{"stopped"}},
		"preparing": {func(s *script) { s.to(time.Second) }, []string{"cancel (stopping)",
			"advert 0 prio 0", "advert 1 prio 0", "stopped"}},
		"master": {func(s *script) {
			s.to(time.Second)
			s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
			s.done()
		}, []string{"fence"}},
		"fencing": {func(s *script) {
			s.to(time.Second)
			s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
			s.done()
			s.do(Event{Kind: EvResign, Request: 1})
		}, nil},
		"handing over": {func(s *script) {
			s.to(time.Second)
			s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
			s.done()
			s.do(Event{Kind: EvResign, Request: 1})
			s.done()
		}, nil},
	} {
		s := start(t, twoRouters())
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
		tt.lead(s)
		s.log = nil
		s.do(Event{Kind: EvStop})
		s.expect(tt.want...)
		for range 4 {
			s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
			s.done()
		}
		if s.g.step.phase != phaseStopped {
			t.Errorf("%s: does not stop, phase %v", name, s.g.step.phase)
		}
		s.log = nil
		s.heard(0, 0)
		s.to(s.now + time.Minute)
		s.expect()
	}
}

// TestResignEndsAnAttempt: while it is preparing, and while addresses are being taken.
func TestResignEndsAnAttempt(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.expect("term 1", "prepare master")
	s.do(Event{Kind: EvResign, Reason: "order", Request: 1})
	s.expect("cancel (order)", "advert 0 prio 0", "advert 1 prio 0", "reply <nil>")
	s.do(Event{Kind: EvResign, Reason: "order", Request: 1})
	s.expect("reply " + ErrNotMaster.Error())
	s.to(s.now + 3*time.Second)
	s.expect("term 2", "prepare master")
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 2})
	s.do(Event{Kind: EvResign, Request: 1})
	s.expect("acquire", "cancel (resign)", "release", "reply <nil>")
	s.done()
	s.expect("advert 0 prio 0", "advert 1 prio 0")
}

// TestPrepareOfAnotherTerm says nothing of this one; nor does one that comes too late.
func TestPrepareOfAnotherTerm(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.do(Event{Kind: EvClient, Client: 8, Name: "other", Prepare: true})
	s.to(time.Second)
	s.expect("term 1", "prepare master")
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 9})
	s.do(Event{Kind: EvPrepared, Client: 8, Term: 1})
	s.do(Event{Kind: EvPrepared, Client: 8, Term: 1})
	s.expect()
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.expect("acquire")
}

// TestAnnounceOnOrder: a MASTER announces its addresses anew, and nobody else.
func TestAnnounceOnOrder(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvAnnounce, Request: 1})
	s.expect("reply " + ErrNotMaster.Error())
	s.master()
	s.do(Event{Kind: EvAnnounce, Request: 1})
	s.expect("announce", "reply <nil>")
}

// TestSnapshotOfEachRouter: what is shown of each, and of a CARP host.
func TestSnapshotOfEachRouter(t *testing.T) {
	s := start(t, twoRouters())
	s.to(100 * ms)
	s.heard(1, 200)
	s.to(300 * ms)
	got := s.g.Snapshot(s.now)
	if len(got.Routers) != 2 || got.Routers[0].Master.IsValid() || got.Routers[0].Heard >= 0 || got.Routers[0].Sign >= 0 ||
		got.Routers[1].Master != highAddr || got.Routers[1].Heard != 200*ms || got.Routers[1].Sign != 200*ms ||
		got.Routers[1].Priority != 100 || got.Routers[1].State != Backup || !got.Fenced || got.Age != 300*ms {
		t.Errorf("%+v", got)
	}
	c := carpScript(t, nil)
	if r := c.g.Snapshot(0).Routers[1]; r.Priority != 0 || r.Base != 1 || r.Skew != 100 {
		t.Errorf("%+v", r)
	}
}

// TestReconfigureEachRouter: the settings of the second count as those of the first.
func TestReconfigureEachRouter(t *testing.T) {
	for i := range 2 {
		s := start(t, twoRouters())
		s.master()
		cfg := twoRouters()
		cfg.Routers[i].Priority = 120
		acts := s.g.Reconfigure(s.now, cfg)
		if len(acts) != 1 || acts[0].Kind != ActAdvert || acts[0].Router != i || acts[0].Priority != 120 {
			t.Errorf("router %d: actions %+v", i, acts)
		}
		cfg.Routers[i].Interval = 100 * ms
		acts = s.g.Reconfigure(s.now, cfg)
		if len(acts) != 1 || acts[0].Router != i {
			t.Errorf("router %d: actions %+v", i, acts)
		}
		cfg.Routers = cfg.Routers[:1]
		if acts := s.g.Reconfigure(s.now, cfg); len(acts) != 0 || len(s.g.cfg.Routers) != 2 {
			t.Error("a group loses a router while it runs")
		}
		s.do(Event{Kind: EvStop})
		s.done()
		s.done()
		cfg = twoRouters()
		cfg.Name = "other"
		if s.g.Reconfigure(s.now, cfg); s.g.cfg.Name == "other" {
			t.Error("a stopped group is changed")
		}
	}
}

// TestLeases: as long as the slowest router needs, for each protocol.
func TestLeases(t *testing.T) {
	for _, tt := range []struct {
		proto    Proto
		interval time.Duration
		want     time.Duration
	}{{VRRP3, 10 * ms, 2 * time.Second}, {VRRP3, time.Second, 2 * time.Second}, {VRRP3, 3 * time.Second, 6 * time.Second},
		{VRRP2, 5 * time.Second, 10 * time.Second}, {CARP, 10 * ms, 2 * time.Second}, {CARP, time.Second, 2 * time.Second},
		{CARP, 1499 * ms, 2 * time.Second}, {CARP, 1500 * ms, 3 * time.Second}, {CARP, 3 * time.Second, 4 * time.Second}} {
		if got := (RouterConfig{Proto: tt.proto, Interval: tt.interval}).Lease(); got != tt.want {
			t.Errorf("%v every %v: %v, want %v", tt.proto, tt.interval, got, tt.want)
		}
	}
	for i := range 2 {
		cfg := twoRouters()
		cfg.Routers[i].Interval = 7 * time.Second
		if got := NewGroup(cfg, 0, 0).lease(); got != 14*time.Second {
			t.Errorf("router %d is slow: a lease of %v", i, got)
		}
	}
}

// TestTermsOfClients: which are believed, of which nobody may be told to be sorry.
func TestTermsOfClients(t *testing.T) {
	s := start(t, twoRouters())
	for _, tt := range []struct {
		term uint64
		err  error
		seen uint64
	}{{5, nil, 5}, {3, nil, 5}, {5 + maxTermStep, nil, 5 + maxTermStep},
		{5 + 2*maxTermStep + 1, ErrHighTerm, 5 + maxTermStep}, {1 << 63, ErrHighTerm, 5 + maxTermStep}} {
		s.log = nil
		s.do(Event{Kind: EvTerm, Term: tt.term, Request: 1})
		if got := s.g.Snapshot(0).Seen; got != tt.seen || !strings.HasSuffix(s.log[0], errText(tt.err)) {
			t.Errorf("term %d: seen %d, %q", tt.term, got, s.log)
		}
	}
	s.g.seen = maxTerm - 1
	s.do(Event{Kind: EvTerm, Term: maxTerm})
	if s.do(Event{Kind: EvTerm, Term: maxTerm + 1}); s.g.seen != maxTerm {
		t.Errorf("seen %d", s.g.seen)
	}
}

func errText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}

// TestSendFailures: as many in a row as it takes, and as many successes to end it, of each
// router by itself.
func TestSendFailures(t *testing.T) {
	no := errors.New("no buffers")
	for i := range 2 {
		s := start(t, twoRouters())
		sum := func() int { return s.g.Snapshot(s.now).Demotion }
		for n := 1; n <= 5; n++ {
			s.do(Event{Kind: EvSent, Router: i, Err: no})
			s.do(Event{Kind: EvSent, Router: 1 - i})
			if want := b2i(n >= sendLimit); sum() != want {
				t.Errorf("router %d: demoted by %d after %d failures, want %d", i, sum(), n, want)
			}
		}
		for n := 1; n <= 5; n++ {
			s.do(Event{Kind: EvSent, Router: i})
			if want := b2i(n < sendLimit); sum() != want {
				t.Errorf("router %d: demoted by %d after %d successes, want %d", i, sum(), n, want)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
