package packet

import (
	"encoding/binary"
	"errors"
)

// ProtocolAH is the IP protocol number of the authentication header, which
// VRRPv2 with authentication type 2 is wrapped in.
const ProtocolAH = 51

// ErrAH is returned for what is no authentication header.
var ErrAH = errors.New("authentication header is malformed")

// AH is the header of RFC 4302. It is understood so that such a VRRPv2 sender
// can be named to the operator; its digest is neither made nor verified.
type AH struct {
	Next    uint8
	SPI     uint32
	Seq     uint32
	ICV     []byte // borrowed by Parse; a multiple of 4 bytes
	Payload []byte // borrowed by Parse
}

// Parse reads the payload of an IP packet of protocol 51.
func (a *AH) Parse(b []byte) error {
	if len(b) < 12 {
		return ErrAH
	}
	end := (int(b[1]) + 2) * 4
	if end < 12 || len(b) < end {
		return ErrAH
	}
	a.Next, a.SPI, a.Seq = b[0], binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	a.ICV, a.Payload = b[12:end], b[end:]
	return nil
}

// Append appends header and payload to b.
func (a *AH) Append(b []byte) []byte {
	b = append(b, a.Next, uint8((12+len(a.ICV))/4-2), 0, 0)
	b = binary.BigEndian.AppendUint32(b, a.SPI)
	b = binary.BigEndian.AppendUint32(b, a.Seq)
	b = append(b, a.ICV...)
	return append(b, a.Payload...)
}
