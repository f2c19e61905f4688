package carp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// script drives one group and its kernel and records what it does.
type script struct {
	t   *testing.T
	g   *Group
	now time.Duration
	op  uint64
	log []string
	fit []fitness // as told

	renewal error // of each renewal
}

func twoRouters() GroupConfig {
	rc := RouterConfig{Proto: VRRP3, ID: 1, Priority: 100, Interval: 250 * ms}
	return GroupConfig{Name: "ipsec", Routers: []RouterConfig{rc, rc}, PrepareTimeout: 2 * time.Second,
		AloneAfter: 10 * time.Second}
}

// start brings a group to Backup with both interfaces up.
func start(t *testing.T, cfg GroupConfig) *script {
	t.Helper()
	s := &script{t: t, g: NewGroup(cfg, 0, 0)}
	for i := range cfg.Routers {
		s.do(Event{Kind: EvUp, Router: i, Src: ownAddr})
	}
	s.expect("state init>backup (interfaces up)")
	return s
}

func (s *script) do(ev Event) {
	s.t.Helper()
	for _, a := range slices.Clone(s.g.Step(s.now, ev)) {
		var line string
		switch a.Kind {
		case ActFitness: // has tests of its own
			s.fit = append(s.fit, fitness{int(a.Demotion), a.Unwilling})
			continue
		case ActAdvert:
			line = fmt.Sprintf("advert %d prio %d", a.Router, a.Priority)
		case ActFence:
			line, s.op = "fence", a.Op
		case ActAcquire:
			line, s.op = "acquire", a.Op
		case ActRelease:
			line, s.op = "release", a.Op
		case ActRenew:
			line = "renew"
		case ActAnnounce:
			line = "announce"
		case ActTerm:
			line = fmt.Sprintf("term %d", a.Term)
		case ActPrepare:
			line = fmt.Sprintf("prepare %v", a.To)
		case ActCancel:
			line = fmt.Sprintf("cancel (%s)", a.Reason)
		case ActState:
			line = fmt.Sprintf("state %v>%v (%s)", a.Old, a.To, a.Reason)
		case ActContested:
			line = fmt.Sprintf("contested by %v", a.Peer)
			if a.For > 0 {
				line = "contest over"
			}
		case ActStall:
			line = "stall"
		case ActReply:
			line = fmt.Sprintf("reply %v", a.Err)
		case ActStopped:
			line = "stopped"
		}
		s.log = append(s.log, line)
		switch a.Kind {
		case ActAdvert:
			s.do(Event{Kind: EvSent, Router: a.Router})
		case ActRenew:
			if s.renewal != errSilent {
				s.do(Event{Kind: EvRenewed, Proof: s.now, Err: s.renewal})
			}
		}
	}
}

// errSilent is of a renewal that is not answered.
var errSilent = errors.New("no answer")

// done ends the running kernel operation.
func (s *script) done() { s.t.Helper(); s.do(Event{Kind: EvDone, Op: s.op}) }

// to lets time pass until at, waking the group as it asks for.
func (s *script) to(at time.Duration) {
	s.t.Helper()
	for n := 0; ; n++ {
		d := s.g.Deadline()
		if d > at {
			break
		}
		if n > 100000 {
			s.t.Fatal("deadline does not advance")
		}
		s.now = max(s.now, d)
		s.do(Event{Kind: EvTick})
	}
	s.now = at
}

func (s *script) heard(router int, prio uint8) {
	s.t.Helper()
	s.do(Event{Kind: EvAdvert, Router: router, Advert: Advert{From: highAddr, Priority: prio, Interval: 250 * ms}})
}

// expect compares what happened since the last call, leases and adverts in
// their rhythm left out.
func (s *script) expect(want ...string) {
	s.t.Helper()
	got := slices.DeleteFunc(s.log, func(l string) bool {
		return l == "renew" || l == "advert 0 prio 100" ||
			l == "advert 1 prio 100"
	})
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Fatalf("at %v\n got %q\nwant %q", s.now, got, want)
	}
	s.log = nil
}

func (s *script) master() {
	s.t.Helper()
	s.to(s.now + time.Second)
	s.expect("term 1", "acquire")
	s.done()
	s.expect("state backup>master (no master heard)")
}
