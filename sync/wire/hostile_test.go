package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

// tlvs builds a record from fields given as type and value.
func tlvs(pairs ...any) (b []byte) {
	for i := 0; i < len(pairs); i += 2 {
		v := pairs[i+1].([]byte)
		b = append(b, byte(pairs[i].(int)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	return b
}

func TestBadRecordsAreRefused(t *testing.T) {
	id := []byte{0, 0, 1, 0, 50, 10, 0, 0, 1}
	src := []byte{10, 0, 0, 2}
	if _, err := ParseSA(tlvs(1, id, 3, src)); err != nil {
		t.Fatalf("the smallest SA: %v", err)
	}
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"no identity":              tlvs(3, src),
		"no source":                tlvs(1, id),
		"source of another family": tlvs(1, id, 3, make([]byte, 16)),
		"source of 5 bytes":        tlvs(1, id, 3, make([]byte, 5)),
		"identity of 7 bytes":      tlvs(1, id[:7], 3, src),
		"fields out of order":      tlvs(3, src, 1, id),
		"field twice":              tlvs(1, id, 3, src, 3, src),
		"field 0":                  tlvs(0, []byte{1}, 1, id, 3, src),
		"unknown, to understand":   tlvs(1, id, 3, src, 63, []byte{1}),
		"zero present":             tlvs(1, id, 3, src, 6, make([]byte, 4)),
		"reqid of 3 bytes":         tlvs(1, id, 3, src, 6, []byte{1, 2, 3}),
		"reqid of 5 bytes":         tlvs(1, id, 3, src, 6, []byte{1, 2, 3, 4, 5}),
		"empty algorithm name":     tlvs(1, id, 3, src, 9, []byte{0, 0, 0, 0, 0}),
		"algorithm name of 64":     tlvs(1, id, 3, src, 9, append([]byte{0, 0, 0, 0, 64}, strings.Repeat("a", 64)...)),
		"algorithm name with NUL":  tlvs(1, id, 3, src, 9, []byte{0, 0, 0, 0, 2, 'a', 0}),
		"huge bitmap":              tlvs(1, id, 3, src, 22, []byte{0, 0, 0, 129}),
		"bitmap of 129 words":      tlvs(1, id, 3, src, 66, make([]byte, 129*4)),
		"bitmap of 5 bytes":        tlvs(1, id, 3, src, 66, make([]byte, 5)),
		"direction 4":              tlvs(1, id, 3, src, 64, []byte{4}),
		"long form of a number":    tlvs(1, id, 3, src, 67, []byte{0x81, 0x00}),
		"number beyond 64 bits":    tlvs(1, id, 3, src, 67, bytes.Repeat([]byte{0xff}, 11)),
		"attributes out of order":  tlvs(1, id, 3, src, 24, []byte{0, 9}, 24, []byte{0, 8}),
		"limits that are none":     tlvs(1, id, 3, src, 23, make([]byte, 8)),
		"empty selector":           tlvs(1, id, 3, src, 4, make([]byte, 19)),
		"17 bytes of address": tlvs(1, id, 3, src, 4,
			append(make([]byte, 17), append([]byte{17}, make([]byte, 18)...)...)),
		"slash in interface name": tlvs(1, id, 3, src, 4, append(make([]byte, 19), "a/b"...)),
		"long interface name":     tlvs(1, id, 3, src, 4, append(make([]byte, 19), "abcdefghijklmnop"...)),
		"more than a record":      tlvs(1, id, 3, src, 200, make([]byte, MaxRecord)),
	} {
		if s, err := ParseSA(b); err == nil {
			t.Errorf("%s: accepted as %v", name, s.Key)
		}
	}
	pid := []byte{2, 0, 0, 0, 0, 0}
	if _, err := ParsePolicy(tlvs(1, pid)); err != nil {
		t.Fatalf("the smallest policy: %v", err)
	}
	template := make([]byte, 28)
	var seven []any
	for range 7 {
		seven = append(seven, 10, template)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"no identity":        tlvs(5, []byte{0, 0, 0, 1}),
		"socket policy":      tlvs(1, []byte{4, 0, 0, 0, 0, 0}),
		"type 2":             tlvs(1, []byte{2, 2, 0, 0, 0, 0}),
		"identity twice":     tlvs(1, pid, 1, pid),
		"unknown field":      tlvs(1, pid, 40, []byte{1}),
		"template of family": tlvs(1, pid, 10, append([]byte{0, 3}, template[2:]...)),
		"seven templates":    tlvs(append([]any{1, pid}, seven...)...),
	} {
		if p, err := ParsePolicy(b); err == nil {
			t.Errorf("policy: %s: accepted as %v", name, p.Key)
		}
	}
}

// A later version may add fields that this one may skip.
func TestSkippableFieldsAreSkipped(t *testing.T) {
	b := AppendSA(nil, vectorSA())
	s, err := ParseSA(append(b, tlvs(128, []byte("new"), 128, []byte{}, 254, []byte("newer"))...))
	if err != nil {
		t.Fatal(err)
	}
	if again := AppendSA(nil, s); !bytes.Equal(again, b) {
		t.Error("what is known changed")
	}
}

func TestFrameLimits(t *testing.T) {
	var h [HeaderLen]byte
	for _, c := range []struct {
		t  Type
		n  uint32
		ok bool
	}{
		{TypeBatch, MaxFrame - HeaderLen, true}, {TypeBatch, MaxFrame - HeaderLen + 1, false},
		{TypePing, 1 << 10, true}, {TypePing, 1<<10 + 1, false}, {TypeHello, 1 << 31, false},
		{0, 0, false}, {18, 0, false}, {127, 8, false}, {200, 100, true}, {255, 1 << 20, false},
	} {
		binary.BigEndian.PutUint32(h[:], c.n)
		h[4] = byte(c.t)
		if _, _, err := ParseHeader(h); (err == nil) != c.ok {
			t.Errorf("%s of %d bytes: %v", c.t, c.n, err)
		}
	}
	m, err := Parse(200, []byte("of the future"))
	if u, ok := m.(*Unknown); err != nil || !ok || u.Of != 200 {
		t.Errorf("a message that may be ignored: %v, %v", m, err)
	}
	b := []byte("before")
	if out, err := AppendFrame(b, m); err == nil || !bytes.Equal(out, b) {
		t.Error("an unknown message can be sent")
	}
	s := vectorSA()
	s.Unknown = []sadb.Attr{{Type: 99, Data: make([]byte, MaxRecord)}}
	out, err := AppendFrame(b, &Batch{Records: []Record{{Kind: PutSA, SA: s}}})
	if err == nil || !bytes.Equal(out, b) {
		t.Error("a record beyond 16 KiB is sent")
	}
	if _, err := AppendFrame(nil, &Batch{Records: make([]Record, MaxRecords+1)}); err == nil {
		t.Error("too many records are sent")
	}
	if _, err := AppendFrame(nil, &Batch{Records: []Record{{Kind: PutSA}}}); err == nil {
		t.Error("a record without its item is sent")
	}
	if _, err := AppendFrame(nil, &Counters{Entries: []CounterEntry{{Handle: 2}, {Handle: 1}}}); err == nil {
		t.Error("counters out of order are sent")
	}
}

// No election demotes by more than 255, so who says so is broken.
func TestDemotionHasALimit(t *testing.T) {
	for _, n := range []int{-1, MaxDemotion + 1} {
		if _, err := AppendFrame(nil, &Fitness{Group: "g", Demotion: n}); err == nil {
			t.Errorf("a demotion of %d is sent", n)
		}
	}
	body := func(n uint16, willing byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{1, 'g'}, n), willing)
	}
	for _, c := range []struct {
		body []byte
		ok   bool
	}{
		{body(0, 0), true}, {body(MaxDemotion, 1), true}, {body(MaxDemotion+1, 1), false}, {body(0xffff, 0), false},
		{body(1, 2), false}, {body(1, 1)[:4], false}, {nil, false}, {append(body(1, 1), "of the future"...), true},
	} {
		if _, err := Parse(TypeFitness, c.body); (err == nil) != c.ok {
			t.Errorf("%x: %v", c.body, err)
		}
	}
}

// A list's length is a sender's word; memory must follow what is there.
func TestListsDoNotAllocateOnASendersWord(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<40)
	for typ, head := range map[Type]int{TypeBatch: 12, TypeDigest: 12, TypeBucketRequest: 8, TypeBucketItems: 19,
		TypeCompare: 25, TypeInventory: 7} {
		b := append(make([]byte, head), huge...)
		if typ == TypeBucketItems {
			b[15] = 1 // of one bucket
		}
		if _, err := Parse(typ, b); err == nil {
			t.Errorf("%s with 2^40 items is accepted", typ)
		}
	}
	if _, err := Parse(TypeCounters, append(make([]byte, 13), huge...)); err == nil {
		t.Error("2^40 counters are accepted")
	}
}

// Errors travel to logs, and records hold keys.
func TestErrorsCarryNoKeys(t *testing.T) {
	s := vectorSA()
	s.AEAD.Key = sadb.NewSecret([]byte("SECRETSECRETSECRETSE"))
	b := AppendSA(nil, s)
	for i := range b {
		for _, x := range []byte{0, 1, 0xff} {
			c := bytes.Clone(b)
			c[i] = x
			got, err := ParseSA(c)
			if text := fmt.Sprintf("%v %+v %#v", err, got, got); strings.Contains(text, "SECRET") {
				t.Fatalf("byte %d as %d: %s", i, x, text)
			}
		}
	}
}

func FuzzFrame(f *testing.F) {
	for name := range vectors() {
		raw := vector(f, name)
		f.Add(raw[4], raw[HeaderLen:])
	}
	for _, m := range randomMessages(sadbtest.NewRand(5)) {
		b, err := AppendFrame(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4], b[HeaderLen:])
	}
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		m, err := Parse(Type(typ), body)
		if _, unknown := m.(*Unknown); err != nil || unknown {
			return
		}
		// Skippable fields vanish, so the second encoding is the judge.
		b, err := AppendFrame(nil, m)
		if err != nil {
			t.Fatalf("%s was accepted but cannot be sent: %v", m.Type(), err)
		}
		again, err := Parse(Type(typ), b[HeaderLen:])
		if err != nil {
			t.Fatalf("%s: %v", m.Type(), err)
		}
		c, err := AppendFrame(nil, again)
		if err != nil || !bytes.Equal(b, c) {
			t.Fatalf("%s has two encodings:\n%x\n%x, %v", m.Type(), b, c, err)
		}
	})
}

// canonical checks that b, accepted, is what encode makes of it.
func canonical(t *testing.T, b, again []byte) {
	t.Helper()
	for i := 0; i < len(b); {
		if tlv(b[i]) >= skippable {
			b = b[:i]
			break
		}
		i += tlvHeader + int(binary.BigEndian.Uint16(b[i+1:]))
	}
	if !bytes.Equal(b, again) {
		t.Fatalf("accepted\n%x but encodes as\n%x", b, again)
	}
}

func FuzzSA(f *testing.F) {
	f.Add(AppendSA(nil, vectorSA()))
	for seed := range uint64(10) {
		f.Add(AppendSA(nil, sadbtest.AnySA(sadbtest.NewRand(seed))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSA(b); err == nil {
			canonical(t, b, AppendSA(nil, s))
			SADigest(s)
		}
		if k, err := ParseSAKey(b); err == nil {
			canonical(t, b, AppendSAKey(nil, k))
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add(AppendPolicy(nil, vectorPolicy()))
	for seed := range uint64(10) {
		f.Add(AppendPolicy(nil, sadbtest.AnyPolicy(sadbtest.NewRand(seed))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePolicy(b); err == nil {
			canonical(t, b, AppendPolicy(nil, p))
			PolicyDigest(p)
		}
		if k, err := ParsePolicyKey(b); err == nil {
			canonical(t, b, AppendPolicyKey(nil, &k))
		}
	})
}

// TestTermsNearTheEndAreRefused: nobody could number a mastership above them.
func TestTermsNearTheEndAreRefused(t *testing.T) {
	for _, term := range []uint64{MaxTerm, MaxTerm + 1, 1<<64 - 1} {
		id := StreamID{Group: "g", Term: term, Node: NodeID{1}}
		state := GroupState{Name: "g", Role: RoleMaster, Term: term}
		for _, m := range []Message{
			&Hello{Min: 1, Max: 1, Node: NodeID{1}, Groups: []GroupState{state}}, &State{state},
			&State{GroupState{Name: "g", Have: StreamPos{StreamID: id}}},
			&Request{Group: "g", Have: StreamPos{StreamID: id}},
			&Resume{Stream: 1, ID: id}, &SnapBegin{Stream: 1, ID: id}, &Handover{Group: "g", Term: term},
			&Succession{Group: "g", Term: term},
		} {
			b, err := AppendFrame(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Parse(m.Type(), b[HeaderLen:]); (err != nil) != (term > MaxTerm) {
				t.Errorf("%s with term %d: %v", m.Type(), term, err)
			}
		}
	}
}
