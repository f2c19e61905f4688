package peer

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// do carries out an action of the machine.
func (o *owner) do(a action) {
	switch a := a.(type) {
	case actDial:
		o.dial(a.Addr)
	case actCancel:
		if d := o.dials[a.Addr]; d != nil {
			d.cancel()
			delete(o.dials, a.Addr)
		}
	case actGreet:
		h := *o.mgr.cfg.Hello()
		h.Gen, h.Move = a.Gen, a.Move
		if err := o.lines[a.Conn].say(&h); err != nil {
			o.log.Error("cannot say hello", "err", err)
			o.lines[a.Conn].close()
		}
	case actRead:
		o.lines[a.Conn].open()
	case actShut:
		o.mgr.closed.bye(a.Code)
		o.lines[a.Conn].shut(&wire.Bye{Code: a.Code, Text: a.Text})
		delete(o.lines, a.Conn)
	case actDrop:
		if l := o.lines[a.Conn]; l != nil {
			l.close()
			delete(o.lines, a.Conn)
		}
	case actUp:
		o.up(a)
	case actDown:
		o.down(a.Reason)
	case actMove:
		o.move(a)
	case actSend:
		o.urgent(a.Msg)
	case actDeliver:
		o.tell(Event{Kind: Message, Session: o.shared.session, Message: a.Msg})
	case actTrouble:
		o.logFailure(a.Reason)
	}
}

func (o *owner) dial(addr netip.AddrPort) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	d := &dial{addr, cancel}
	o.dials[addr] = d
	o.tasks.Go(func() {
		defer cancel()
		c, err := channel.Dial(ctx, o.mgr.cfg.Dial, addr.String(), o.mgr.currentKeys())
		if err != nil {
			o.post(inDialFailed{d, err})
			return
		}
		o.post(inDialled{c, d})
	})
}

func (o *owner) up(a actUp) {
	l := o.lines[a.Conn]
	s := &Session{
		peer: o.name, hello: a.Hello, version: a.Version, owner: o, since: time.Now(), last: time.Now(),
		up: true, sender: l, counters: map[uint32]bool{},
	}
	o.shared.mu.Lock()
	o.shared.session, o.shared.told = s, false
	l.session = s
	o.shared.mu.Unlock()
	o.recheck = true // the keys may have changed meanwhile
	if l.conn.Dialled() {
		o.announce()
	}
}

// carries reports whether l belongs to the session.
func (o *owner) carries(l *line) bool {
	o.shared.mu.Lock()
	defer o.shared.mu.Unlock()
	return o.shared.session != nil && l.session == o.shared.session
}

// announce tells the consumer of the session. A listener's waits for the first
// message behind Hello: the dialler may refuse what the listener accepted, and
// nobody should hear of a session that never was.
func (o *owner) announce() {
	o.shared.mu.Lock()
	s := o.shared.session
	o.shared.told, o.shared.trouble, o.shared.known = true, Reason{}, s.hello.Node
	remote, dialled := s.sender.conn.Remote(), s.sender.conn.Dialled()
	o.shared.mu.Unlock()
	o.quiet.over()
	o.tell(Event{Kind: Up, Session: s})
	o.log.Info("connected", "node", s.hello.Node.String(), "address", remote, "dialled", dialled, "version", s.version)
}

func (o *owner) tell(ev Event) { o.pending = append(o.pending, waiting{Event: ev}) }

func (o *owner) down(why Reason) {
	s := o.shared.session
	o.shared.mu.Lock()
	s.end()
	o.shared.session = nil
	o.shared.mu.Unlock()
	if why.Code == wire.ByeTimeout && !o.lost {
		o.mgr.closed.bye(why.Code)
	}
	if !o.shared.told {
		o.logFailure(why)
		return
	}
	o.shared.mu.Lock()
	o.shared.trouble = why
	o.shared.mu.Unlock()
	o.quiet.last = why // which the next line says
	o.tell(Event{Kind: Down, Session: s, Reason: why})
	level := slog.LevelWarn
	if why.Code == wire.ByeShutdown || why.Code == wire.ByeRedundant {
		level = slog.LevelInfo
	}
	o.log.Log(context.Background(), level, "disconnected", "reason", why.String(),
		"after", time.Since(s.since).Round(time.Millisecond))
}

func (o *owner) move(a actMove) {
	from, to := o.lines[a.From], o.lines[a.To]
	o.shared.mu.Lock()
	to.session = from.session
	from.leaveTo = to
	o.shared.mu.Unlock()
	from.poke()
	o.log.Debug("moving to another connection", "address", to.conn.Remote(), "dialled", to.conn.Dialled())
}

func (o *owner) urgent(m wire.Message) {
	frame, err := wire.AppendFrame(nil, m)
	if err != nil {
		return // Ping and Pong have nothing that could be wrong
	}
	o.shared.mu.Lock()
	defer o.shared.mu.Unlock()
	if s := o.shared.session; s != nil {
		s.urgent = append(s.urgent, frame)
		s.sender.poke()
	}
}

// logFailure logs why there is no contact, as often as quiet lets pass.
func (o *owner) logFailure(why Reason) {
	o.shared.mu.Lock()
	o.shared.trouble = why
	o.shared.mu.Unlock()
	level := slog.LevelInfo
	switch {
	case !o.quiet.pass(time.Now(), why):
		level = slog.LevelDebug
	case why.Code == wire.ByeVersion || why.Code == wire.ByeDuplicate:
		level = slog.LevelWarn
	}
	o.log.Log(context.Background(), level, "not connected", "reason", why.String())
}
