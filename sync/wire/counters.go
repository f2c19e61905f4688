package wire

import (
	"encoding/binary"
	"math"
)

// minCounter is the size of the smallest entry: handle, packets, bytes.
const minCounter = 3

func (m *Counters) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.Epoch)
	b = binary.AppendUvarint(b, m.AgeMicros)
	b = binary.AppendUvarint(b, uint64(len(m.Entries)))
	last := uint32(0)
	for i := range m.Entries {
		e := &m.Entries[i]
		if i > 0 && e.Handle <= last {
			return b, errOrder
		}
		head := uint64(e.Handle-last) << 2
		last = e.Handle
		if e.OSeq != 0 {
			head |= 1
		}
		if e.Seq != 0 {
			head |= 2
		}
		b = binary.AppendUvarint(b, head)
		b = binary.AppendUvarint(b, e.Packets)
		b = binary.AppendUvarint(b, e.Bytes)
		if e.OSeq != 0 {
			b = binary.AppendUvarint(b, zigzag(e.OSeq-e.Packets))
		}
		if e.Seq != 0 {
			b = binary.AppendUvarint(b, zigzag(e.Seq-e.Packets))
		}
	}
	return b, nil
}

func (m *Counters) parseBody(r *reader) {
	m.Stream, m.Epoch, m.AgeMicros = r.u32("stream"), r.u64("epoch"), r.uvarint("age")
	n := r.count(minCounter, "entries")
	if r.err != nil {
		return
	}
	m.Entries = list[CounterEntry](n)
	last := uint64(0)
	for i := range m.Entries {
		e := &m.Entries[i]
		head := r.uvarint("handle")
		step := head >> 2
		if step > math.MaxUint32-last || i > 0 && step == 0 {
			r.fail("entry %d: handle out of order", i)
		}
		last += step
		e.Handle = uint32(last)
		e.Packets, e.Bytes = r.uvarint("packets"), r.uvarint("bytes")
		if head&1 != 0 {
			e.OSeq = e.Packets + unzigzag(r.uvarint("outbound sequence"))
		}
		if head&2 != 0 {
			e.Seq = e.Packets + unzigzag(r.uvarint("inbound sequence"))
		}
		if r.err == nil && (head&1 != 0 && e.OSeq == 0 || head&2 != 0 && e.Seq == 0) {
			r.fail("entry %d: sequence is present although 0", i)
		}
		if r.err != nil {
			return
		}
	}
}
