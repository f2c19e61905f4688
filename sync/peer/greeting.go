package peer

import (
	"fmt"

	"sasyncd/sync/wire"
)

// greeted takes the first message of a connection, which must be Hello, or Bye
// from a listener that refuses.
func (m *machine) greeted(l *link, ev evReceived) {
	switch msg := ev.Msg.(type) {
	case *wire.Hello:
		if code, text := m.judge(l, msg, ev.Taken); code != 0 {
			m.refuse(l, code, text)
			return
		}
		l.hello = msg
		if l.dialled {
			m.answered(l)
		} else {
			m.asked(l)
		}
	case *wire.Bye:
		m.turnedDown(l, msg)
	default:
		m.refuse(l, wire.ByeProtocol, fmt.Sprintf("%s came before hello", ev.Msg.Type()))
	}
}

// judge checks who is at the other end.
func (m *machine) judge(l *link, h *wire.Hello, taken string) (wire.ByeCode, string) {
	v, err := (&wire.Hello{Min: m.self.min, Max: m.self.max}).Agree(h)
	switch {
	case h.Node == m.self.node && h.Nonce == m.self.nonce:
		return wire.ByeSelf, "this is the same node"
	case h.Node == m.self.node:
		return wire.ByeDuplicate, "both nodes have the id " + h.Node.String() +
			": remove the state directory of a cloned one"
	case h.Node.IsZero():
		return wire.ByeProtocol, "the node id is empty"
	case taken != "":
		return wire.ByeDuplicate, "another peer, " + taken + ", is connected with the node id " + h.Node.String()
	case err != nil:
		return wire.ByeVersion, err.Error()
	}
	l.version = v
	return 0, ""
}

// refuse says why and closes a connection that is not up.
func (m *machine) refuse(l *link, code wire.ByeCode, text string) {
	m.forget(l)
	m.do(actShut{l.id, code, text})
	if l.dialled {
		m.turnedAway(l, Reason{Code: code, Text: text})
	} else if code != wire.ByeRedundant && code != wire.ByeSelf {
		m.do(actTrouble{Reason{Code: code, Text: text}})
	}
}

// turnedDown takes the Bye of a peer that refuses.
func (m *machine) turnedDown(l *link, b *wire.Bye) {
	m.forget(l)
	m.do(actDrop{l.id})
	if l.dialled {
		m.turnedAway(l, Reason{Code: b.Code, Text: b.Text, Remote: true})
	}
}

// turnedAway ends a round whose connection was refused by either side.
func (m *machine) turnedAway(l *link, why Reason) {
	if m.round == nil || m.round.greeting != l {
		return
	}
	if m.wasTold && m.next == nil {
		m.fail(Reason{Code: why.Code, Text: "the peer moved the session to a connection that failed"})
	}
	switch why.Code {
	case wire.ByeRedundant:
		m.cancelRound()
		m.nextDial = m.now.Add(redundantFor)
		return
	case wire.ByeSelf:
		// One file for all nodes lists this one too: no error.
		m.own[l.addr] = m.now.Add(selfFor)
		m.cancelRound()
		m.nextDial = m.now
		return
	case wire.ByeVersion, wire.ByeDuplicate:
		m.backoff = backoffMax // it takes a human
	}
	m.endRound(why)
}

// answered takes the listener's Hello: it has decided for this connection.
func (m *machine) answered(l *link) {
	m.forget(l)
	if m.round != nil && m.round.greeting == l {
		m.cancelRound()
	}
	switch {
	case m.cur == nil && l.hello.Move:
		// The peer carries a session on that is over here.
		m.do(actShut{l.id, wire.ByeRedundant, "the session to be carried on is over"})
		m.nextDial = m.now
	case m.cur == nil:
		m.startUp(l)
	case l.move && l.hello.Move && l.hello.Nonce == m.nonce && m.next == nil:
		m.startMove(l)
	default:
		m.replace(l)
	}
}

// asked takes the dialler's Hello and decides.
func (m *machine) asked(l *link) {
	l.gen, l.move = l.hello.Gen, l.hello.Move
	if !m.wins(l) {
		m.refuse(l, wire.ByeRedundant, "another connection stays")
		return
	}
	m.forget(l)
	if r := m.round; r != nil {
		if g := r.greeting; g != nil {
			m.forget(g)
			m.do(actShut{g.id, wire.ByeRedundant, "another connection stays"})
		}
		m.cancelRound()
	}
	silent := m.cur != nil && m.reached(m.lastRecv.Add(suspectAfter)) && !m.held
	move := l.move && m.cur != nil && m.next == nil && !m.wasTold && l.hello.Nonce == m.nonce && !silent
	m.do(actGreet{l.id, l.gen, move})
	switch {
	case m.cur == nil:
		m.startUp(l)
	case move:
		m.startMove(l)
	default:
		m.replace(l)
	}
}

// replace ends the session in favour of one on l.
func (m *machine) replace(l *link) {
	why := Reason{Code: wire.ByeRedundant, Text: "the peer opened another connection"}
	switch {
	case l.hello.Nonce != m.nonce:
		why.Text = "the peer's process is another one"
	case l.dialled:
		why.Text = "the connection went silent, another address answers"
	}
	m.do(actShut{m.cur.id, wire.ByeRedundant, "another connection takes its place"})
	m.down(why)
	m.startUp(l)
}

// wins reports whether an accepted connection is better than what there is: a
// session, or a connection of ours whose Hello is under way.
func (m *machine) wins(l *link) bool {
	than := m.cur
	if m.next != nil {
		than = m.next
	}
	if than != nil {
		if l.hello.Nonce != m.nonce || l.hello.Node != than.hello.Node {
			return true
		}
		if !m.outranks(l, than) {
			return false
		}
	}
	if m.round != nil && m.round.greeting != nil {
		return m.outranks(l, m.round.greeting)
	}
	return true
}

// outranks is the rule of package wire for two connections to one process.
func (m *machine) outranks(l, than *link) bool {
	if l.gen != than.gen {
		return l.gen > than.gen
	}
	lower := m.lower(l.hello.Node)
	if a, b := l.dialled == lower, than.dialled == lower; a != b {
		return a
	}
	return true
}
