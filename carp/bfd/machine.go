package bfd

import (
	"errors"
	"math"
	"time"
)

// SlowInterval is the shortest interval at which a session transmits that is not
// Up (RFC 5880 section 6.8.3).
const SlowInterval = time.Second

// Never is a deadline that does not come.
const Never = time.Duration(math.MaxInt64)

// What [Session.Receive] refuses.
var (
	ErrOtherSession = errors.New("discriminator is of another session")
	ErrStopped      = errors.New("session is administratively down")
	ErrOwnPacket    = errors.New("packet is our own, sent back")
)

// Config is what a session is told at its start.
type Config struct {
	Discr uint32 // of this session, not 0, unique on this system
	// Interval is the shortest at which it transmits while Up, and at which it can
	// receive. Whole microseconds, 1 to MaxInterval.
	Interval   time.Duration
	Multiplier uint8 // packets that the neighbor has to miss in a row, 1 to 255
	// Random returns a number from 0 up to, and without, 1. It is called for the
	// jitter of each packet.
	Random func() float64
}

// Session is the machine of one session in asynchronous mode. Times are since an
// origin of the caller, who calls [Session.Tick] at [Session.Deadline] and sends
// what the methods return. A Session is not safe for concurrent use.
//
// What the session advertises follows from its state: while it is not Up its
// DesiredMinTx is no shorter than SlowInterval, and its RequiredMinRx is always
// the configured interval.
type Session struct {
	cfg   Config
	state State
	diag  Diag

	heard    bool // within the detection time
	neighbor neighbor
	detectAt time.Duration // of what was heard

	// polling: the neighbor has not confirmed the intervals that go with the state;
	// polled: it was asked.
	polling, polled bool

	sentAt, nextAt time.Duration // the latest periodic packet, and the next
	every          time.Duration // interval by which nextAt was found
}

// neighbor is what the latest packet said.
type neighbor struct {
	state        State
	diag         Diag
	discr        uint32
	minTx, minRx time.Duration
	multiplier   uint8
	demand       bool
}

// unknown are the initial values of RFC 5880 section 6.8.1.
var unknown = neighbor{state: Down, minRx: time.Microsecond}

// New makes a session that is Down, and transmits at once.
func New(now time.Duration, cfg Config) *Session {
	return &Session{cfg: cfg, state: Down, neighbor: unknown, sentAt: now, nextAt: now, every: SlowInterval}
}

// Status is what there is to know about a session.
type Status struct {
	State State
	Diag  Diag // why it was not Up when it last changed to Down; none while it is Up
	// Heard: the neighbor was heard within the detection time. Without it the
	// neighbor's state, its diagnostic and the detection time are not known.
	Heard         bool
	NeighborState State
	NeighborDiag  Diag
	Transmit      time.Duration // interval at which this side transmits, without jitter
	Detection     time.Duration // silence after which the session goes Down
}

// Status returns the status.
func (s *Session) Status() Status {
	out := Status{State: s.state, Diag: s.diag, Transmit: s.interval()}
	if s.heard {
		out.Heard, out.NeighborState, out.NeighborDiag = true, s.neighbor.state, s.neighbor.diag
		out.Detection = s.detection()
	}
	return out
}

// Receive takes a packet of the neighbor (RFC 5880 section 6.8.6, behind what
// [Decode] checks). With send, reply is to be sent at once. An error says why the
// packet was ignored.
func (s *Session) Receive(now time.Duration, p *Packet) (reply Packet, send bool, err error) {
	switch {
	case p.YourDiscr != 0 && p.YourDiscr != s.cfg.Discr:
		return Packet{}, false, ErrOtherSession
	case p.MyDiscr == s.cfg.Discr: // or, once in 2^32 neighbors, one that has chosen the same
		return Packet{}, false, ErrOwnPacket
	case s.state == AdminDown:
		return Packet{}, false, ErrStopped
	}
	s.heard = true
	s.neighbor = neighbor{state: p.State, diag: p.Diag, discr: p.MyDiscr, minTx: p.DesiredMinTx,
		minRx: p.RequiredMinRx, multiplier: p.Multiplier, demand: p.Demand}
	if p.Final && s.polled {
		s.polling, s.polled = false, false
	}
	before := s.state
	switch next := after(before, p.State); {
	case next == before:
	case next == Down:
		s.enter(Down, NeighborDown)
	case next == Up:
		s.enter(Up, NoDiagnostic)
	default:
		s.enter(next, s.diag)
	}
	s.detectAt = now + s.detection()
	switch {
	case p.Poll:
		reply, send = s.packet(), true
		reply.Poll, reply.Final = false, true
		if s.state != before {
			s.schedule(now)
		}
	case s.state != before:
		reply, send = s.transmit(now), true
	}
	if every := s.interval(); every != s.every {
		s.schedule(s.sentAt)
	}
	return reply, send, nil
}

// after is the state machine of RFC 5880 section 6.2: the state that follows when
// the neighbor tells its own.
func after(state, told State) State {
	switch {
	case state == AdminDown:
		return AdminDown
	case told == AdminDown:
		return Down
	case state == Down && told == Down:
		return Init
	case state == Down && told == Init:
		return Up
	case state == Init && (told == Init || told == Up):
		return Up
	case state == Up && told == Down:
		return Down
	}
	return state
}

// enter changes the state. The intervals that go with it are confirmed by a poll
// sequence where they change and there is somebody to ask (sections 6.5 and 6.8.3).
func (s *Session) enter(state State, diag Diag) {
	before := s.desired()
	s.state, s.diag = state, diag
	if s.desired() != before {
		s.polling, s.polled = s.neighbor.discr != 0, false
	}
}

// Tick does what is due. With send, p is to be sent at once.
func (s *Session) Tick(now time.Duration) (p Packet, send bool) {
	if s.heard && now >= s.detectAt {
		s.heard, s.neighbor, s.polling, s.polled = false, unknown, false, false
		if s.state == Init || s.state == Up {
			s.enter(Down, DetectionExpired)
			return s.transmit(now), true
		}
		if s.interval() != s.every {
			s.schedule(s.sentAt)
		}
	}
	if now < s.nextAt || s.quiet() {
		return Packet{}, false
	}
	return s.transmit(now), true
}

// Deadline is when something is due, or [Never].
func (s *Session) Deadline() time.Duration {
	at := Never
	if s.heard {
		at = s.detectAt
	}
	if !s.quiet() {
		at = min(at, s.nextAt)
	}
	return at
}

// Stop takes the session down for good. The packet, sent at once, tells the
// neighbor that this is no fault (section 6.8.16).
func (s *Session) Stop() Packet {
	s.state, s.diag, s.polling = AdminDown, AdministrativelyDown, false
	return s.packet()
}

// desired is DesiredMinTx (section 6.8.3).
func (s *Session) desired() time.Duration {
	if s.state == Up {
		return s.cfg.Interval
	}
	return max(s.cfg.Interval, SlowInterval)
}

// interval is the one at which the session transmits (section 6.8.2).
func (s *Session) interval() time.Duration { return max(s.desired(), s.neighbor.minRx) }

// detection is the silence after which the neighbor counts as lost (section 6.8.4).
func (s *Session) detection() time.Duration {
	return time.Duration(s.neighbor.multiplier) * max(s.cfg.Interval, s.neighbor.minTx)
}

// quiet reports whether the neighbor wants no periodic packets (section 6.8.7).
func (s *Session) quiet() bool {
	both := s.state == Up && s.neighbor.state == Up
	return s.state == AdminDown || s.neighbor.minRx == 0 || s.neighbor.demand && both && !s.polling
}

// packet is what the session says now.
func (s *Session) packet() Packet {
	return Packet{Diag: s.diag, State: s.state, Poll: s.polling, Multiplier: s.cfg.Multiplier, MyDiscr: s.cfg.Discr,
		YourDiscr: s.neighbor.discr, DesiredMinTx: s.desired(), RequiredMinRx: s.cfg.Interval}
}

// transmit is a packet that counts as a periodic one.
func (s *Session) transmit(now time.Duration) Packet {
	s.polled = s.polling
	s.schedule(now)
	return s.packet()
}

// schedule finds the time of the next periodic packet from that of the latest. The
// interval is shortened by up to a quarter, and by at least a tenth where a single
// packet that is missing ends the session (section 6.8.7).
func (s *Session) schedule(sent time.Duration) {
	const least = 0.75
	most := 1.0
	if s.cfg.Multiplier == 1 {
		most = 0.9
	}
	s.every = s.interval()
	share := least + (most-least)*s.cfg.Random()
	s.sentAt, s.nextAt = sent, sent+time.Duration(share*float64(s.every))
}
