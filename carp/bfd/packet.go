package bfd

import (
	"encoding/binary"
	"errors"
	"time"
)

// Length is the length in bytes of a control packet without authentication.
const Length = 24

const version = 1

// MaxInterval is the longest interval that a packet can carry, in whole microseconds.
const MaxInterval = (1<<32 - 1) * time.Microsecond

// Packet is a control packet (RFC 5880 section 4.1). Intervals are whole
// microseconds, from 0 to [MaxInterval].
type Packet struct {
	Diag        Diag
	State       State
	Poll, Final bool // never both
	// Independent: the session survives the end of its control plane (bit C).
	Independent bool
	Demand      bool  // the sender wants no periodic packets while both sides are Up
	Multiplier  uint8 // 1 to 255

	MyDiscr   uint32 // the sender's, never 0
	YourDiscr uint32 // the receiver's, 0 while the sender does not know it

	DesiredMinTx  time.Duration // shortest interval at which the sender would transmit
	RequiredMinRx time.Duration // shortest interval at which it can receive; 0: it wants no periodic packets
	RequiredEcho  time.Duration // the same for echo packets; 0: it does not return them
}

// What [Decode] refuses, see RFC 5880 section 6.8.6.
var (
	ErrShort         = errors.New("shorter than a BFD control packet")
	ErrVersion       = errors.New("another version of BFD")
	ErrLength        = errors.New("length field does not fit the packet")
	ErrMultiplier    = errors.New("detection multiplier is 0")
	ErrMultipoint    = errors.New("multipoint bit is set")
	ErrMyDiscr       = errors.New("sender has no discriminator")
	ErrYourDiscr     = errors.New("session is being set up without our discriminator")
	ErrPollAndFinal  = errors.New("poll and final are both set") // section 6.5
	ErrAuthenticated = errors.New("packet is authenticated, and the session is not")
)

// Bits of the second byte, below the state.
const (
	bitPoll          = 1 << 5
	bitFinal         = 1 << 4
	bitIndependent   = 1 << 3
	bitAuthenticated = 1 << 2
	bitDemand        = 1 << 1
	bitMultipoint    = 1 << 0
)

// Append appends the packet to b.
func (p *Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range []struct {
		set bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.Independent, bitIndependent}, {p.Demand, bitDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diag)&diagMask, flags, p.Multiplier, Length)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscr)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscr)
	for _, d := range []time.Duration{p.DesiredMinTx, p.RequiredMinRx, p.RequiredEcho} {
		b = binary.BigEndian.AppendUint32(b, uint32(d/time.Microsecond))
	}
	return b
}

// Decode reads a control packet, the payload of a UDP datagram. It makes those
// checks of RFC 5880 section 6.8.6 that need no session. What follows the length
// that the packet gives itself is ignored.
func Decode(b []byte) (Packet, error) {
	if len(b) < Length {
		return Packet{}, ErrShort
	}
	p := Packet{
		Diag: Diag(b[0] & diagMask), State: State(b[1] >> 6), Multiplier: b[2],
		Poll: b[1]&bitPoll != 0, Final: b[1]&bitFinal != 0,
		Independent: b[1]&bitIndependent != 0, Demand: b[1]&bitDemand != 0,
		MyDiscr: binary.BigEndian.Uint32(b[4:]), YourDiscr: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx: interval(b[12:]), RequiredMinRx: interval(b[16:]), RequiredEcho: interval(b[20:]),
	}
	switch length := int(b[3]); {
	case b[0]>>5 != version:
		return Packet{}, ErrVersion
	case length < Length || length > len(b):
		return Packet{}, ErrLength
	case p.Multiplier == 0:
		return Packet{}, ErrMultiplier
	case b[1]&bitMultipoint != 0:
		return Packet{}, ErrMultipoint
	case p.MyDiscr == 0:
		return Packet{}, ErrMyDiscr
	case p.YourDiscr == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, ErrYourDiscr
	case b[1]&bitAuthenticated != 0:
		return Packet{}, ErrAuthenticated
	case p.Poll && p.Final:
		return Packet{}, ErrPollAndFinal
	}
	return p, nil
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}
