package peer

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// Timing of a session.
const (
	pingEvery    = time.Second
	suspectAfter = 2 * time.Second // silence after which other addresses are tried
	deadAfter    = 3 * time.Second // silence after which a connection is dead
	greetTimeout = 2 * time.Second // from one Hello to the other
	stagger      = 250 * time.Millisecond
	backoffMin   = 200 * time.Millisecond
	backoffMax   = 10 * time.Second
	stableAfter  = 10 * time.Second // a session this old starts the back-off anew
	redundantFor = time.Second      // wait for the connection that won
	selfFor      = 10 * time.Minute // how long an address counts as our own
	renewAfter   = 24 * time.Hour
	renewLater   = time.Minute // head start of the side that dialled
	moveTimeout  = 10 * time.Second
	keyGrace     = 30 * time.Second // to replace a connection under a removed key
)

// link is a connection as the machine sees it.
type link struct {
	id      connID
	dialled bool
	addr    netip.AddrPort // where it was dialled, or the source with port 0
	gen     uint32
	move    bool
	hello   *wire.Hello // the peer's, once judged
	version uint16
	by      time.Time // Hello must come until then
}

// self is what the machine knows of its own node.
type self struct {
	node     wire.NodeID
	nonce    uint64
	min, max uint16
}

// machine decides about the connections to one peer. It is pure: time and
// events come in, actions go out.
type machine struct {
	self  self
	now   time.Time
	out   []action
	addrs []netip.AddrPort
	own   map[netip.AddrPort]time.Time // addresses that are this node, until when

	greeting map[connID]*link // no Hello received yet
	cur      *link            // the session is here
	next     *link            // and is moving there
	told     bool             // moving: what we send goes to next
	wasTold  bool             // moving: what we receive comes from next (or will, once its Hello is here)
	moveBy   time.Time

	round    *round
	nextDial time.Time
	backoff  time.Duration
	first    int // rotates with every failed round

	gen   uint32 // of the last connection that was up
	nonce uint64 // and the peer's process on it

	upSince, lastRecv, lastPing time.Time
	held                        bool
	token                       uint64
	rtt                         time.Duration
	renewAt, keyBy              time.Time
}

func newMachine(s self) *machine {
	return &machine{self: s, own: map[netip.AddrPort]time.Time{}, greeting: map[connID]*link{}, backoff: backoffMin}
}

func (m *machine) do(a action) { m.out = append(m.out, a) }

// Step takes an event at a time that never goes back and returns what is to be
// done, in order. The result is valid until the next call.
func (m *machine) Step(now time.Time, ev event) []action {
	m.now, m.out = now, m.out[:0]
	switch ev := ev.(type) {
	case evAddrs:
		m.setAddrs(ev.Addrs)
	case evDialled:
		m.dialled(ev)
	case evDialFailed:
		m.dialFailed(ev)
	case evAccepted:
		m.greeting[ev.Conn] = &link{id: ev.Conn, addr: netip.AddrPortFrom(ev.From, 0), by: now.Add(greetTimeout)}
	case evReceived:
		m.received(ev)
	case evLost:
		m.lost(ev)
	case evMoved:
		if m.next != nil && m.cur.id == ev.Conn {
			m.told = true
			m.finishMove()
		}
	case evHold:
		m.held, m.lastRecv = ev.On, now
	case evKick:
		m.kick()
	case evRenew:
		m.renew(ev.KeyGone)
	case evClose:
		m.close(ev)
	}
	m.timers()
	return m.out
}

// Deadline returns when Step wants to be called next without an event; zero
// means never.
func (m *machine) Deadline() (at time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, l := range m.greeting {
		earlier(l.by)
	}
	switch {
	case m.cur == nil:
		if m.round == nil && len(m.addrs) > 0 {
			earlier(m.nextDial)
		}
	default:
		earlier(m.lastPing.Add(pingEvery))
		earlier(m.keyBy)
		if m.next != nil {
			earlier(m.moveBy)
		}
		if !m.held {
			earlier(m.lastRecv.Add(deadAfter))
		}
		if m.round == nil && m.next == nil {
			earlier(later(m.renewAt, m.nextDial))
			if !m.held && m.mayLeave() {
				earlier(later(m.lastRecv.Add(suspectAfter), m.nextDial))
			}
		}
	}
	if r := m.round; r != nil && r.greeting == nil && len(r.todo) > 0 {
		earlier(r.nextAt)
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (m *machine) reached(t time.Time) bool { return !t.IsZero() && !m.now.Before(t) }

// timers does what is due.
func (m *machine) timers() {
	for _, id := range slices.Sorted(maps.Keys(m.greeting)) {
		if l := m.greeting[id]; m.reached(l.by) {
			m.refuse(l, wire.ByeTimeout, "no hello came")
		}
	}
	if m.cur != nil {
		m.watch()
	}
	if m.cur == nil && m.round == nil && m.reached(m.nextDial) {
		m.startRound(forContact)
	}
	m.dialMore()
}

// watch looks after a session.
func (m *machine) watch() {
	switch {
	case m.next != nil && m.reached(m.moveBy):
		m.fail(Reason{Code: wire.ByeTimeout, Text: "a renewed connection did not take over"})
		return
	case !m.held && m.reached(m.lastRecv.Add(deadAfter)):
		m.fail(Reason{Code: wire.ByeTimeout, Text: "nothing was received for " + deadAfter.String()})
		return
	case m.reached(m.keyBy):
		m.close(evClose{wire.ByeStranger, "the shared key of the connection was removed"})
		return
	}
	if m.lastPing.IsZero() || m.reached(m.lastPing.Add(pingEvery)) {
		m.lastPing = m.now
		m.token = uint64(m.now.UnixNano())
		m.do(actSend{&wire.Ping{Token: m.token}})
	}
	if m.round != nil || m.next != nil || m.now.Before(m.nextDial) {
		return
	}
	switch {
	case !m.held && m.reached(m.lastRecv.Add(suspectAfter)) && m.mayLeave():
		m.startRound(forSuspicion)
	case m.reached(m.renewAt):
		m.startRound(forRenewal)
	}
}

// received takes a message of any connection.
func (m *machine) received(ev evReceived) {
	if l := m.greeting[ev.Conn]; l != nil {
		m.greeted(l, ev)
		return
	}
	on := m.cur != nil && m.cur.id == ev.Conn
	if m.next != nil && m.next.id == ev.Conn {
		on = m.wasTold
	}
	if !on {
		return
	}
	m.lastRecv = m.now
	if m.round != nil && m.round.why == forSuspicion && m.round.greeting == nil {
		m.cancelRound() // it lives
	}
	switch msg := ev.Msg.(type) {
	case *wire.Ping:
		m.do(actSend{&wire.Pong{Token: msg.Token}})
	case *wire.Pong:
		if msg.Token == m.token {
			m.token, m.rtt = 0, m.now.Sub(m.lastPing)
		}
	case *wire.Hello:
		m.close(evClose{wire.ByeProtocol, "a second hello came"})
	case *wire.Bye:
		m.bye(ev.Conn, msg)
	case *wire.Unknown:
	default:
		m.do(actDeliver{ev.Msg})
	}
}

// bye takes the end of the session's connection.
func (m *machine) bye(id connID, b *wire.Bye) {
	if b.Code == wire.ByeRenewed && id == m.cur.id && !m.wasTold {
		switch {
		case m.next != nil:
			m.wasTold = true
			m.do(actRead{m.next.id})
			m.finishMove()
			return
		case m.asksToMove():
			// The answer travels on the other connection and is still on its
			// way.
			m.wasTold = true
			return
		}
	}
	m.fail(Reason{Code: b.Code, Text: b.Text, Remote: true})
}

// lost takes the end of any connection.
func (m *machine) lost(ev evLost) {
	if l := m.greeting[ev.Conn]; l != nil {
		m.forget(l)
		m.do(actDrop{l.id})
		m.turnedAway(l, Reason{Code: wire.ByeStranger, Text: words(ev.Err), met: troubleOf(ev.Err)})
		return
	}
	switch {
	case m.cur == nil:
	case ev.Conn == m.cur.id && m.wasTold && m.next != nil && !ev.Writing:
		// The peer has moved and closed; that we have too is about to be told.
	case ev.Conn == m.cur.id, m.next != nil && ev.Conn == m.next.id:
		m.fail(Reason{Code: wire.ByeTimeout, Text: "connection lost: " + words(ev.Err)})
	}
}

func words(err error) string {
	if err == nil {
		return "closed"
	}
	return err.Error()
}

// lower reports whether this node's id is the lower one.
func (m *machine) lower(peer wire.NodeID) bool { return bytes.Compare(m.self.node[:], peer[:]) < 0 }

// targets returns the addresses worth dialling, the preferred first.
func (m *machine) targets() (out []netip.AddrPort) {
	for i := range m.addrs {
		a := m.addrs[(i+m.first)%len(m.addrs)]
		if until, ok := m.own[a]; !ok || m.reached(until) {
			out = append(out, a)
		}
	}
	return out
}

// mayLeave reports whether there is an address besides that of the session.
func (m *machine) mayLeave() bool {
	return slices.ContainsFunc(m.targets(), func(a netip.AddrPort) bool { return a.Addr() != m.cur.addr.Addr() })
}
