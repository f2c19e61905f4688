package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// list makes a list of n items, nil when there are none.
func list[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

var errOrder = errors.New("list is not ascending")

func (m *Maxima) appendBody(b []byte) (_ []byte, err error) {
	if b, err = appendStream(b, &m.ID); err != nil {
		return b, err
	}
	b = appendBool(b, m.Last)
	b = binary.AppendUvarint(b, uint64(len(m.Entries)))
	for i := range m.Entries {
		e := &m.Entries[i]
		at := len(b) + 1
		b = AppendSAKey(append(b, 0), e.Key)
		b[at-1] = byte(len(b) - at) // at most 35
		for _, v := range [...]uint64{e.OSeq, e.Seq, e.Bytes, e.Packets} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b, nil
}

// smallestMaximum is the size of an IPv4 identity and four short numbers.
const smallestMaximum = 1 + tlvHeader + 9 + 4

func (m *Maxima) parseBody(r *reader) {
	m.ID, m.Last = r.stream(), r.bool("last")
	n := r.count(smallestMaximum, "entries")
	if r.err != nil {
		return
	}
	m.Entries = list[Maximum](n)
	for i := range m.Entries {
		e := &m.Entries[i]
		k, err := ParseSAKey(r.take(int(r.u8("identity length")), "identity"))
		if r.err == nil && err != nil {
			r.fail("entry %d: %w", i, err)
		}
		e.Key = k
		e.OSeq, e.Seq = r.uvarint("outbound sequence"), r.uvarint("inbound sequence")
		e.Bytes, e.Packets = r.uvarint("bytes"), r.uvarint("packets")
		if r.err != nil {
			return
		}
	}
}

func (m *Digest) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.Seq)
	b = binary.AppendUvarint(b, uint64(len(m.Buckets)))
	for _, v := range m.Buckets {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b, nil
}

func (m *Digest) parseBody(r *reader) {
	m.Stream, m.Seq = r.u32("stream"), r.u64("position")
	n := r.count(8, "buckets")
	if r.err != nil {
		return
	}
	m.Buckets = list[uint64](n)
	for i := range m.Buckets {
		m.Buckets[i] = r.u64("bucket")
	}
}

func (m *BucketRequest) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, m.Stream), m.Of)
	return appendBucketList(b, m.Of, m.Buckets)
}

func (m *BucketRequest) parseBody(r *reader) {
	m.Stream, m.Of = r.u32("stream"), r.u32("number of buckets")
	m.Buckets = r.bucketList(m.Of)
}

func (m *BucketItems) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.Seq)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, m.Of), m.Bucket)
	if uint32(m.Bucket) >= m.Of {
		return b, fmt.Errorf("bucket %d of %d", m.Bucket, m.Of)
	}
	b = appendBool(b, m.More)
	b = binary.AppendUvarint(b, uint64(len(m.Keys)))
	for i := range m.Keys {
		if i > 0 && compareSums(m.Keys[i-1], m.Keys[i]) >= 0 {
			return b, errOrder
		}
		b = append(b, m.Keys[i][:]...)
	}
	return appendRecords(b, m.Records)
}

func (m *BucketItems) parseBody(r *reader) {
	m.Stream, m.Seq = r.u32("stream"), r.u64("position")
	m.Of, m.Bucket, m.More = r.u32("number of buckets"), r.u16("bucket"), r.bool("more")
	if r.err == nil && uint32(m.Bucket) >= m.Of {
		r.fail("bucket %d of %d", m.Bucket, m.Of)
	}
	n := r.count(len(Sum{}), "keys")
	if r.err != nil {
		return
	}
	m.Keys = list[Sum](n)
	for i := range m.Keys {
		m.Keys[i] = Sum(r.take(len(Sum{}), "key"))
		if i > 0 && compareSums(m.Keys[i-1], m.Keys[i]) >= 0 {
			r.fail("key %d: %w", i, errOrder)
			return
		}
	}
	m.Records = r.records()
}

func compareSums(a, b Sum) int { return slices.Compare(a[:], b[:]) }
