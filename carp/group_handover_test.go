package carp

import (
	"testing"
	"time"
)

func TestGroupHandOver(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.done()
	s.expect("term 1", "prepare master", "acquire", "state backup>master (no master heard)")

	s.do(Event{Kind: EvResign, Reason: "upgrade", Request: 5})
	s.expect("fence", "reply <nil>")
	s.done()
	s.expect("prepare backup")
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.expect("release")
	s.done()
	s.expect("advert 0 prio 0", "advert 1 prio 0", "state master>backup (upgrade)")
	end := s.now
	// The successor has a whole down interval to itself.
	s.to(end + 900*ms)
	s.expect()
	// Nobody came: serve again rather than not at all.
	s.to(end + 2*time.Second)
	s.expect("term 2", "prepare master")
}

func TestGroupHandOverIsSilentAndBounded(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.done()
	s.log = nil
	s.do(Event{Kind: EvResign})
	s.done()
	s.log = nil
	s.to(s.now + 99*ms)
	if len(s.log) != 0 {
		t.Fatalf("while handing over: %q", s.log)
	}
	s.to(s.now + ms)
	s.expect("release")
}

func TestGroupHandOverEndsWithTheSuccessor(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(time.Second)
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
	s.done()
	s.do(Event{Kind: EvResign})
	s.done()
	s.log = nil
	s.heard(0, 1) // of lower priority, but ordered to take over
	s.heard(1, 1)
	s.expect("release")
	s.done()
	s.expect("state master>backup (resign)")
}

func TestGroupTakeover(t *testing.T) {
	cfg := twoRouters()
	cfg.StartHold = time.Hour
	s := start(t, cfg)
	s.heard(0, 200)
	s.heard(1, 200)
	s.do(Event{Kind: EvTakeover, Term: 41, Request: 1})
	// No waiting for timers: the old master is silent.
	s.expect("reply <nil>", "term 42", "acquire")
	s.do(Event{Kind: EvTakeover, Term: 42, Request: 2})
	s.expect("reply " + ErrIsMaster.Error())
}

// Who orders a takeover is prepared; everybody else is waited for.
func TestGroupTakeoverByAClient(t *testing.T) {
	s := start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.heard(0, 200)
	s.heard(1, 200)
	s.do(Event{Kind: EvTakeover, Client: 7, Term: 41, Request: 1})
	s.expect("reply <nil>", "term 42", "prepare master", "acquire")
	s.do(Event{Kind: EvPrepared, Client: 7, Term: 42}) // it answers all the same
	s.expect()
	s.done()
	s.expect("state backup>master (takeover)")
	s.do(Event{Kind: EvResign, Request: 2})
	s.done()
	s.expect("fence", "reply <nil>", "prepare backup")

	s = start(t, twoRouters())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.do(Event{Kind: EvClient, Client: 8, Name: FenceClient, Prepare: true})
	s.do(Event{Kind: EvTakeover, Client: 7, Term: 41, Request: 1})
	s.expect("reply <nil>", "term 42", "prepare master")
	s.do(Event{Kind: EvPrepared, Client: 8, Term: 42})
	s.expect("acquire")
}

func TestGroupTakeoverRefused(t *testing.T) {
	cfg := twoRouters()
	cfg.Require = []string{"sasyncd"}
	s := start(t, cfg)
	s.do(Event{Kind: EvTakeover, Term: 1, Request: 1})
	s.expect("reply " + ErrNotEligible.Error())
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true, Term: 9})
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true}})
	s.do(Event{Kind: EvTakeover, Term: 8, Request: 2})
	s.expect("reply " + ErrOldTerm.Error())
	s.do(Event{Kind: EvDown, Router: 1})
	s.do(Event{Kind: EvTakeover, Term: 9, Request: 3})
	s.expect("state backup>init (interface down)", "reply "+ErrRouterDown.Error())
}
