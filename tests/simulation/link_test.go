package simulation

import (
	"sync"
	"time"

	"sasyncd/carp"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

const (
	wireDelay = 200 * time.Microsecond
	deadAfter = 3 * time.Second // of a session whose link is cut
)

type peers struct{ events chan engine.PeerEvent }

func (p *peers) Events() <-chan engine.PeerEvent { return p.events }
func (p *peers) Kick()                           {}

// session is one end of a connection; messages are encoded and decoded.
type session struct {
	from, to *node
	queue    chan []byte
	other    *session
	closed   chan struct{}
	once     sync.Once
	began    time.Time
}

func (s *session) Peer() string { return s.to.addr().String() }
func (s *session) Queued() int  { return len(s.queue) }

func (s *session) Send(m wire.Message) bool {
	b, err := wire.AppendFrame(nil, m)
	if err != nil {
		s.from.s.t.Errorf("encode: %v", err)
		return false
	}
	s.from.s.record(s.from.i, b)
	select {
	case s.queue <- b:
		return true
	default:
		return false
	}
}

func (s *session) Close(wire.ByeCode, string) {
	s.once.Do(func() { close(s.closed) })
	s.other.once.Do(func() { close(s.other.closed) })
}

// deliver carries what s.from sends to s.to's engine.
func (s *session) deliver() {
	events, done := s.to.peers.events, s.to.doneS
	put := func(ev engine.PeerEvent) bool {
		select {
		case events <- ev:
			return true
		case <-done:
			return false
		}
	}
	defer put(engine.PeerEvent{Kind: engine.PeerDown, Session: s.other})
	for {
		select {
		case <-s.closed:
			return
		case b := <-s.queue:
			time.Sleep(wireDelay)
			m, err := wire.Parse(wire.Type(b[4]), b[wire.HeaderLen:])
			if err != nil {
				s.from.s.t.Errorf("parse: %v", err)
				return
			}
			select {
			case <-s.closed: // what was under way when the link was cut is lost
				return
			default:
			}
			if !put(engine.PeerEvent{Kind: engine.PeerMessage, Session: s.other, Message: m}) {
				return
			}
		}
	}
}

// connect joins two engines, if both run and their link is whole.
func (s *sim) connect(i, j int) {
	a, b := s.nodes[i], s.nodes[j]
	if a.engine == nil || b.engine == nil || s.syncCut[pairOf(i, j)] || s.sessions[pairOf(i, j)] != nil {
		return
	}
	x := &session{began: time.Now(), from: a, to: b, queue: make(chan []byte, queueLimit), closed: make(chan struct{})}
	y := &session{from: b, to: a, queue: make(chan []byte, queueLimit), closed: make(chan struct{})}
	x.other, y.other = y, x
	s.sessions[pairOf(i, j)] = x
	for _, e := range []*session{x, y} {
		hello := &wire.Hello{Caps: wire.Caps, Node: wire.NodeID{byte(e.from.i + 1)}, Groups: e.from.engine.Groups()}
		e.to.peers.events <- engine.PeerEvent{Kind: engine.PeerUp, Session: e.other, Hello: hello}
		go e.deliver()
	}
}

func pairOf(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

// cut ends the session of two nodes.
func (s *sim) cut(i, j int) {
	if x := s.sessions[pairOf(i, j)]; x != nil {
		x.Close(0, "")
		delete(s.sessions, pairOf(i, j))
	}
}

func (s *sim) cutAll(i int) {
	for j := range s.nodes {
		s.cut(i, j)
	}
}

// connectAll redials what is down, as the peers' runner does.
func (s *sim) connectAll() {
	for i := range s.nodes {
		for j := range i {
			if x := s.sessions[pairOf(i, j)]; x != nil {
				select {
				case <-x.closed:
					delete(s.sessions, pairOf(i, j))
				default:
				}
			}
			s.connect(i, j)
		}
	}
}

// advert delivers an advertisement to every node that hears the sender.
func (s *sim) advert(from *node, a carp.Advert) {
	for _, n := range s.nodes {
		if n == from || s.lan.cut(from.i, n.i) {
			continue
		}
		time.AfterFunc(wireDelay, func() { n.tell(carp.Event{Kind: carp.EvAdvert, Advert: a}) })
	}
}

// lan says who hears whom.
type lan struct {
	mu   sync.Mutex
	down map[[2]int]bool
}

func (l *lan) cut(i, j int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down[pairOf(i, j)]
}

func (l *lan) set(i, j int, down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down[pairOf(i, j)] = down
}
