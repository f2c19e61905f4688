package privsep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"

	"sasyncd/keying"
)

// Op is what is asked for.
type Op uint8

// Operations. Those that name a daemon come first.
const (
	OpRunning Op = iota + 1
	OpDial
	OpTell
	OpKill
	OpStart
	OpControl
	OpUnit
	OpHook
	OpOpen   // a file of the configuration, for reading
	OpCancel // the request of the same id
)

var opNames = [...]string{"", "running", "dial", "tell", "kill", "start", "control", "unit", "hook", "open", "cancel"}

// String names the operation for logs.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// daemons are numbered by their place.
var daemons = []keying.Daemon{"", keying.StrongSwan, keying.Libreswan, keying.OpenIKED, keying.ISAKMPD}

// Limits of a packet, in bytes. maxVIPs is far more than a gateway has.
const (
	MaxRequest = 8192
	maxReply   = 32 << 10
	maxVIPs    = 256
	maxPath    = 4095
)

// Request is one packet to the privileged process. ID is chosen by the client,
// and unique among its requests under way.
type Request struct {
	ID     uint32
	Op     Op
	Daemon keying.Daemon // OpRunning to OpUnit
	Line   string        // OpTell
	Verb   keying.Verb   // OpControl
	Order  keying.Order  // OpHook
	Path   string        // OpOpen
}

var errForm = errors.New("decode request: not in the form of its operation")

// Append encodes the request at the end of b.
func (r *Request) Append(b []byte) ([]byte, error) {
	c := cryptobyte.NewBuilder(b)
	c.AddUint32(r.ID)
	c.AddUint8(uint8(r.Op))
	if r.Op <= OpUnit {
		n := 0
		for i, d := range daemons {
			if i > 0 && d == r.Daemon {
				n = i
			}
		}
		if n == 0 {
			return b, fmt.Errorf("encode request: no daemon %q", r.Daemon)
		}
		c.AddUint8(uint8(n))
	}
	short := func(s string) { c.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(s)) }) }
	switch r.Op {
	case OpTell:
		short(r.Line)
	case OpControl:
		short(r.Verb.Do)
		short(r.Verb.Conn)
	case OpHook:
		if len(r.Order.VIPs) > maxVIPs {
			return b, fmt.Errorf("encode request: %d virtual addresses, at most %d are possible", len(r.Order.VIPs),
				maxVIPs)
		}
		var flags uint8
		if r.Order.State == "active" {
			flags |= 1
		}
		if r.Order.Settled {
			flags |= 2
		}
		c.AddUint8(flags)
		c.AddUint64(r.Order.Term)
		short(r.Order.Group)
		short(r.Order.Reason)
		c.AddUint16(uint16(len(r.Order.VIPs)))
		for _, v := range r.Order.VIPs {
			short(string(v.AsSlice()))
		}
	case OpOpen:
		c.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(r.Path)) })
	}
	return c.Bytes()
}

// ParseRequest decodes a packet. What it returns encodes to the same bytes.
func ParseRequest(b []byte) (r Request, err error) {
	s := cryptobyte.String(b)
	var op uint8
	if len(b) > MaxRequest || !s.ReadUint32(&r.ID) || !s.ReadUint8(&op) {
		return r, errForm
	}
	r.Op = Op(op)
	if r.Op < OpRunning || r.Op > OpCancel {
		return r, fmt.Errorf("decode request: no operation %d", op)
	}
	if r.Op <= OpUnit {
		var n uint8
		if !s.ReadUint8(&n) || n == 0 || int(n) >= len(daemons) {
			return r, errForm
		}
		r.Daemon = daemons[n]
	}
	short := func(out *string) bool {
		var v cryptobyte.String
		ok := s.ReadUint8LengthPrefixed(&v)
		*out = string(v)
		return ok
	}
	ok := true
	switch r.Op {
	case OpTell:
		ok = short(&r.Line)
	case OpControl:
		ok = short(&r.Verb.Do) && short(&r.Verb.Conn)
	case OpHook:
		ok = r.readOrder(&s, short)
	case OpOpen:
		var v cryptobyte.String
		ok = s.ReadUint16LengthPrefixed(&v) && len(v) <= maxPath
		r.Path = string(v)
	}
	if !ok || !s.Empty() {
		return r, errForm
	}
	return r, nil
}

func (r *Request) readOrder(s *cryptobyte.String, short func(*string) bool) bool {
	var flags uint8
	var n uint16
	if !s.ReadUint8(&flags) || flags > 3 || !s.ReadUint64(&r.Order.Term) ||
		!short(&r.Order.Group) || !short(&r.Order.Reason) || !s.ReadUint16(&n) || n > maxVIPs {
		return false
	}
	r.Order.State, r.Order.Settled = "passive", flags&2 != 0
	if flags&1 != 0 {
		r.Order.State = "active"
	}
	for range n {
		var v string
		if !short(&v) {
			return false
		}
		a, ok := netip.AddrFromSlice([]byte(v))
		if !ok {
			return false
		}
		r.Order.VIPs = append(r.Order.VIPs, a)
	}
	return true
}

// Status is how a request ended.
type Status uint8

// Statuses. A reply with StatusMore is a part of the answer, others follow.
const (
	StatusOK Status = iota
	StatusMore
	StatusFailed
	StatusNotRunning // keying.ErrNotRunning
	StatusRefused    // ErrRefused
	StatusAbsent     // fs.ErrNotExist
	StatusPermission // fs.ErrPermission
)

// Reply is one packet to the client: a part of the answer, or its end, or what
// went wrong. A descriptor comes with the last packet of OpDial and OpOpen.
type Reply struct {
	ID     uint32
	Status Status
	Data   []byte
}

// Append encodes the reply at the end of b.
func (r *Reply) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, r.ID)
	return append(append(b, byte(r.Status)), r.Data...)
}

// ParseReply decodes a packet; Data is a part of b.
func ParseReply(b []byte) (Reply, error) {
	if len(b) < 5 || len(b) > maxReply || Status(b[4]) > StatusPermission {
		return Reply{}, errors.New("decode reply: not in its form")
	}
	return Reply{ID: binary.BigEndian.Uint32(b), Status: Status(b[4]), Data: b[5:]}, nil
}
