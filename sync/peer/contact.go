package peer

import (
	"time"

	"sasyncd/sync/wire"
)

// fail ends the session without a word on its connections.
func (m *machine) fail(why Reason) {
	m.do(actDrop{m.cur.id})
	m.down(why)
}

// close ends the session with a word.
func (m *machine) close(ev evClose) {
	if m.cur == nil {
		return
	}
	m.do(actShut{m.cur.id, ev.Code, ev.Text})
	m.down(Reason{Code: ev.Code, Text: ev.Text})
}

// down forgets the session. Its connection was closed by the caller.
func (m *machine) down(why Reason) {
	if m.next != nil {
		m.do(actDrop{m.next.id})
		m.next = nil
	}
	m.cur, m.held, m.wasTold = nil, false, false
	if m.round != nil {
		m.round.why = forContact // whatever it was begun for
	}
	if m.now.Sub(m.upSince) >= stableAfter {
		m.backoff = backoffMin
		m.nextDial = m.now
	} else {
		m.delay()
	}
	if why.Code == wire.ByeShutdown {
		m.nextDial = later(m.nextDial, m.now.Add(backoffMin))
	}
	m.do(actDown{why})
}

// delay puts the next attempt off, longer each time.
func (m *machine) delay() {
	m.nextDial = m.now.Add(m.backoff)
	m.backoff = min(2*m.backoff, backoffMax)
}

// kick connects at once: after a change of role nobody wants to wait.
func (m *machine) kick() {
	m.backoff = backoffMin
	m.nextDial = m.now
	clear(m.own)
	if r := m.round; r != nil {
		r.nextAt = m.now
	}
}

func (m *machine) renew(keyGone bool) {
	if m.cur == nil {
		return
	}
	m.renewAt = m.now
	if keyGone && m.keyBy.IsZero() {
		m.keyBy = m.now.Add(keyGrace)
	}
}

// begin notes that a session begins, or is carried on, on l.
func (m *machine) begin(l *link) {
	m.gen, m.nonce = l.gen, l.hello.Nonce
	m.upSince, m.lastRecv, m.nextDial = m.now, m.now, m.now
	m.renewAt, m.keyBy = m.now.Add(renewAfter), time.Time{}
	if !l.dialled {
		m.renewAt = m.renewAt.Add(renewLater)
	}
}

// startUp begins a session on l.
func (m *machine) startUp(l *link) {
	m.cur, m.held, m.token, m.wasTold = l, false, 0, false
	m.lastPing = time.Time{} // at once: it tells the listener that it was accepted
	m.begin(l)
	m.do(actUp{l.id, l.hello, l.version})
	m.do(actRead{l.id})
}

// startMove carries the session on, on l.
func (m *machine) startMove(l *link) {
	m.next, m.told = l, false
	m.moveBy = m.now.Add(moveTimeout)
	m.begin(l)
	m.do(actMove{m.cur.id, l.id})
	if m.wasTold {
		m.do(actRead{l.id})
	}
}

// asksToMove reports whether a connection of ours is greeted to which the
// session is to move.
func (m *machine) asksToMove() bool {
	return m.round != nil && m.round.greeting != nil && m.round.greeting.move
}

// finishMove leaves the old connection when both directions have.
func (m *machine) finishMove() {
	if !m.told || !m.wasTold {
		return
	}
	m.do(actDrop{m.cur.id})
	m.cur, m.next, m.wasTold = m.next, nil, false
}
