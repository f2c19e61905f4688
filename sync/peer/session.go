package peer

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// Kind says what an Event is about.
type Kind uint8

// Kinds of events.
const (
	Up      Kind = iota + 1 // a session begins; Session.Hello says with whom
	Message                 // Message came; the manager handles Ping, Pong, Bye and Hello itself
	Down                    // the session is over, for Reason
)

// String names the kind for logs.
func (k Kind) String() string {
	switch k {
	case Up:
		return "up"
	case Message:
		return "message"
	case Down:
		return "down"
	}
	return "none"
}

// Event is something that the consumer should know. Of each session it gets Up,
// then messages in the order they were sent, then Down.
type Event struct {
	Kind    Kind
	Session *Session
	Message wire.Message
	Reason  Reason
}

// Session is one incarnation of contact with a peer. Its methods may be called
// by any goroutine and never block on the network. After the session ended
// they do nothing.
type Session struct {
	peer    string
	hello   *wire.Hello
	version uint16
	owner   *owner
	since   time.Time

	encoding sync.Mutex // guards scratch
	scratch  []byte

	// All below is guarded by owner.mu.
	up       bool
	sender   *line
	urgent   [][]byte
	queue    []outgoing
	queued   int // bytes in queue, and of those being written
	counters map[uint32]bool
	rtt      time.Duration
	last     time.Time
}

// outgoing is an encoded frame, or counters that are encoded when their turn
// comes so that their age is right.
type outgoing struct {
	frame    []byte
	counters *wire.Counters
	since    time.Time
}

// Peer returns the peer's name in the configuration.
func (s *Session) Peer() string { return s.peer }

// Hello returns what the peer said first. It must not be changed.
func (s *Session) Hello() *wire.Hello { return s.hello }

// Version returns the protocol version that both speak.
func (s *Session) Version() uint16 { return s.version }

// Send queues a message and reports whether it did. It does not when the
// session is over, when the queue is full (then the peer is too slow: Close
// with wire.ByeSlow, it will come back and resynchronise), or when the message
// cannot be encoded, which is logged. The message may be reused afterwards.
func (s *Session) Send(m wire.Message) bool {
	frame, err := s.encode(m)
	if err != nil {
		s.owner.log.Error("cannot send a message", "err", err)
		return false
	}
	s.owner.shared.mu.Lock()
	defer s.owner.shared.mu.Unlock()
	if !s.up || s.queued+len(frame) > s.owner.mgr.cfg.QueueLimit {
		return false
	}
	s.queue = append(s.queue, outgoing{frame: frame})
	s.queued += len(frame)
	s.sender.poke()
	return true
}

// encode returns the frame of a message in memory of just its size, which is
// known only when it has been made.
func (s *Session) encode(m wire.Message) ([]byte, error) {
	s.encoding.Lock()
	defer s.encoding.Unlock()
	if s.scratch == nil {
		// Room for nearly all messages, since growing leaves copies behind.
		s.scratch = make([]byte, 0, firstScratch)
	}
	was := s.scratch[:cap(s.scratch)]
	b, err := wire.AppendFrame(s.scratch[:0], m)
	if err != nil {
		clear(was)
		return nil, err
	}
	frame := slices.Clone(b)
	clear(b) // records hold keys
	if len(b) > len(was) {
		clear(was)
	}
	if s.scratch = b; cap(b) > keepScratch {
		s.scratch = nil
	}
	return frame, nil
}

// Room for encoding: what a session begins with, and most that it keeps.
const (
	firstScratch = 64 << 10
	keepScratch  = 256 << 10
)

// wipe overwrites frames that were written, or never will be. Records hold keys.
func wipe(frames ...[]byte) {
	for _, f := range frames {
		clear(f)
	}
}

// SendCounters queues counters of a stream and reports whether it did. It does
// not while earlier counters of that stream still wait for their turn: then
// their SAs have to be part of the next message, with values that are newer.
// So counters never pile up behind a slow peer, and never overtake the record
// that introduced their handle. m belongs to the session from now on; its age
// grows by the time it waits.
func (s *Session) SendCounters(m *wire.Counters) bool {
	s.owner.shared.mu.Lock()
	defer s.owner.shared.mu.Unlock()
	if !s.up || s.counters[m.Stream] {
		return false
	}
	s.counters[m.Stream] = true
	s.queue = append(s.queue, outgoing{counters: m, since: time.Now()})
	s.sender.poke()
	return true
}

// Queued returns the bytes that wait to be sent, without counters.
func (s *Session) Queued() int {
	s.owner.shared.mu.Lock()
	defer s.owner.shared.mu.Unlock()
	return s.queued
}

// Close ends the session and tells the peer why. What is queued is dropped.
// Down follows, with the same reason.
func (s *Session) Close(code wire.ByeCode, text string) {
	s.owner.shared.mu.Lock()
	s.end()
	s.owner.shared.mu.Unlock()
	s.owner.post(inClose{s, evClose{code, text}})
}

// end makes later calls of Send fail. Needs owner.mu.
func (s *Session) end() {
	wipe(s.urgent...)
	for _, q := range s.queue {
		wipe(q.frame)
	}
	s.up, s.queue, s.urgent, s.queued = false, nil, nil, 0
}

// Stats is the state of a session's connection.
type Stats struct {
	Remote       netip.AddrPort
	Local        netip.AddrPort
	Dialled      bool          // by this node
	Key          channel.KeyID // the connection was made under
	Since        time.Time     // begin of the session
	LastReceived time.Time
	RTT          time.Duration // of the last Ping, 0 if none was answered
	In, Out      uint64        // bytes of the current connection
	Queued       int           // bytes
}

// Stats returns the state of the session.
func (s *Session) Stats() Stats {
	s.owner.shared.mu.Lock()
	defer s.owner.shared.mu.Unlock()
	st := Stats{Since: s.since, LastReceived: s.last, RTT: s.rtt, Queued: s.queued}
	if l := s.sender; l != nil {
		st.Remote, st.Local, st.Dialled, st.Key = l.conn.Remote(), l.conn.Local(), l.conn.Dialled(), l.conn.Key()
		st.In, st.Out = l.conn.Bytes()
	}
	return st
}

// writeBatch is how many bytes are handed to a connection at a time.
const writeBatch = 256 << 10

// take removes the next frames to write. n is what they count in queued.
// Needs owner.mu.
func (s *Session) take() (frames [][]byte, n int) {
	frames, s.urgent = s.urgent, nil
	i := 0
	for size := 0; i < len(s.queue) && size < writeBatch; i++ {
		q := &s.queue[i]
		if c := q.counters; c != nil {
			delete(s.counters, c.Stream)
			c.AgeMicros += uint64(time.Since(q.since).Microseconds())
			var err error
			if q.frame, err = wire.AppendFrame(nil, c); err != nil {
				s.owner.log.Error("cannot send counters", "err", err)
				continue
			}
		} else {
			n += len(q.frame)
		}
		size += len(q.frame)
		frames = append(frames, q.frame)
	}
	clear(s.queue[:i]) // the frames are large
	if s.queue = s.queue[i:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return frames, n
}
