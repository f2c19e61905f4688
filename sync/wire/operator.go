package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"sasyncd/sync/sadb"
)

// Capabilities of a node, in its Hello.
const (
	// CapCompare: it answers Compare.
	CapCompare uint64 = 1 << iota
	// CapSuccession: it answers Succession.
	CapSuccession
	// CapFitness: it tells its Fitness, and wants to know that of others.
	CapFitness
	_ // bit 3
	// CapReport: it tells its Report, and wants to know that of others.
	CapReport

	// Caps are those of this code.
	Caps = CapCompare | CapSuccession | CapFitness | CapReport
)

// Compare asks what the receiver's kernel holds of a group. Without Buckets the
// answer is the sums over all Of buckets; else it is what is in those, ascending.
// Salt is for the digests that stand in the place of keys; it is never used
// twice.
type Compare struct {
	Token   uint32
	Group   string
	Salt    NodeID
	Of      uint32
	Buckets []uint16
}

// Inventory answers Compare, in as many messages as it takes. Error, if not
// empty, says why there is no answer.
type Inventory struct {
	Token   uint32
	Last    bool
	Error   string
	Sums    []uint64
	Records []Record // put SA and put policy, with digests for keys
}

// Succession asks a standby of a group whether Node may take over now, without
// an election. Node itself answers whether it could; every other one keeps
// from taking over for Hold. With Hold 0 all of that is void, and nobody answers.
type Succession struct {
	Token uint32
	Group string
	Term  uint64 // that the sender is about to give up
	Node  NodeID
	Hold  time.Duration // whole milliseconds
}

// Consent answers Succession. Reason and Remedy are for humans and say why not.
type Consent struct {
	Token  uint32
	Yes    bool
	Reason string
	Remedy string
}

// Report is what a node says of itself to who judges whether a failover would
// work: JSON of at most MaxReport bytes, opaque here. Nothing but that judgement
// depends on it.
type Report struct{ JSON []byte }

// MaxReport is the longest Report in bytes.
const MaxReport = 60 << 10

// Type methods.
func (*Report) Type() Type     { return TypeReport }
func (*Compare) Type() Type    { return TypeCompare }
func (*Inventory) Type() Type  { return TypeInventory }
func (*Succession) Type() Type { return TypeSuccession }
func (*Consent) Type() Type    { return TypeConsent }

func (m *Compare) appendBody(b []byte) (_ []byte, err error) {
	b = binary.BigEndian.AppendUint32(b, m.Token)
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	b = append(b, m.Salt[:]...)
	b = binary.BigEndian.AppendUint32(b, m.Of)
	return appendBucketList(b, m.Of, m.Buckets)
}

func (m *Compare) parseBody(r *reader) {
	m.Token, m.Group, m.Salt, m.Of = r.u32("token"), r.name("group name"), r.id("salt"), r.u32("number of buckets")
	m.Buckets = r.bucketList(m.Of)
}

func (m *Inventory) appendBody(b []byte) ([]byte, error) {
	b = appendBool(binary.BigEndian.AppendUint32(b, m.Token), m.Last)
	b = appendText(b, m.Error, maxReason)
	b = binary.AppendUvarint(b, uint64(len(m.Sums)))
	for _, v := range m.Sums {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return appendRecords(b, m.Records)
}

func (m *Inventory) parseBody(r *reader) {
	m.Token, m.Last, m.Error = r.u32("token"), r.bool("last"), r.text("error")
	n := r.count(8, "sums")
	if r.err != nil {
		return
	}
	m.Sums = list[uint64](n)
	for i := range m.Sums {
		m.Sums[i] = r.u64("sum")
	}
	m.Records = r.records()
}

func (m *Succession) appendBody(b []byte) (_ []byte, err error) {
	b = binary.BigEndian.AppendUint32(b, m.Token)
	if b, err = appendName(b, m.Group); err != nil {
		return b, fmt.Errorf("group: %w", err)
	}
	b = append(binary.BigEndian.AppendUint64(b, m.Term), m.Node[:]...)
	ms := m.Hold.Milliseconds()
	if ms < 0 || ms > 1<<32-1 {
		return b, fmt.Errorf("hold of %v does not fit 32 bits of milliseconds", m.Hold)
	}
	return binary.BigEndian.AppendUint32(b, uint32(ms)), nil
}

func (m *Succession) parseBody(r *reader) {
	m.Token, m.Group, m.Term, m.Node = r.u32("token"), r.name("group name"), r.term(), r.id("node")
	m.Hold = time.Duration(r.u32("hold")) * time.Millisecond
}

func (m *Consent) appendBody(b []byte) ([]byte, error) {
	b = appendBool(binary.BigEndian.AppendUint32(b, m.Token), m.Yes)
	return appendText(appendText(b, m.Reason, maxReason), m.Remedy, maxReason), nil
}

func (m *Consent) parseBody(r *reader) {
	m.Token, m.Yes, m.Reason, m.Remedy = r.u32("token"), r.bool("yes"), r.text("reason"), r.text("remedy")
}

func (m *Report) appendBody(b []byte) ([]byte, error) {
	if len(m.JSON) > MaxReport {
		return b, fmt.Errorf("report of %d bytes %w (%d)", len(m.JSON), ErrTooLong, MaxReport)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(m.JSON))), m.JSON...), nil
}

func (m *Report) parseBody(r *reader) {
	n := r.u32("length of the report")
	if n > MaxReport {
		r.fail("report of %d bytes %w (%d)", n, ErrTooLong, MaxReport)
		return
	}
	m.JSON = append([]byte(nil), r.take(int(n), "report")...)
}

func appendBucketList(b []byte, of uint32, buckets []uint16) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(buckets)))
	for i, v := range buckets {
		if i > 0 && v <= buckets[i-1] || uint32(v) >= of {
			return b, errOrder
		}
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b, nil
}

func (r *reader) bucketList(of uint32) []uint16 {
	n := r.count(2, "buckets")
	if r.err != nil {
		return nil
	}
	out := list[uint16](n)
	for i := range out {
		v := r.u16("bucket")
		if i > 0 && v <= out[i-1] || uint32(v) >= of {
			r.fail("bucket %d of %d: %w", v, of, errOrder)
			return nil
		}
		out[i] = v
	}
	return out
}

// keyDigestLen is enough to tell keys apart, and says nothing of them to who
// does not know the salt.
const keyDigestLen = 8

// Redact returns a copy of s in which digests stand in the place of keys: the
// first 8 bytes of HMAC-SHA256 under salt over the kernel's name, a zero byte and
// the key. Two SAs have the same digest under one salt if they have the same key.
func Redact(s *sadb.SA, salt NodeID) *sadb.SA {
	c := *s
	for _, a := range []**sadb.Algorithm{&c.Auth, &c.Crypt, &c.AEAD} {
		if *a == nil || (*a).Key.Len() == 0 {
			continue
		}
		h := hmac.New(sha256.New, salt[:])
		h.Write(append([]byte((*a).Name), 0))
		h.Write((*a).Key.Bytes())
		x := **a
		x.Key = sadb.NewSecret(h.Sum(nil)[:keyDigestLen])
		*a = &x
	}
	return &c
}
