package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// script drives one machine and writes down what it does.
type script struct {
	t    *testing.T
	m    *machine
	now  time.Time
	zero time.Time
}

var (
	addrA = netip.AddrPortFrom(at(0, 2), 500)
	addrB = netip.AddrPortFrom(at(1, 2), 500)
)

func newScript(t *testing.T) *script {
	zero := time.Unix(1e9, 0)
	return &script{t, newMachine(self{nodeID(1), 100, 1, 1}), zero, zero}
}

// do takes an event and wants these actions.
func (s *script) do(ev event, want ...string) {
	s.t.Helper()
	var got []string
	for _, a := range s.m.Step(s.now, ev) {
		got = append(got, s.line(a))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.t.Fatalf("at %v, on %T%+v:\n got %q\nwant %q", s.now.Sub(s.zero), ev, ev, got, want)
	}
}

func (s *script) line(a action) string {
	name := map[netip.AddrPort]string{addrA: "a", addrB: "b"}
	switch a := a.(type) {
	case actDial:
		return "dial " + name[a.Addr]
	case actCancel:
		return "cancel " + name[a.Addr]
	case actGreet:
		return fmt.Sprintf("greet %d gen %d%s", a.Conn, a.Gen, map[bool]string{true: " move"}[a.Move])
	case actRead:
		return fmt.Sprintf("read %d", a.Conn)
	case actShut:
		return fmt.Sprintf("shut %d %s", a.Conn, a.Code)
	case actDrop:
		return fmt.Sprintf("drop %d", a.Conn)
	case actUp:
		return fmt.Sprintf("up %d", a.Conn)
	case actDown:
		return fmt.Sprintf("down %s%s", a.Reason.Code, map[bool]string{true: " told"}[a.Reason.Remote])
	case actMove:
		return fmt.Sprintf("move %d %d", a.From, a.To)
	case actSend:
		return a.Msg.Type().String()
	case actDeliver:
		return "deliver " + a.Msg.Type().String()
	case actTrouble:
		return fmt.Sprintf("trouble %s", a.Reason.Code)
	}
	return fmt.Sprintf("%T", a)
}

// wake lets time pass to when the machine asks for it, which is so much later.
func (s *script) wake(after time.Duration, want ...string) {
	s.t.Helper()
	if d := s.m.Deadline().Sub(s.now); d != after {
		s.t.Fatalf("at %v: wants to be woken after %v, want %v", s.now.Sub(s.zero), d, after)
	}
	s.now = s.now.Add(after)
	s.do(nil, want...)
}

// pass lets so much time pass at once.
func (s *script) pass(d time.Duration, want ...string) {
	s.t.Helper()
	s.now = s.now.Add(d)
	s.do(nil, want...)
}

func hello(edit func(h *wire.Hello)) *wire.Hello {
	h := &wire.Hello{Min: 1, Max: 1, Node: nodeID(2), Nonce: 200}
	if edit != nil {
		edit(h)
	}
	return h
}

func (s *script) addrs(list ...netip.AddrPort) event { return evAddrs{list} }

// up brings a session up on connection 1, which was dialled to a.
func (s *script) up(list ...netip.AddrPort) {
	s.t.Helper()
	s.do(s.addrs(list...), "dial a")
	s.do(evDialled{1, addrA}, "greet 1 gen 1")
	s.do(evReceived{Conn: 1, Msg: hello(func(h *wire.Hello) { h.Gen = 1 })}, "up 1", "read 1", "ping")
}

var errNo = errors.New("refused")

// TestRoundOfDialling: one address after the other, at once after a failure; then a pause
// that grows, and the next round begins elsewhere.
func TestRoundOfDialling(t *testing.T) {
	s := newScript(t)
	s.do(s.addrs(addrA, addrB), "dial a")
	s.wake(stagger, "dial b")
	if !s.m.Deadline().IsZero() {
		t.Error("it wants to be woken while both are under way")
	}
	s.do(evDialFailed{addrA, errNo})
	s.do(evDialFailed{addrA, errNo}) // is not under way any more
	s.do(evDialFailed{addrB, errNo}, "trouble "+wire.ByeTimeout.String())
	pause := backoffMin
	for round := range 8 {
		first, then := "b", "a"
		if round%2 == 1 {
			first, then = then, first
		}
		s.wake(pause, "dial "+first)
		fail := map[string]event{"a": evDialFailed{addrA, errNo}, "b": evDialFailed{addrB, errNo}}
		s.do(fail[first], "dial "+then)
		s.do(fail[then], "trouble "+wire.ByeTimeout.String())
		pause = min(2*pause, backoffMax)
	}
	if pause != backoffMax {
		t.Fatal("the longest pause is not reached")
	}
	// Nobody wants to wait after a change of role.
	s.do(evKick{}, "dial b")
	s.do(evKick{}, "dial a") // nor for the other one
	s.do(evDialled{1, addrA}, "cancel b", "greet 1 gen 1")
	s.do(evDialled{2, addrB}, "drop 2")
	s.do(evLost{Conn: 1, Err: errNo}, "drop 1", "trouble "+wire.ByeStranger.String())
	s.wake(backoffMin, "dial a")
	// Other addresses in the middle of a round.
	s.do(s.addrs(addrB))
	s.do(evDialFailed{addrA, errNo}, "dial b")
	s.do(evDialFailed{addrB, errNo}, "trouble "+wire.ByeTimeout.String())
	s.do(s.addrs())
	s.now = s.now.Add(time.Hour) // there is nobody to dial
	s.do(s.addrs(addrA), "dial a")
}

// TestGreetings: who is at the other end, of a connection of ours and of theirs.
func TestGreetings(t *testing.T) {
	for name, tt := range map[string]struct {
		msg     wire.Message
		taken   string
		dialled []string
		asked   []string
		pause   time.Duration // until it is dialled again
	}{
		"this node": {hello(func(h *wire.Hello) { h.Node, h.Nonce = nodeID(1), 100 }), "",
			[]string{"shut 1 " + wire.ByeSelf.String()}, []string{"shut 1 " + wire.ByeSelf.String()}, backoffMax},
		"a clone": {hello(func(h *wire.Hello) { h.Node = nodeID(1) }), "",
			[]string{"shut 1 " + wire.ByeDuplicate.String(), "trouble " + wire.ByeDuplicate.String()},
			[]string{"shut 1 " + wire.ByeDuplicate.String(), "trouble " + wire.ByeDuplicate.String()}, backoffMax},
		"nobody": {hello(func(h *wire.Hello) { h.Node = wire.NodeID{} }), "",
			[]string{"shut 1 " + wire.ByeProtocol.String(), "trouble " + wire.ByeProtocol.String()},
			[]string{"shut 1 " + wire.ByeProtocol.String(), "trouble " + wire.ByeProtocol.String()}, backoffMin},
		"another peer's id": {hello(nil), "gw3",
			[]string{"shut 1 " + wire.ByeDuplicate.String(), "trouble " + wire.ByeDuplicate.String()},
			[]string{"shut 1 " + wire.ByeDuplicate.String(), "trouble " + wire.ByeDuplicate.String()}, backoffMax},
		"another version": {hello(func(h *wire.Hello) { h.Min, h.Max = 2, 2 }), "",
			[]string{"shut 1 " + wire.ByeVersion.String(), "trouble " + wire.ByeVersion.String()},
			[]string{"shut 1 " + wire.ByeVersion.String(), "trouble " + wire.ByeVersion.String()}, backoffMax},
		"no hello": {&wire.Ping{}, "",
			[]string{"shut 1 " + wire.ByeProtocol.String(), "trouble " + wire.ByeProtocol.String()},
			[]string{"shut 1 " + wire.ByeProtocol.String(), "trouble " + wire.ByeProtocol.String()}, backoffMin},
		"a refusal": {&wire.Bye{Code: wire.ByeDuplicate}, "",
			[]string{"drop 1", "trouble " + wire.ByeDuplicate.String()}, []string{"drop 1"}, backoffMax},
		"another connection stays": {&wire.Bye{Code: wire.ByeRedundant}, "", []string{"drop 1"}, []string{"drop 1"},
			redundantFor},
		"its end": {nil, "", []string{"drop 1", "trouble " + wire.ByeStranger.String()}, []string{"drop 1"}, backoffMin},
	} {
		ev := event(evReceived{Conn: 1, Msg: tt.msg, Taken: tt.taken})
		if tt.msg == nil {
			ev = evLost{Conn: 1, Err: errNo}
		}
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.do(s.addrs(addrA), "dial a")
			s.do(evDialled{1, addrA}, "greet 1 gen 1")
			s.do(ev, tt.dialled...)
			if tt.pause == backoffMax && name == "this node" {
				s.wake(backoffMax) // and again, as it may cease to be ours
				s.pass(selfFor - 2*backoffMax - time.Second)
				s.wake(backoffMax)
				s.wake(backoffMax, "dial a")
				return
			}
			s.wake(tt.pause, "dial a")
		})
		t.Run(name+", asked", func(t *testing.T) {
			s := newScript(t)
			s.do(evAccepted{1, at(0, 2)})
			s.do(ev, tt.asked...)
			if !s.m.Deadline().IsZero() {
				t.Error("it waits for more")
			}
		})
	}
}

// TestSilentGreeting: who says nothing is not waited for.
func TestSilentGreeting(t *testing.T) {
	timeout := wire.ByeTimeout.String()
	s := newScript(t)
	s.do(s.addrs(addrA, addrB), "dial a")
	s.do(evDialled{1, addrA}, "greet 1 gen 1")
	s.pass(time.Second)
	s.do(evAccepted{2, at(0, 2)})
	s.wake(greetTimeout-time.Second, "shut 1 "+timeout, "trouble "+timeout)
	s.wake(backoffMin, "dial b")
	s.do(evDialled{3, addrB}, "greet 3 gen 1")
	s.wake(time.Second-backoffMin, "shut 2 "+timeout, "trouble "+timeout)
}

// TestSession: what is done with each message, and with those of other connections.
func TestSession(t *testing.T) {
	s := newScript(t)
	s.up(addrA)
	s.do(evReceived{Conn: 1, Msg: &wire.Ping{Token: 7}}, "pong")
	s.do(evReceived{Conn: 1, Msg: &wire.Ack{}}, "deliver ack")
	s.do(evReceived{Conn: 1, Msg: &wire.Unknown{Of: 200}})
	s.do(evReceived{Conn: 9, Msg: &wire.Ack{}})
	s.do(evLost{Conn: 9, Err: errNo})
	s.pass(300 * time.Millisecond)
	s.do(evReceived{Conn: 1, Msg: &wire.Pong{Token: s.m.token + 1}})
	if s.m.rtt != 0 {
		t.Error("another answer counts")
	}
	s.do(evReceived{Conn: 1, Msg: &wire.Pong{Token: s.m.token}})
	if s.m.rtt != 300*time.Millisecond {
		t.Errorf("round trip of %v", s.m.rtt)
	}
	s.wake(pingEvery-300*time.Millisecond, "ping")
	s.do(evReceived{Conn: 1, Msg: hello(nil)}, "shut 1 "+wire.ByeProtocol.String(), "down "+wire.ByeProtocol.String())
	slow := wire.ByeSlow.String()
	for name, tt := range map[string]struct {
		ev   event
		want []string
		next time.Duration
	}{
		"told": {evReceived{Conn: 1, Msg: &wire.Bye{Code: wire.ByeSlow}}, []string{"drop 1", "down " + slow + " told"},
			backoffMin},
		"shutdown": {evReceived{Conn: 1, Msg: &wire.Bye{Code: wire.ByeShutdown}},
			[]string{"drop 1", "down " + wire.ByeShutdown.String() + " told"}, backoffMin},
		"lost":   {evLost{Conn: 1, Err: errNo}, []string{"drop 1", "down " + wire.ByeTimeout.String()}, backoffMin},
		"closed": {evClose{wire.ByeSlow, "x"}, []string{"shut 1 " + slow, "down " + slow}, backoffMin},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.up(addrA)
			s.do(tt.ev, tt.want...)
			s.do(evClose{wire.ByeSlow, "x"}) // is down
			s.wake(tt.next, "dial a")
		})
		t.Run(name+", after a while", func(t *testing.T) {
			s := newScript(t)
			s.up(addrA)
			s.do(evHold{true})
			s.pass(stableAfter, "ping")
			want := tt.want
			if name != "shutdown" {
				want = append(append([]string{}, want...), "dial a")
			}
			s.do(tt.ev, want...)
			if name == "shutdown" {
				s.wake(backoffMin, "dial a")
			}
		})
	}
}

// TestSilence: at another address the peer is looked for, and a session does not outlive
// it for long.
func TestSilence(t *testing.T) {
	s := newScript(t)
	s.up(addrA, addrB)
	s.wake(pingEvery, "ping")
	s.wake(suspectAfter-pingEvery, "ping", "dial b")
	s.do(evReceived{Conn: 1, Msg: &wire.Pong{}}, "cancel b") // it lives
	s.wake(pingEvery, "ping")
	s.wake(suspectAfter-pingEvery, "ping", "dial b")
	s.wake(deadAfter-suspectAfter, "drop 1", "down "+wire.ByeTimeout.String())
	s.do(evDialled{2, addrB}, "greet 2 gen 2")
	s.do(evReceived{Conn: 2, Msg: hello(nil)}, "up 2", "read 2", "ping")

	s = newScript(t) // at the other address it answers in time
	s.up(addrA, addrB)
	s.wake(pingEvery, "ping")
	s.wake(suspectAfter-pingEvery, "ping", "dial b")
	s.do(evDialled{2, addrB}, "greet 2 gen 2")
	s.do(evReceived{Conn: 2, Msg: hello(nil)}, "shut 1 "+wire.ByeRedundant.String(), "down "+wire.ByeRedundant.String(),
		"up 2", "read 2", "ping")

	s = newScript(t) // there is no other address
	s.up(addrA)
	s.wake(pingEvery, "ping")
	s.wake(pingEvery, "ping")
	s.wake(deadAfter-2*pingEvery, "drop 1", "down "+wire.ByeTimeout.String())
}
