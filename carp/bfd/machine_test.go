package bfd

import (
	"errors"
	"testing"
	"time"
)

const (
	own, theirs = uint32(0x11), uint32(0x22)
	interval50  = 50 * time.Millisecond
)

// session is one with 50 ms and a multiplier of 3, whose jitter is in the middle.
func session(now time.Duration) *Session {
	return New(now, Config{Discr: own, Interval: interval50, Multiplier: 3, Random: func() float64 { return 0.5 }})
}

// said is a packet of a neighbor with the same settings.
func said(state State) *Packet {
	p := &Packet{State: state, Multiplier: 3, MyDiscr: theirs, YourDiscr: own, DesiredMinTx: time.Second,
		RequiredMinRx: interval50}
	if state == Up {
		p.DesiredMinTx = interval50
	}
	return p
}

// in is a session in a state that it came to at time 0.
func in(t *testing.T, state State) *Session {
	t.Helper()
	s := session(0)
	var told []State
	switch state {
	case AdminDown:
		s.Stop()
	case Init:
		told = []State{Down}
	case Up:
		told = []State{Down, Init}
	}
	for _, x := range told {
		if _, _, err := s.Receive(0, said(x)); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Status(); st.State != state {
		t.Fatalf("%v instead of %v", st.State, state)
	}
	return s
}

// Every state with every state that a neighbor can be in, and with its silence.
func TestStates(t *testing.T) {
	const silence = Up + 1
	for _, tt := range []struct {
		state, told, want State
		diag              Diag
	}{
		{AdminDown, AdminDown, AdminDown, AdministrativelyDown},
		{AdminDown, Down, AdminDown, AdministrativelyDown},
		{AdminDown, Init, AdminDown, AdministrativelyDown},
		{AdminDown, Up, AdminDown, AdministrativelyDown},
		{AdminDown, silence, AdminDown, AdministrativelyDown},
		{Down, AdminDown, Down, NoDiagnostic},
		{Down, Down, Init, NoDiagnostic},
		{Down, Init, Up, NoDiagnostic},
		{Down, Up, Down, NoDiagnostic},
		{Down, silence, Down, NoDiagnostic},
		{Init, AdminDown, Down, NeighborDown},
		{Init, Down, Init, NoDiagnostic},
		{Init, Init, Up, NoDiagnostic},
		{Init, Up, Up, NoDiagnostic},
		{Init, silence, Down, DetectionExpired},
		{Up, AdminDown, Down, NeighborDown},
		{Up, Down, Down, NeighborDown},
		{Up, Init, Up, NoDiagnostic},
		{Up, Up, Up, NoDiagnostic},
		{Up, silence, Down, DetectionExpired},
	} {
		s := in(t, tt.state)
		if tt.told == silence {
			for s.Deadline() < time.Minute {
				s.Tick(s.Deadline())
			}
		} else {
			reply, send, err := s.Receive(0, said(tt.told))
			if stopped := errors.Is(err, ErrStopped); stopped != (tt.state == AdminDown) || err != nil && !stopped {
				t.Errorf("%v told %v: %v", tt.state, tt.told, err)
			}
			// What has changed is told at once.
			if send != (tt.want != tt.state) || send && reply.State != tt.want {
				t.Errorf("%v told %v: sends %v %+v", tt.state, tt.told, send, reply)
			}
		}
		if st := s.Status(); st.State != tt.want || st.Diag != tt.diag {
			t.Errorf("%v told %v: %v (%v), want %v (%v)", tt.state, tt.told, st.State, st.Diag, tt.want, tt.diag)
		}
	}
}

// A packet of another session changes nothing, not even what is known.
func TestOtherSession(t *testing.T) {
	s := in(t, Up)
	before, deadline := s.Status(), s.Deadline()
	p := said(Down)
	p.YourDiscr, p.Poll, p.Diag = own+1, true, PathDown
	if _, send, err := s.Receive(time.Millisecond, p); !errors.Is(err, ErrOtherSession) || send {
		t.Errorf("sends %v, %v", send, err)
	}
	if s.Status() != before || s.Deadline() != deadline {
		t.Errorf("%+v, before %+v", s.Status(), before)
	}
	// A path that leads back to us is no neighbor.
	for state := range Up + 1 {
		loop := said(state)
		loop.MyDiscr = own
		if _, send, err := s.Receive(time.Millisecond, loop); !errors.Is(err, ErrOwnPacket) || send {
			t.Errorf("our own %v: sends %v, %v", state, send, err)
		}
	}
	if s.Status() != before || s.Deadline() != deadline {
		t.Errorf("our own packet: %+v, before %+v", s.Status(), before)
	}
	// One that does not know ours is of this session, whose neighbor has started anew.
	p.YourDiscr, p.MyDiscr = 0, theirs+1
	reply, send, err := s.Receive(time.Millisecond, p)
	if st := s.Status(); err != nil || st.State != Down || st.NeighborDiag != PathDown {
		t.Errorf("%+v, %v", st, err)
	}
	if !send || !reply.Final || reply.YourDiscr != theirs+1 {
		t.Errorf("reply %v %+v", send, reply)
	}
}

// What is known of a neighbor is forgotten with it.
func TestForgets(t *testing.T) {
	s := in(t, Up)
	if _, _, err := s.Receive(0, said(Up)); err != nil {
		t.Fatal(err)
	}
	p, send := s.Tick(150 * time.Millisecond)
	if !send || p.State != Down || p.Diag != DetectionExpired || p.YourDiscr != 0 || p.Poll {
		t.Errorf("sends %v %+v", send, p)
	}
	if st := s.Status(); st.Heard || st.Detection != 0 || st.Transmit != SlowInterval {
		t.Errorf("%+v", st)
	}
}

// The detection time is the neighbor's multiplier with the longer of our
// RequiredMinRx and its DesiredMinTx.
func TestDetectionTime(t *testing.T) {
	for _, tt := range []struct {
		multiplier uint8
		minTx      time.Duration
		want       time.Duration
	}{
		{3, 50 * time.Millisecond, 150 * time.Millisecond},
		{3, 10 * time.Millisecond, 150 * time.Millisecond},
		{5, 300 * time.Millisecond, 1500 * time.Millisecond},
		{255, MaxInterval, 255 * MaxInterval},
		{1, 0, 50 * time.Millisecond},
	} {
		s := in(t, Up)
		p := said(Up)
		p.Multiplier, p.DesiredMinTx = tt.multiplier, tt.minTx
		const at = 7 * time.Millisecond
		if _, _, err := s.Receive(at, p); err != nil {
			t.Fatal(err)
		}
		if st := s.Status(); st.Detection != tt.want {
			t.Errorf("%+v: detection after %v", tt, st.Detection)
		}
		s.Tick(at + tt.want - 1)
		if st := s.Status(); st.State != Up {
			t.Errorf("%+v: %v a moment too early", tt, st.State)
		}
		s.Tick(at + tt.want)
		if st := s.Status(); st.State != Down {
			t.Errorf("%+v: %v", tt, st.State)
		}
	}
}

// Slow until Up; then at the longer of our interval and the one that the neighbor
// can receive; each time shortened.
func TestTransmitInterval(t *testing.T) {
	for _, tt := range []struct {
		multiplier  uint8
		random      float64
		least, most time.Duration
	}{
		{3, 0, 750, 750}, {3, 0.999, 999, 1000}, {1, 0, 750, 750}, {1, 0.999, 899, 900}, {3, 0.5, 875, 875},
	} {
		s := New(0, Config{Discr: own, Interval: interval50, Multiplier: tt.multiplier,
			Random: func() float64 { return tt.random }})
		gap := func(what string, unit time.Duration) {
			t.Helper()
			first := s.Deadline()
			if _, send := s.Tick(first); !send {
				t.Fatalf("%s: nothing is due at %v", what, first)
			}
			d := s.Deadline() - first
			if d < tt.least*unit/1000 || d > tt.most*unit/1000 {
				t.Errorf("multiplier %d, random %v, %s: the next one after %v", tt.multiplier, tt.random, what, d)
			}
		}
		gap("down", SlowInterval)
		now := s.Deadline()
		for _, state := range []State{Down, Init} {
			p := said(state)
			p.DesiredMinTx = time.Hour // so that nothing expires
			if _, _, err := s.Receive(now, p); err != nil {
				t.Fatal(err)
			}
		}
		gap("up", interval50)
		p := said(Up)
		p.DesiredMinTx, p.RequiredMinRx = time.Hour, 400*time.Millisecond
		if _, _, err := s.Receive(s.Deadline(), p); err != nil {
			t.Fatal(err)
		}
		gap("up, and a slow neighbor", 400*time.Millisecond)
		// The neighbor becomes faster: the packet that is due comes forward.
		late := s.Deadline()
		p.RequiredMinRx = 10 * time.Millisecond
		if _, _, err := s.Receive(late-300*time.Millisecond, p); err != nil {
			t.Fatal(err)
		}
		if d := s.Deadline(); d > late-250*time.Millisecond {
			t.Errorf("the next one is due at %v, was at %v", d, late)
		}
	}
}

// A neighbor that wants no periodic packets gets none, but answers.
func TestQuiet(t *testing.T) {
	for what, change := range map[string]func(p *Packet){
		"RequiredMinRx 0": func(p *Packet) { p.RequiredMinRx = 0 },
		"demand mode":     func(p *Packet) { p.Demand = true },
	} {
		s := in(t, Up)
		p := said(Up)
		p.DesiredMinTx, p.Final = time.Hour, true
		change(p)
		s.Tick(0) // polls
		if _, _, err := s.Receive(0, p); err != nil {
			t.Fatal(err)
		}
		if d := s.Deadline(); d != 3*time.Hour {
			t.Errorf("%s: something is due at %v", what, d)
		}
		if out, send := s.Tick(time.Minute); send {
			t.Errorf("%s: sends %+v", what, out)
		}
		p.Final, p.Poll = false, true
		if reply, send, _ := s.Receive(time.Minute, p); !send || !reply.Final || reply.Poll || reply.State != Up {
			t.Errorf("%s: answers %v %+v", what, send, reply)
		}
	}
	// In demand mode too while either side is not Up, and while we poll.
	s := in(t, Up)
	p := said(Init)
	p.Demand = true
	if _, _, err := s.Receive(0, p); err != nil {
		t.Fatal(err)
	}
	if d := s.Deadline(); d > interval50 {
		t.Errorf("neighbor in Init: due at %v", d)
	}
	p.State = Up
	if _, _, err := s.Receive(0, p); err != nil {
		t.Fatal(err)
	}
	if d := s.Deadline(); d > interval50 {
		t.Errorf("while polling: due at %v", d)
	}
}

// A change of intervals is polled for until it is confirmed, and a poll is answered
// at once in every state but AdminDown.
func TestPoll(t *testing.T) {
	s := in(t, Up)
	due := func() Packet {
		t.Helper()
		p, send := s.Tick(s.Deadline())
		if !send {
			t.Fatal("nothing is due")
		}
		return p
	}
	for range 2 {
		if p := due(); !p.Poll || p.DesiredMinTx != interval50 || p.RequiredMinRx != interval50 {
			t.Errorf("up: %+v", p)
		}
	}
	ask := said(Up)
	ask.Poll = true
	if reply, send, _ := s.Receive(s.sentAt, ask); !send || reply.Poll || !reply.Final {
		t.Errorf("answer to a poll while polling: %v %+v", send, reply)
	}
	if p := due(); !p.Poll {
		t.Errorf("the answer has ended our own poll: %+v", p)
	}
	confirm := said(Up)
	confirm.Final = true
	if reply, send, _ := s.Receive(s.sentAt, confirm); send {
		t.Errorf("answer to a final: %+v", reply)
	}
	if p := due(); p.Poll {
		t.Errorf("polls on: %+v", p)
	}
	// Slow again, and the neighbor is there to confirm it.
	reply, send, _ := s.Receive(s.sentAt, said(Down))
	if !send || !reply.Poll || reply.DesiredMinTx != SlowInterval || reply.State != Down {
		t.Errorf("down: %v %+v", send, reply)
	}
	// A final that answers nothing ends nothing.
	s = in(t, Up)
	s.polled = false
	_, _, _ = s.Receive(0, confirm)
	if p := due(); !p.Poll {
		t.Errorf("a final before the poll has ended it: %+v", p)
	}
	for state, told := range map[State]State{Down: Up, Init: Down, Up: Up} {
		s := in(t, state)
		ask := said(told)
		ask.Poll = true
		if reply, send, _ := s.Receive(0, ask); !send || !reply.Final || reply.Poll {
			t.Errorf("%v: %v %+v", state, send, reply)
		}
	}
	stopped := in(t, AdminDown)
	if _, send, _ := stopped.Receive(0, ask); send {
		t.Error("a session that is stopped answers")
	}
}

// Slower than a second by configuration: nothing changes with the state, and
// nothing is polled for.
func TestSlowSession(t *testing.T) {
	s := New(0, Config{Discr: own, Interval: 2 * time.Second, Multiplier: 3, Random: func() float64 { return 0 }})
	for _, state := range []State{Down, Init} {
		reply, send, err := s.Receive(0, said(state))
		if err != nil || !send || reply.Poll || reply.DesiredMinTx != 2*time.Second {
			t.Errorf("told %v: %v %+v, %v", state, send, reply, err)
		}
	}
}

// The last word says that it is no fault.
func TestStop(t *testing.T) {
	s := in(t, Up)
	p := s.Stop()
	if p.State != AdminDown || p.Diag != AdministrativelyDown || p.Poll || p.YourDiscr != theirs {
		t.Errorf("%+v", p)
	}
	for s.Deadline() != Never {
		if _, send := s.Tick(s.Deadline()); send {
			t.Fatal("a session that is stopped transmits")
		}
	}
}
