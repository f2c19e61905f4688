package peer

import (
	"fmt"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// TestKeyIsGone: a connection under a removed key is replaced, or ends.
func TestKeyIsGone(t *testing.T) {
	s := newScript(t)
	s.do(evRenew{true})
	s.up(addrA)
	s.do(evHold{true})
	s.do(evRenew{true}, "dial a")
	s.pass(keyGrace/2, "ping")
	s.do(evRenew{true}) // gives no more time
	s.pass(keyGrace/2-time.Millisecond, "ping")
	s.pass(time.Millisecond, "shut 1 "+wire.ByeStranger.String(), "down "+wire.ByeStranger.String())

	s = newScript(t)
	s.up(addrA)
	s.do(evRenew{true}, "dial a")
	s.do(evDialled{2, addrA}, "greet 2 gen 2 move")
	s.do(evReceived{Conn: 2, Msg: hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true })}, "move 1 2")
	s.do(evReceived{Conn: 1, Msg: &wire.Bye{Code: wire.ByeRenewed}}, "read 2")
	s.do(evMoved{9})
	s.do(evMoved{1}, "drop 1")
	s.do(evHold{true})
	s.pass(keyGrace, "ping") // the new one has nothing to do with it
	s.do(evReceived{Conn: 2, Msg: &wire.Ack{}}, "deliver ack")
	s.do(evReceived{Conn: 1, Msg: &wire.Ack{}})
}

// TestMoveThatIsNotFinished ends the session.
func TestMoveThatIsNotFinished(t *testing.T) {
	s := newScript(t)
	s.up(addrA)
	s.do(evHold{true})
	s.do(evRenew{}, "dial a")
	s.do(evDialled{2, addrA}, "greet 2 gen 2 move")
	s.do(evReceived{Conn: 2, Msg: hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true })}, "move 1 2")
	s.do(evMoved{1})
	s.pass(moveTimeout-time.Millisecond, "ping")
	s.pass(time.Millisecond, "drop 1", "drop 2", "down "+wire.ByeTimeout.String(), "dial a")
	// Of a move that the peer does not agree to the new connection takes the place.
	s = newScript(t)
	s.up(addrA)
	s.do(evRenew{}, "dial a")
	s.do(evDialled{2, addrA}, "greet 2 gen 2 move")
	s.do(evReceived{Conn: 2, Msg: hello(func(h *wire.Hello) { h.Gen = 2 })}, "shut 1 "+wire.ByeRedundant.String(),
		"down "+wire.ByeRedundant.String(), "up 2", "read 2", "ping")
	// A session that is over cannot be carried on.
	s = newScript(t)
	s.up(addrA)
	s.do(evRenew{}, "dial a")
	s.do(evDialled{2, addrA}, "greet 2 gen 2 move")
	s.do(evLost{Conn: 1, Err: errNo}, "drop 1", "down "+wire.ByeTimeout.String())
	s.do(evReceived{Conn: 2, Msg: hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true })},
		"shut 2 "+wire.ByeRedundant.String(), "dial a")
}

// TestTheirConnection: which connection of the peer's is taken beside one of ours.
func TestTheirConnection(t *testing.T) {
	redundant := wire.ByeRedundant.String()
	replaced := []string{"greet 2 gen 1", "shut 1 " + redundant, "down " + redundant, "up 2", "read 2", "ping"}
	gen := func(n uint32) func(*wire.Hello) { return func(h *wire.Hello) { h.Gen = n } }
	with := func(n uint32, l ...string) []string {
		return append([]string{fmt.Sprintf("greet 2 gen %d", n)}, l...)
	}
	for name, tt := range map[string]struct {
		lead func(s *script)
		msg  *wire.Hello
		want []string
	}{
		"the same, but dialled by the higher id": {func(*script) {}, hello(gen(1)), []string{"shut 2 " + redundant}},
		"an older one":                           {func(*script) {}, hello(gen(0)), []string{"shut 2 " + redundant}},
		"a newer one":                            {func(*script) {}, hello(gen(2)), with(2, replaced[1:]...)},
		"of another process": {func(*script) {}, hello(func(h *wire.Hello) { h.Gen, h.Nonce = 1, 201 }),
			replaced},
		"of another process, to move": {func(*script) {},
			hello(func(h *wire.Hello) { h.Gen, h.Nonce, h.Move = 1, 201, true }), replaced},
		"to move": {func(*script) {}, hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true }),
			[]string{"greet 2 gen 2 move", "move 1 2"}},
		"to move a silent one": {func(s *script) { s.pass(suspectAfter, "ping") },
			hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true }), with(2, replaced[1:]...)},
		"to move a silent one that is not listened to": {func(s *script) {
			s.do(evHold{true})
			s.pass(suspectAfter, "ping")
		}, hello(func(h *wire.Hello) { h.Gen, h.Move = 2, true }), []string{"greet 2 gen 2 move", "move 1 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.up(addrA)
			tt.lead(s)
			s.do(evAccepted{2, at(0, 2)})
			s.do(evReceived{Conn: 2, Msg: tt.msg}, tt.want...)
		})
	}
	// While ours is being greeted.
	for _, tt := range []struct {
		gen  uint32
		wins bool
	}{{0, false}, {1, false}, {2, true}} {
		s := newScript(t)
		s.do(s.addrs(addrA), "dial a")
		s.do(evDialled{1, addrA}, "greet 1 gen 1")
		s.do(evAccepted{2, at(0, 2)})
		want := []string{"shut 2 " + redundant}
		if tt.wins {
			want = []string{"shut 1 " + redundant, "greet 2 gen 2", "up 2", "read 2", "ping"}
		}
		s.do(evReceived{Conn: 2, Msg: hello(gen(tt.gen))}, want...)
	}
	// While one of ours is being dialled, and with none.
	s := newScript(t)
	s.do(s.addrs(addrA), "dial a")
	s.do(evAccepted{2, at(0, 2)})
	s.do(evReceived{Conn: 2, Msg: hello(nil)}, "cancel a", "greet 2 gen 0", "up 2", "read 2", "ping")
	if d := s.m.renewAt.Sub(s.now); d != renewAfter+renewLater {
		t.Errorf("renewed after %v: who dialled has no head start", d)
	}
}
