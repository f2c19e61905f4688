package wire

import (
	"encoding/binary"
	"fmt"
)

// recordHead is kind, flags and the length of the rest.
const recordHead = 4

// Flags of a record.
const recordNumbered = 1

// smallestRecord is a flush: head, age and one byte.
const smallestRecord = recordHead + 2

func (m *Batch) appendBody(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, m.Stream), m.First)
	return appendRecords(b, m.Records)
}

func (m *Batch) parseBody(r *reader) {
	m.Stream, m.First = r.u32("stream"), r.u64("first number")
	m.Records = r.records()
}

func appendRecords(b []byte, rs []Record) (_ []byte, err error) {
	if len(rs) > MaxRecords {
		return b, fmt.Errorf("%d records: %w (%d)", len(rs), ErrTooLong, MaxRecords)
	}
	b = binary.AppendUvarint(b, uint64(len(rs)))
	for i := range rs {
		if b, err = AppendRecord(b, &rs[i]); err != nil {
			return b, fmt.Errorf("record %d: %w", i, err)
		}
	}
	return b, nil
}

// AppendRecord appends one record, so that a sender can fill a batch up to a
// size. The error names the item; on error b is returned as it was.
func AppendRecord(b []byte, rec *Record) ([]byte, error) {
	start := len(b)
	flags := byte(0)
	if rec.Numbered {
		flags = recordNumbered
	}
	out := binary.AppendUvarint(append(b, byte(rec.Kind), flags, 0, 0), rec.SentAge)
	switch {
	case rec.Kind == PutSA && rec.SA != nil:
		out = AppendSA(binary.AppendUvarint(out, uint64(rec.Handle)), rec.SA)
	case rec.Kind == DelSA:
		out = AppendSAKey(binary.AppendUvarint(out, uint64(rec.Handle)), rec.SAKey)
	case rec.Kind == PutPolicy && rec.Policy != nil:
		out = AppendPolicy(out, rec.Policy)
	case rec.Kind == DelPolicy && rec.PolicyKey != nil:
		out = AppendPolicyKey(out, rec.PolicyKey)
	case rec.Kind == FlushSA:
		out = append(out, rec.Proto)
	case rec.Kind == FlushPolicy:
		out = appendBool(out, rec.Sub)
	default:
		return b, fmt.Errorf("%s: nothing to send", rec.Kind)
	}
	if n := len(out) - start; n > MaxRecord {
		return b, fmt.Errorf("%s of %d bytes %w (%d)", rec.Kind, n, ErrTooLong, MaxRecord)
	}
	binary.BigEndian.PutUint16(out[start+2:], uint16(len(out)-start-recordHead))
	return out, nil
}

func (r *reader) records() []Record {
	n := r.count(smallestRecord, "records")
	if r.err != nil {
		return nil
	}
	if n > MaxRecords {
		r.fail("%d records exceed %d", n, MaxRecords)
		return nil
	}
	out := list[Record](n)
	for i := range out {
		if err := r.record(&out[i]); err != nil {
			r.fail("record %d: %w", i, err)
			return nil
		}
	}
	return out
}

func (r *reader) record(rec *Record) error {
	rec.Kind = RecordKind(r.u8("kind"))
	flags := r.u8("flags")
	if flags&^recordNumbered != 0 {
		r.fail("flags 0x%02x", flags)
	}
	rec.Numbered = flags&recordNumbered != 0
	e := reader{b: r.take(int(r.u16("length")), "record"), err: r.err}
	if recordHead+len(e.b) > MaxRecord {
		e.fail("%d bytes exceed %d", recordHead+len(e.b), MaxRecord)
	}
	rec.SentAge = e.uvarint("age")
	if rec.Kind == PutSA || rec.Kind == DelSA {
		h := e.uvarint("handle")
		if rec.Handle = uint32(h); uint64(rec.Handle) != h {
			e.fail("handle %d exceeds 32 bits", h)
		}
	}
	if e.err != nil {
		return e.err
	}
	var err error
	switch rec.Kind {
	case PutSA:
		rec.SA, err = ParseSA(e.rest())
	case DelSA:
		rec.SAKey, err = ParseSAKey(e.rest())
	case PutPolicy:
		rec.Policy, err = ParsePolicy(e.rest())
	case DelPolicy:
		k, kerr := ParsePolicyKey(e.rest())
		rec.PolicyKey, err = &k, kerr
	case FlushSA:
		rec.Proto = e.u8("protocol")
	case FlushPolicy:
		rec.Sub = e.bool("type")
	default:
		return fmt.Errorf("kind %d is unknown", rec.Kind)
	}
	if err == nil {
		e.end("record")
		err = e.err
	}
	return err
}
