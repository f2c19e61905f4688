package carp

import (
	"testing"
	"time"
)

func TestGroupRequire(t *testing.T) {
	cfg := twoRouters()
	cfg.Require = []string{"sasyncd"}
	s := start(t, cfg)
	s.to(time.Minute)
	s.expect() // alone, but without its client

	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.to(s.now + time.Minute)
	s.expect() // a client that has not reported may know somebody better
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{Ahead: true}})
	s.to(s.now + time.Minute)
	s.expect()
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{}})
	s.to(s.now + 9900*ms)
	s.expect()
	s.to(s.now + 300*ms)
	s.expect("term 1", "prepare master") // alone after 10 s, plus the skew
}

func TestGroupRequireInSync(t *testing.T) {
	cfg := twoRouters()
	cfg.Require = []string{"sasyncd"}
	cfg.AloneAfter = -1
	s := start(t, cfg)
	s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{}})
	s.to(time.Hour)
	s.expect()
	s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true}})
	s.to(s.now + time.Second)
	s.expect("term 1", "prepare master")
	// The client dies before the address is taken.
	s.do(Event{Kind: EvGone, Client: 7})
	s.expect("advert 0 prio 0", "advert 1 prio 0")
	s.to(s.now + time.Hour)
	s.expect()
}

func TestGroupMasterLosesItsClient(t *testing.T) {
	for _, ready := range []bool{false, true} {
		cfg := twoRouters()
		cfg.Require = []string{"sasyncd"}
		s := start(t, cfg)
		s.do(Event{Kind: EvClient, Client: 7, Name: "sasyncd", Prepare: true})
		s.do(Event{Kind: EvReady, Client: 7, Ready: Ready{InSync: true, PeerReady: ready}})
		s.to(2 * time.Second)
		s.do(Event{Kind: EvPrepared, Client: 7, Term: 1})
		s.done()
		s.do(Event{Kind: EvGone, Client: 7})
		s.log = nil
		s.to(s.now + lostLimit - 100*ms)
		s.expect("announce", "announce")
		s.to(s.now + time.Second)
		if ready {
			s.expect("fence")
		} else {
			s.expect() // a healthy master survives
		}
	}
}
