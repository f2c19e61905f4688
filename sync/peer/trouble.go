package peer

import (
	"errors"
	"net"
	"syscall"

	"sasyncd/sync/channel"
	"sasyncd/sync/wire"
)

// Trouble is what went wrong with a connection, for who advises on it. It is not sent.
type Trouble uint8

// Kinds of trouble. TroubleOther is all that has no advice of its own.
const (
	TroubleOther       Trouble = iota
	TroubleKey                 // the other end does not accept the shared key
	TroubleVersion             // no common version of the protocol
	TroubleSame                // both ends have one node id
	TroubleRefused             // nobody listens there, or sasyncd ends
	TroubleUnreachable         // no route, or no answer
)

// Trouble returns what went wrong: by the code, which either end may have given, else
// by what this end met.
func (r Reason) Trouble() Trouble {
	switch r.Code {
	case wire.ByeVersion:
		return TroubleVersion
	case wire.ByeDuplicate, wire.ByeSelf:
		return TroubleSame
	case wire.ByeShutdown:
		return TroubleRefused
	}
	return r.met
}

// troubleOf is what an error of dialling or greeting is about.
func troubleOf(err error) Trouble {
	var timeout net.Error
	switch {
	case errors.Is(err, channel.ErrRefused):
		return TroubleKey
	case errors.Is(err, syscall.ECONNREFUSED):
		return TroubleRefused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.As(err, &timeout) &&
		timeout.Timeout():
		return TroubleUnreachable
	}
	return TroubleOther
}
