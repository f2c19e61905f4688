package peer

import (
	"net/netip"

	"sasyncd/sync/wire"
)

// connID names a connection between the machine and its runner.
type connID uint64

// event is what happens to a machine; nil is the passing of time.
type event any

type (
	// evAddrs replaces the peer's addresses, in order of preference.
	evAddrs struct{ Addrs []netip.AddrPort }
	// evDialled tells that a connection was opened to Addr, evDialFailed that
	// it was not.
	evDialled struct {
		Conn connID
		Addr netip.AddrPort
	}
	evDialFailed struct {
		Addr netip.AddrPort
		Err  error
	}
	// evAccepted tells that the peer opened a connection, from Addr.
	evAccepted struct {
		Conn connID
		From netip.Addr
	}
	// evReceived is a message. Taken is for a Hello only: the name of another
	// peer that is connected with the same node id.
	evReceived struct {
		Conn  connID
		Msg   wire.Message
		Taken string
	}
	// evLost tells that a connection ended: reading failed, or writing.
	evLost struct {
		Conn    connID
		Err     error
		Writing bool
	}
	// evMoved tells that what is sent goes to the new connection now and the
	// old one was told so.
	evMoved struct{ Conn connID }
	// evHold tells that messages are not read for want of a taker, or are
	// again.
	evHold struct{ On bool }
	// evKick asks to connect at once.
	evKick struct{}
	// evRenew asks to replace the connection; KeyGone: the key it was made
	// under is no longer accepted.
	evRenew struct{ KeyGone bool }
	// evClose ends the session.
	evClose struct {
		Code wire.ByeCode
		Text string
	}
)

// action is what the runner has to do.
type action any

type (
	// actDial opens a connection, actCancel gives up doing so.
	actDial   struct{ Addr netip.AddrPort }
	actCancel struct{ Addr netip.AddrPort }
	// actGreet sends Hello.
	actGreet struct {
		Conn connID
		Gen  uint32
		Move bool
	}
	// actRead lets messages behind the first be read.
	actRead struct{ Conn connID }
	// actShut says Bye and closes, actDrop closes at once.
	actShut struct {
		Conn connID
		Code wire.ByeCode
		Text string
	}
	actDrop struct{ Conn connID }
	// actUp begins a session on a connection, actDown ends it.
	actUp struct {
		Conn    connID
		Hello   *wire.Hello
		Version uint16
	}
	actDown struct{ Reason Reason }
	// actMove moves what is sent from the session's connection to another.
	actMove struct{ From, To connID }
	// actSend sends ahead of what is queued.
	actSend struct{ Msg wire.Message }
	// actDeliver gives a message to the consumer.
	actDeliver struct{ Msg wire.Message }
	// actTrouble tells why there is no session, for logs and status.
	actTrouble struct{ Reason Reason }
)

// Reason says why a session or an attempt ended. Remote: the peer said so.
type Reason struct {
	Code   wire.ByeCode
	Text   string
	Remote bool
	met    Trouble // what this node itself has met
}

// Words is String for people: of what this node itself has met, what happened
// says more than the code that it would give.
func (r Reason) Words() string {
	if r.Remote || r.Text == "" {
		return r.String()
	}
	return r.Text
}

// String returns the words for a log.
func (r Reason) String() string {
	s := r.Code.String()
	if r.Text != "" {
		s += ": " + r.Text
	}
	if r.Remote {
		s = "peer says " + s
	}
	return s
}
