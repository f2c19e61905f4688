package track

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// farEnd answers after a while, as long as it is there.
type farEnd struct {
	mu     sync.Mutex
	there  bool
	refuse error // of Send
	way    time.Duration
	opened int
}

func (f *farEnd) times() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened
}

type farSocket struct {
	end     *farEnd
	replies chan uint16
}

func (f *farEnd) open(netip.Addr) (echoer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	return &farSocket{f, make(chan uint16, flights)}, nil
}

func (f *farEnd) set(there bool, refuse error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there, f.refuse = there, refuse
}

func (s *farSocket) Send(seq uint16) error {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	if s.end.refuse != nil {
		return s.end.refuse
	}
	if s.end.there {
		time.AfterFunc(s.end.way, func() { s.replies <- seq })
	}
	return nil
}

func (s *farSocket) Receive(wait time.Duration) (uint16, bool, error) {
	select {
	case seq := <-s.replies:
		return seq, true, nil
	case <-time.After(wait):
		return 0, false, nil
	}
}

func (s *farSocket) Close() {}

// verdicts collects what a Witness says.
type verdicts struct {
	mu       sync.Mutex
	last     bool
	said     int
	lost     int
	sent, at time.Duration // of the last answer
	now      func() time.Duration
}

func (v *verdicts) Witness(_ string, reachable bool, sent time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said++
	if v.last = reachable; reachable {
		v.sent, v.at = sent, v.now()
	} else {
		v.lost++
	}
}

func (v *verdicts) get() (last bool, said, lost int, sent, at time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, v.said, v.lost, v.sent, v.at
}

func TestWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() time.Duration { return time.Since(start) + time.Hour }
		near, far := &farEnd{way: time.Millisecond}, &farEnd{way: 250 * time.Millisecond}
		v := &verdicts{now: now}
		one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		w := NewWitness(WitnessConfig{Group: "g", Addrs: []netip.Addr{one, two}, Each: 100 * time.Millisecond,
			Lost: time.Second}, v, slog.New(slog.DiscardHandler))
		w.now = now
		w.open = func(a netip.Addr) (echoer, error) {
			if a == one {
				return near.open(a)
			}
			return far.open(a)
		}
		stop := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { stop <- w.Run(ctx) }()
		// Virtual time.
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }

		// Nobody has answered since the start: said once, not before the time.
		pass(900 * time.Millisecond)
		if _, said, _, _, _ := v.get(); said != 0 {
			t.Errorf("said something after 0.9 s")
		}
		pass(2 * time.Second)
		if last, said, _, _, _ := v.get(); last || said != 1 {
			t.Errorf("without an answer: %v, said %d times", last, said)
		}
		// One of two is enough, and its way may be longer than the rhythm. What
		// counts is when the request left.
		far.set(true, nil)
		pass(3 * time.Second)
		last, _, lost, sent, at := v.get()
		if !last || lost != 1 {
			t.Errorf("one answers: %v, lost %d times", last, lost)
		}
		if at-sent != 250*time.Millisecond || now()-at > 150*time.Millisecond {
			t.Errorf("answer of a request from %v before, which came %v ago", at-sent, now()-at)
		}
		// The other one takes over without a gap.
		near.set(true, nil)
		pass(time.Second)
		far.set(false, errors.New("network is unreachable"))
		pass(5 * time.Second)
		if last, _, lost, _, _ := v.get(); !last || lost != 1 {
			t.Errorf("the other one answers: %v, lost %d times", last, lost)
		}
		if n := far.times(); n < 10 {
			t.Errorf("socket that fails was opened %d times", n)
		}
		near.set(false, nil)
		pass(1200 * time.Millisecond)
		if last, _, lost, _, _ := v.get(); last || lost != 2 {
			t.Errorf("none answers: %v, lost %d times", last, lost)
		}
		near.set(true, nil)
		far.set(true, nil)
		pass(200 * time.Millisecond)
		if last, _, _, _, _ := v.get(); !last {
			t.Error("it answers again, unnoticed")
		}
		cancel()
		if err := <-stop; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second) // of virtual time, in which replies under way come to nothing
	})
}

// TestEchoThatComesTwice counts once.
func TestEchoThatComesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() time.Duration { return time.Since(start) + time.Hour }
		end := &farEnd{there: true, way: time.Millisecond}
		v := &verdicts{now: now}
		w := NewWitness(WitnessConfig{Group: "g", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			Each: 100 * time.Millisecond, Lost: time.Second}, v, slog.New(slog.DiscardHandler))
		w.now = now
		var s *farSocket
		w.open = func(a netip.Addr) (echoer, error) {
			e, err := end.open(a)
			s = e.(*farSocket)
			return e, err
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := make(chan error, 1)
		go func() { stop <- w.Run(ctx) }()
		time.Sleep(50 * time.Millisecond)
		end.set(false, nil)
		synctest.Wait()
		_, said, _, _, _ := v.get()
		for seq := range uint16(3) { // also those that were never asked
			s.replies <- seq
		}
		time.Sleep(20 * time.Millisecond)
		if _, again, _, _, _ := v.get(); said != 1 || again != said {
			t.Errorf("said %d times, then %d", said, again)
		}
		cancel()
		if err := <-stop; err != nil {
			t.Error(err)
		}
	})
}
