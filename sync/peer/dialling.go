package peer

import (
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// purpose says what a round of dialling is for.
type purpose uint8

const (
	forContact   purpose = iota // there is no session
	forRenewal                  // to carry the session on, on a fresh connection
	forSuspicion                // to leave a connection that went silent
)

// round is one go through a peer's addresses: the next is tried when one
// failed or took long, and the first that answers is greeted. It ends with a
// session or with a pause.
type round struct {
	why      purpose
	todo     []netip.AddrPort
	dialling []netip.AddrPort
	nextAt   time.Time
	greeting *link
	trouble  Reason
}

func (m *machine) setAddrs(addrs []netip.AddrPort) {
	m.addrs, m.first = addrs, 0
	if r := m.round; r != nil && r.greeting == nil {
		r.todo = slices.DeleteFunc(r.todo, func(a netip.AddrPort) bool { return !slices.Contains(addrs, a) })
		for _, a := range addrs {
			if !slices.Contains(r.todo, a) && !slices.Contains(r.dialling, a) {
				r.todo = append(r.todo, a)
			}
		}
	}
	if m.nextDial.IsZero() {
		m.nextDial = m.now
	}
}

func (m *machine) startRound(why purpose) {
	todo := m.targets()
	if len(todo) == 0 {
		m.nextDial = m.now.Add(backoffMax) // addresses may become known, or cease to be ours
		return
	}
	if m.cur != nil {
		// A renewed connection should go where the old one is; a suspected
		// one anywhere else.
		here := func(a netip.AddrPort) bool { return a.Addr() == m.cur.addr.Addr() }
		if why == forSuspicion {
			todo = slices.DeleteFunc(todo, here)
		} else if i := slices.IndexFunc(todo, here); i > 0 {
			todo[0], todo[i] = todo[i], todo[0]
		}
	}
	m.round = &round{why: why, todo: todo, nextAt: m.now}
}

// dialMore begins with the next address when it is time.
func (m *machine) dialMore() {
	r := m.round
	if r == nil || r.greeting != nil {
		return
	}
	for len(r.todo) > 0 && (m.reached(r.nextAt) || len(r.dialling) == 0) {
		a := r.todo[0]
		r.todo, r.dialling = r.todo[1:], append(r.dialling, a)
		r.nextAt = m.now.Add(stagger)
		m.do(actDial{a})
	}
	if len(r.todo)+len(r.dialling) == 0 {
		m.endRound(r.trouble)
	}
}

// endRound gives up for now.
func (m *machine) endRound(why Reason) {
	m.cancelRound()
	m.delay()
	if len(m.addrs) > 0 {
		m.first = (m.first + 1) % len(m.addrs)
	}
	m.do(actTrouble{why})
}

// cancelRound stops dialling. A connection that was greeted is left alone.
func (m *machine) cancelRound() {
	if m.round == nil {
		return
	}
	for _, a := range m.round.dialling {
		m.do(actCancel{a})
	}
	m.round = nil
}

func (m *machine) dialFailed(ev evDialFailed) {
	r := m.round
	if r == nil || !slices.Contains(r.dialling, ev.Addr) {
		return
	}
	r.dialling = slices.DeleteFunc(r.dialling, func(a netip.AddrPort) bool { return a == ev.Addr })
	r.trouble = Reason{Code: wire.ByeTimeout, Text: words(ev.Err), met: troubleOf(ev.Err)}
	r.nextAt = m.now
}

func (m *machine) dialled(ev evDialled) {
	r := m.round
	if r == nil || r.greeting != nil || !slices.Contains(r.dialling, ev.Addr) {
		m.do(actDrop{ev.Conn})
		return
	}
	for _, a := range r.dialling {
		if a != ev.Addr {
			m.do(actCancel{a})
		}
	}
	r.dialling, r.todo = nil, nil
	l := &link{
		id: ev.Conn, dialled: true, addr: ev.Addr, gen: m.gen + 1,
		move: r.why == forRenewal && m.cur != nil && m.next == nil, by: m.now.Add(greetTimeout),
	}
	r.greeting = l
	m.greeting[l.id] = l
	m.do(actGreet{l.id, l.gen, l.move})
}

// forget ends the wait for a connection's first message.
func (m *machine) forget(l *link) { delete(m.greeting, l.id) }
