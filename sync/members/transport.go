package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"sasyncd/sync/wire"
)

// gossipPort is what memberlist wants beside an address; it means nothing here.
const gossipPort = 1

// Kinds of frames. A frame is kind, hops left, destination, source, and for
// streams their number; the rest is data.
const (
	framePacket uint8 = iota + 1
	frameOpen
	frameData
	frameClose
	frameWord
)

const (
	frameHead   = 1 + 1 + 16 + 16 + 8
	maxHops     = 1        // one relay
	maxPayload  = 60 << 10 // data of a frame, far below a message's limit
	queueFrames = 64       // of a stream that is not read
	maxStreams  = 64
)

// transport is memberlist's network: frames to neighbours.
type transport struct {
	self    wire.NodeID
	send    func(to wire.NodeID, payload []byte) bool
	packets chan *memberlist.Packet
	streams chan net.Conn

	mu         sync.Mutex
	neighbours map[wire.NodeID]bool
	open       map[streamKey]*stream
	last       uint64
	closed     bool

	refused atomic.Uint64 // frames and members that were not taken

	// heard takes a word of from, which the neighbour via passed on.
	heard func(from, via wire.NodeID, data []byte)
}

type streamKey struct {
	peer   wire.NodeID
	number uint64
	mine   bool // dialled here
}

// stream is one end of a connection that is carried in frames.
type stream struct {
	net.Conn // memberlist's end of a pipe
	inner    net.Conn
	in       chan []byte
	done     chan struct{}
	once     sync.Once
}

func newTransport(self wire.NodeID, send func(wire.NodeID, []byte) bool) *transport {
	return &transport{self: self, send: send, packets: make(chan *memberlist.Packet, 256),
		streams:    make(chan net.Conn, 16),
		neighbours: make(map[wire.NodeID]bool), open: make(map[streamKey]*stream)}
}

// addrOf writes a node id as the address that memberlist asks for.
func addrOf(id wire.NodeID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(id), gossipPort)
}

func nodeOf(addr string) (wire.NodeID, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return wire.NodeID{}, fmt.Errorf("address of a member: %w", err)
	}
	return wire.NodeID(ap.Addr().As16()), nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(t.self[:]), gossipPort, nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	open := t.open
	t.open = make(map[streamKey]*stream)
	t.mu.Unlock()
	for _, s := range open {
		s.end()
	}
	return nil
}

// WriteTo implements memberlist.Transport. Like a datagram, what cannot be
// sent is lost.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := nodeOf(addr)
	if err != nil {
		return time.Time{}, err
	}
	t.route(to, frame(framePacket, maxHops, to, t.self, 0, b))
	return time.Now(), nil
}

func frame(kind, hops uint8, to, from wire.NodeID, number uint64, data []byte) []byte {
	b := make([]byte, 0, frameHead+len(data))
	b = append(b, kind, hops)
	b = append(append(b, to[:]...), from[:]...)
	b = binary.BigEndian.AppendUint64(b, number)
	return append(b, data...)
}

// route sends a frame to its destination, or to all neighbours for one of them
// to pass on.
func (t *transport) route(to wire.NodeID, b []byte) bool {
	t.mu.Lock()
	direct := t.neighbours[to]
	via := make([]wire.NodeID, 0, len(t.neighbours))
	for n := range t.neighbours {
		via = append(via, n)
	}
	t.mu.Unlock()
	if direct {
		return t.send(to, b)
	}
	if b[1] == 0 {
		return false
	}
	ok := false
	for _, n := range via {
		ok = t.send(n, b) || ok
	}
	return ok
}

// receive takes a frame from the neighbour via. It never blocks.
func (t *transport) receive(via wire.NodeID, b []byte) {
	if len(b) < frameHead {
		t.refused.Add(1)
		return
	}
	kind, hops, to, from := b[0], b[1], wire.NodeID(b[2:18]), wire.NodeID(b[18:34])
	number, data := binary.BigEndian.Uint64(b[34:]), b[frameHead:]
	if to != t.self {
		t.mu.Lock()
		direct := t.neighbours[to]
		t.mu.Unlock()
		if hops > 0 && direct && from != t.self {
			relayed := append([]byte(nil), b...)
			relayed[1] = hops - 1
			t.send(to, relayed)
			return
		}
		// Also what a neighbour sent to all of its own, for one of them to relay.
		t.refused.Add(1)
		return
	}
	switch kind {
	case framePacket:
		p := &memberlist.Packet{Buf: append([]byte(nil), data...), From: net.TCPAddrFromAddrPort(addrOf(from)),
			Timestamp: time.Now()}
		select {
		case t.packets <- p:
		default: // as a full socket buffer would
			t.refused.Add(1)
		}
	case frameOpen:
		s := t.add(streamKey{from, number, false})
		if s == nil {
			t.refused.Add(1)
			return
		}
		select {
		case t.streams <- s:
		default:
			t.refused.Add(1)
			t.drop(streamKey{from, number, false})
		}
	case frameData, frameClose:
		// The number is the opener's; whose it is says the first data byte.
		if len(data) < 1 {
			t.refused.Add(1)
			return
		}
		t.deliver(streamKey{from, number, data[0] == 0}, kind, data[1:])
	case frameWord:
		t.mu.Lock()
		direct := t.neighbours[from]
		t.mu.Unlock()
		switch {
		case from == via || direct: // its session says more
		case from == t.self || t.heard == nil:
			t.refused.Add(1)
		default:
			t.heard(from, via, data)
		}
	default:
		t.refused.Add(1)
	}
}

func (t *transport) deliver(k streamKey, kind uint8, data []byte) {
	t.mu.Lock()
	s := t.open[k]
	t.mu.Unlock()
	if s == nil {
		return
	}
	if kind == frameClose {
		data = nil
	} else if len(data) == 0 {
		return
	}
	select {
	case s.in <- append([]byte(nil), data...):
	default: // not read: end it rather than hold back the session
		t.refused.Add(1)
		t.drop(k)
	}
}

// add makes a stream and the two goroutines that carry it; nil when there are
// too many.
func (t *transport) add(k streamKey) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.open) >= maxStreams || t.open[k] != nil {
		return nil
	}
	outer, inner := net.Pipe()
	s := &stream{Conn: outer, inner: inner, in: make(chan []byte, queueFrames), done: make(chan struct{})}
	t.open[k] = s
	go t.carryOut(k, s)
	go t.carryIn(k, s)
	return s
}

func (t *transport) drop(k streamKey) {
	t.mu.Lock()
	s := t.open[k]
	delete(t.open, k)
	t.mu.Unlock()
	if s != nil {
		s.end()
	}
}

func (s *stream) end() {
	s.once.Do(func() {
		close(s.done)
		_ = s.inner.Close()
		_ = s.Conn.Close()
	})
}

// side is the first data byte: 1 from the opener, 0 from the other.
func (k streamKey) side() byte {
	if k.mine {
		return 1
	}
	return 0
}

// carryOut sends what memberlist writes.
func (t *transport) carryOut(k streamKey, s *stream) {
	buf := make([]byte, maxPayload)
	for {
		n, err := s.inner.Read(buf)
		if n > 0 {
			t.route(k.peer, frame(frameData, maxHops, k.peer, t.self, k.number, append([]byte{k.side()}, buf[:n]...)))
		}
		if err != nil {
			t.route(k.peer, frame(frameClose, maxHops, k.peer, t.self, k.number, []byte{k.side()}))
			t.drop(k)
			return
		}
	}
}

// carryIn gives memberlist what arrives. An empty piece is the end.
func (t *transport) carryIn(k streamKey, s *stream) {
	for {
		select {
		case <-s.done:
			return
		case b := <-s.in:
			if len(b) == 0 {
				t.drop(k)
				return
			}
			if _, err := s.inner.Write(b); err != nil {
				t.drop(k)
				return
			}
		}
	}
}

// DialTimeout implements memberlist.Transport. The stream is open at once; that
// nobody is there shows in a read that times out.
func (t *transport) DialTimeout(addr string, _ time.Duration) (net.Conn, error) {
	to, err := nodeOf(addr)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.last++
	k := streamKey{to, t.last, true}
	t.mu.Unlock()
	s := t.add(k)
	if s == nil {
		return nil, errors.New("too many streams to members")
	}
	if !t.route(to, frame(frameOpen, maxHops, to, t.self, k.number, nil)) {
		t.drop(k)
		return nil, fmt.Errorf("no way to member %s", to)
	}
	return s, nil
}

// setNeighbour notes that a session with a node began or ended.
func (t *transport) setNeighbour(id wire.NodeID, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if up {
		t.neighbours[id] = true
	} else {
		delete(t.neighbours, id)
	}
}
