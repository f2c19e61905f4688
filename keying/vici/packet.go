package vici

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PacketType is the first byte of a packet.
type PacketType uint8

// Packet types. Requests, registrations and events bear a name.
const (
	CmdRequest      PacketType = 0
	CmdResponse     PacketType = 1
	CmdUnknown      PacketType = 2
	EventRegister   PacketType = 3
	EventUnregister PacketType = 4
	EventConfirm    PacketType = 5
	EventUnknown    PacketType = 6
	Event           PacketType = 7
)

func (t PacketType) named() bool {
	return t == CmdRequest || t == EventRegister || t == EventUnregister || t == Event
}

// Packet is one packet. Name is empty for types that have none.
type Packet struct {
	Type    PacketType
	Name    string
	Message Message
}

// Append encodes the packet with its length at the end of b.
func (p *Packet) Append(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0, byte(p.Type))
	if p.Type.named() {
		if p.Name == "" || len(p.Name) > 255 {
			return b, fmt.Errorf("encode packet: name has %d bytes, want 1 to 255", len(p.Name))
		}
		b = append(append(b, byte(len(p.Name))), p.Name...)
	}
	b, err := p.Message.Append(b)
	if err != nil {
		return b, err
	}
	n := len(b) - start - 4
	if n > MaxPacket {
		return b, fmt.Errorf("encode packet: %d bytes, at most %d are possible", n, MaxPacket)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return b, nil
}

// ParsePacket decodes a packet without its length.
func ParsePacket(b []byte) (*Packet, error) {
	d := decoder{b: b}
	t, err := d.byte()
	if err != nil {
		return nil, errors.New("decode packet: empty")
	}
	p := &Packet{Type: PacketType(t)}
	if p.Type > Event {
		return nil, fmt.Errorf("decode packet: type %d, know 0 to 7", t)
	}
	if p.Type.named() {
		if p.Name, err = d.name(); err != nil {
			return nil, fmt.Errorf("decode packet: name: %w", err)
		}
	}
	p.Message, err = Parse(b[d.at:])
	return p, err
}

// ReadPacket reads one packet.
func ReadPacket(r io.Reader) (*Packet, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxPacket {
		return nil, fmt.Errorf("read packet: length %d, want 1 to %d", n, MaxPacket)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read packet: %w", err)
	}
	return ParsePacket(b)
}
