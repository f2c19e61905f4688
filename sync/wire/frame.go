package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Type is the type of a message.
type Type uint8

// Message types. Types from 128 on may be ignored by who does not know them.
const (
	TypeHello         Type = 1
	TypeState         Type = 2
	TypeRequest       Type = 3
	TypeResume        Type = 4
	TypeSnapBegin     Type = 5
	TypeSnapEnd       Type = 6
	TypeBatch         Type = 7
	TypeCounters      Type = 8
	TypeAck           Type = 9
	TypePing          Type = 10
	TypePong          Type = 11
	TypeBye           Type = 12
	TypeHandover      Type = 13
	TypeMaxima        Type = 14
	TypeDigest        Type = 15
	TypeBucketRequest Type = 16
	TypeBucketItems   Type = 17

	// For people: nothing depends on it, and who does not know it ignores it.
	TypeGossip Type = 128
	TypeOutage Type = 136

	// Only for nodes whose Hello says that they know them.
	TypeCompare    Type = 129
	TypeInventory  Type = 130
	TypeSuccession Type = 131
	TypeConsent    Type = 132
	TypeFitness    Type = 133
	TypeReport     Type = 135
)

// String names the type for logs and metrics.
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "hello"
	case TypeState:
		return "state"
	case TypeRequest:
		return "request"
	case TypeResume:
		return "resume"
	case TypeSnapBegin:
		return "snap-begin"
	case TypeSnapEnd:
		return "snap-end"
	case TypeBatch:
		return "batch"
	case TypeCounters:
		return "counters"
	case TypeAck:
		return "ack"
	case TypePing:
		return "ping"
	case TypePong:
		return "pong"
	case TypeBye:
		return "bye"
	case TypeHandover:
		return "handover"
	case TypeMaxima:
		return "maxima"
	case TypeDigest:
		return "digest"
	case TypeBucketRequest:
		return "bucket-request"
	case TypeBucketItems:
		return "bucket-items"
	case TypeGossip:
		return "gossip"
	case TypeCompare:
		return "compare"
	case TypeInventory:
		return "inventory"
	case TypeSuccession:
		return "succession"
	case TypeConsent:
		return "consent"
	case TypeFitness:
		return "fitness"
	case TypeReport:
		return "report"
	case TypeOutage:
		return "outage"
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

// Sizes in bytes.
const (
	HeaderLen = 5       // length and type
	MaxFrame  = 1 << 20 // header and body
	MaxRecord = 16 << 10
)

// MaxRecords is the largest number of records in a message: records take more
// room in memory than on the wire.
const MaxRecords = 8192

// MaxBody returns the largest body of a message of type t. It bounds what a
// receiver has to buffer before it can judge.
func MaxBody(t Type) int {
	switch t {
	case TypeBatch, TypeCounters, TypeMaxima, TypeBucketItems, TypeInventory:
		return MaxFrame - HeaderLen
	case TypeHello, TypeState, TypeBucketRequest, TypeCompare, TypeReport:
		return 64 << 10
	case TypeDigest, TypeGossip:
		return 256 << 10
	case TypeBye, TypeConsent:
		return 4 << 10
	case TypeRequest, TypeResume, TypeSnapBegin, TypeSnapEnd, TypeAck, TypePing, TypePong, TypeHandover, TypeSuccession,
		TypeFitness, TypeOutage:
		return 1 << 10
	}
	if t >= skippableTypes {
		return 256 << 10
	}
	return 0
}

// skippableTypes is the first type that may be ignored.
const skippableTypes Type = 128

// Errors that a caller may want to tell apart. They come wrapped.
var (
	ErrTooLong     = errors.New("is too long")
	ErrUnknownType = errors.New("is of unknown type")
)

// ParseHeader reads the header of a frame: the length of the body that follows
// and its type. It refuses lengths beyond MaxBody.
func ParseHeader(h [HeaderLen]byte) (t Type, body int, err error) {
	t = Type(h[4])
	n := binary.BigEndian.Uint32(h[:4])
	switch most := MaxBody(t); {
	case most == 0:
		return t, 0, fmt.Errorf("message %d %w", uint8(t), ErrUnknownType)
	case n > uint32(most):
		return t, 0, fmt.Errorf("%s message of %d bytes %w (%d)", t, n, ErrTooLong, most)
	}
	return t, int(n), nil
}

// AppendFrame appends header and body of m. On error b is returned as it was.
// It allocates only to grow b.
func AppendFrame(b []byte, m Message) ([]byte, error) {
	start := len(b)
	t := m.Type()
	out, err := m.appendBody(append(b, 0, 0, 0, 0, byte(t)))
	if err != nil {
		return b, fmt.Errorf("encode %s message: %w", t, err)
	}
	n := len(out) - start - HeaderLen
	if n > MaxBody(t) {
		return b, fmt.Errorf("encode %s message: %d bytes: %w (%d)", t, n, ErrTooLong, MaxBody(t))
	}
	binary.BigEndian.PutUint32(out[start:], uint32(n))
	return out, nil
}

// Parse reads the body of a message. The result does not alias body. A message
// of an unknown type that may be ignored comes back as *Unknown.
func Parse(t Type, body []byte) (Message, error) {
	m := newMessage(t)
	if m == nil {
		return nil, fmt.Errorf("message %d %w", uint8(t), ErrUnknownType)
	}
	if len(body) > MaxBody(t) {
		return nil, fmt.Errorf("%s message of %d bytes %w (%d)", t, len(body), ErrTooLong, MaxBody(t))
	}
	r := reader{b: body}
	if m.parseBody(&r); r.err != nil {
		return nil, fmt.Errorf("parse %s message: %w", t, r.err)
	}
	return m, nil
}

// Read reads one frame from r into buf, which it grows as necessary and
// returns for reuse, and parses it.
func Read(r io.Reader, buf []byte) (Message, []byte, error) {
	var h [HeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, buf, fmt.Errorf("read header: %w", err)
	}
	t, n, err := ParseHeader(h)
	if err != nil {
		return nil, buf, &MalformedError{err}
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, buf, fmt.Errorf("read %s message: %w", t, err)
	}
	m, err := Parse(t, buf)
	if err != nil {
		return nil, buf, &MalformedError{err}
	}
	return m, buf, nil
}

// MalformedError is the error of [Read] for what arrived but is no message, as
// opposed to what did not arrive.
type MalformedError struct{ Err error }

// Error says what is wrong.
func (e *MalformedError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *MalformedError) Unwrap() error { return e.Err }

func newMessage(t Type) Message {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeState:
		return new(State)
	case TypeRequest:
		return new(Request)
	case TypeResume:
		return new(Resume)
	case TypeSnapBegin:
		return new(SnapBegin)
	case TypeSnapEnd:
		return new(SnapEnd)
	case TypeBatch:
		return new(Batch)
	case TypeCounters:
		return new(Counters)
	case TypeAck:
		return new(Ack)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeBye:
		return new(Bye)
	case TypeHandover:
		return new(Handover)
	case TypeMaxima:
		return new(Maxima)
	case TypeDigest:
		return new(Digest)
	case TypeBucketRequest:
		return new(BucketRequest)
	case TypeBucketItems:
		return new(BucketItems)
	case TypeGossip:
		return new(Gossip)
	case TypeCompare:
		return new(Compare)
	case TypeInventory:
		return new(Inventory)
	case TypeSuccession:
		return new(Succession)
	case TypeConsent:
		return new(Consent)
	case TypeFitness:
		return new(Fitness)
	case TypeOutage:
		return new(Outage)
	case TypeReport:
		return new(Report)
	}
	if t >= skippableTypes {
		return &Unknown{Of: t}
	}
	return nil
}
