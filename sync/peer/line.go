package peer

import (
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// linger is how long a connection stays open behind a Bye, for the peer to
// read it and close.
const linger = time.Second

// line is a connection with its two goroutines.
type line struct {
	id    connID
	conn  *channel.Conn
	owner *owner

	gate    chan struct{} // closed: read behind the first message
	discard chan struct{} // closed: nobody wants what is read
	dead    chan struct{} // closed: reading has ended
	wake    chan struct{} // something to write

	// Guarded by owner.mu.
	session *Session // of which this is or was the connection
	first   [][]byte // before anything of the session
	leaveTo *line    // the session goes on there
	bye     []byte   // last

	opened, discarded bool // for the owner's goroutine
}

// incoming is a message on its way to the owner.
type incoming struct {
	line *line
	msg  wire.Message
	size int
}

func newLine(o *owner, id connID, c *channel.Conn) *line {
	l := &line{
		id: id, conn: c, owner: o, wake: make(chan struct{}, 1),
		gate: make(chan struct{}), discard: make(chan struct{}), dead: make(chan struct{}),
	}
	o.lines[id] = l
	o.tasks.Go(l.read)
	o.tasks.Go(l.write)
	return l
}

// poke wakes the writer. A nil line has none.
func (l *line) poke() {
	if l == nil {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// open lets messages behind the first be read; drop ends their use.
func (l *line) open() {
	if !l.opened {
		l.opened = true
		close(l.gate)
	}
}

func (l *line) drop() {
	if !l.discarded {
		l.discarded = true
		close(l.discard)
	}
}

// shut says Bye and closes soon.
func (l *line) shut(b *wire.Bye) {
	frame, err := wire.AppendFrame(nil, b)
	if err != nil { // a text is cleaned, so this cannot be
		l.close()
		return
	}
	l.owner.shared.mu.Lock()
	l.bye = frame
	l.owner.shared.mu.Unlock()
	l.poke()
	l.drop()
	// The goroutines end with the connection, whoever closes it first.
	t := time.AfterFunc(linger, func() { _ = l.conn.Close() })
	l.owner.tasks.Go(func() {
		<-l.dead
		t.Stop()
	})
}

func (l *line) close() {
	l.drop()
	_ = l.conn.Close()
}

func (l *line) read() {
	defer close(l.dead)
	defer l.conn.Close()
	for first := true; ; first = false {
		m, err := l.conn.ReadFrame()
		if err != nil {
			l.owner.post(evLost{Conn: l.id, Err: err})
			return
		}
		l.owner.read.Add(uint64(l.conn.FrameSize()))
		select {
		case <-l.discard:
			continue // until the peer has read the Bye and closed
		default:
		}
		select {
		case l.owner.msgs <- incoming{l, m, l.conn.FrameSize()}:
		case <-l.discard:
		}
		if first {
			select {
			case <-l.gate:
			case <-l.discard:
			}
		}
	}
}

func (l *line) write() {
	for {
		frames, n, then := l.work()
		if len(frames) > 0 {
			err := l.conn.WriteFrames(frames...)
			wipe(frames...)
			if err != nil {
				l.owner.post(evLost{Conn: l.id, Err: err, Writing: true})
				return
			}
			for _, f := range frames {
				l.owner.written.Add(uint64(len(f)))
			}
		}
		switch then {
		case afterBye:
			return
		case afterMove:
			l.handOver()
			return
		}
		if n > 0 {
			l.owner.shared.mu.Lock()
			l.session.queued = max(l.session.queued-n, 0)
			l.owner.shared.mu.Unlock()
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-l.dead:
			return
		}
	}
}

// What a writer does behind the frames.
type after uint8

const (
	afterMore after = iota
	afterBye
	afterMove
)

// work returns what is to be written next.
func (l *line) work() (frames [][]byte, n int, then after) {
	l.owner.shared.mu.Lock()
	defer l.owner.shared.mu.Unlock()
	frames, l.first = l.first, nil
	s := l.session
	switch {
	case l.bye != nil:
		return append(frames, l.bye), 0, afterBye
	case s == nil || s.sender != l || !s.up:
	case l.leaveTo != nil:
		frame, _ := wire.AppendFrame(nil, &wire.Bye{Code: wire.ByeRenewed, Text: "the session goes on elsewhere"})
		return append(frames, frame), 0, afterMove
	default:
		var more [][]byte
		more, n = s.take()
		frames = append(frames, more...)
	}
	return frames, n, afterMore
}

// handOver lets the session's messages flow into the next connection.
func (l *line) handOver() {
	l.owner.shared.mu.Lock()
	if s := l.session; s != nil && s.sender == l {
		s.sender = l.leaveTo
		s.sender.poke()
	}
	l.owner.shared.mu.Unlock()
	l.owner.post(evMoved{l.id})
}

// say queues a message ahead of the session's.
func (l *line) say(m wire.Message) error {
	frame, err := wire.AppendFrame(nil, m)
	if err != nil {
		return err
	}
	l.owner.shared.mu.Lock()
	l.first = append(l.first, frame)
	l.owner.shared.mu.Unlock()
	l.poke()
	return nil
}
