package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

// TestWhoHoldsMore: what decides which standby a master should come from, for each
// kind of position and both ways round.
func TestWhoHoldsMore(t *testing.T) {
	pos := func(term uint64, node byte, seq uint64, complete bool) StreamPos {
		return StreamPos{StreamID{"g", term, NodeID{node}, 1}, seq, complete}
	}
	for name, c := range map[string]struct {
		p, o StreamPos
		more bool
	}{
		"a later change of one stream":           {pos(5, 1, 8, true), pos(5, 1, 7, true), true},
		"the same change":                        {pos(5, 1, 7, true), pos(5, 1, 7, true), false},
		"an earlier change":                      {pos(5, 1, 6, true), pos(5, 1, 7, true), false},
		"a later change of another stream":       {pos(5, 2, 8, true), pos(5, 1, 7, true), false},
		"a higher term":                          {pos(6, 2, 1, true), pos(5, 1, 9, true), true},
		"a lower term":                           {pos(4, 2, 9, true), pos(5, 1, 1, true), false},
		"a whole snapshot of a lower term":       {pos(4, 1, 1, true), pos(5, 1, 9, false), true},
		"half a snapshot of a higher term":       {pos(6, 1, 9, false), pos(5, 1, 1, true), false},
		"half a snapshot, as the other":          {pos(6, 1, 9, false), pos(5, 1, 1, false), false},
		"nothing, as the other":                  {StreamPos{}, StreamPos{}, false},
		"something whole where there is nothing": {pos(1, 1, 1, true), StreamPos{}, true},
	} {
		if got := c.p.Beyond(c.o); got != c.more {
			t.Errorf("%s: holds more: %v", name, got)
		}
	}
}

// TestTextIsCutBetweenLetters: words that are too long arrive as the words that they begin
// with, in whatever script.
func TestTextIsCutBetweenLetters(t *testing.T) {
	for _, letter := range []string{"a", "é", "語", "😀"} {
		for shift := range 4 {
			said := strings.Repeat("x", shift) + strings.Repeat(letter, maxBye)
			body, err := AppendFrame(nil, &Bye{Code: ByeTimeout, Text: said})
			if err != nil {
				t.Fatal(err)
			}
			m, err := Parse(Type(body[4]), body[HeaderLen:])
			if err != nil {
				t.Fatalf("%s: %v", letter, err)
			}
			got := m.(*Bye).Text
			if !strings.HasPrefix(said, got) || len(got) > maxBye || len(got) <= maxBye-len(letter) {
				t.Errorf("%s, behind %d: %d bytes arrive, %q", letter, shift, len(got), got[max(0, len(got)-8):])
			}
		}
	}
}

// TestBelievableTerms: a term is believed up to where one message may carry a group,
// and not where none could be numbered above it for long.
func TestBelievableTerms(t *testing.T) {
	for _, c := range []struct {
		own, told uint64
		ok        bool
	}{
		{0, 0, true}, {7, 6, true}, {7, 8, true}, {7, 7 + maxTermStep, true}, {7, 8 + maxTermStep, false},
		{maxBelieved - 1, maxBelieved, true}, {maxBelieved, maxBelieved + 1, false},
		{maxBelieved + 9, maxBelieved + 9, true}, {maxBelieved + 9, maxBelieved + 5, true},
		{0, math.MaxUint64, false}, {math.MaxUint64, 1, true},
	} {
		if got := Believable(c.own, c.told); got != c.ok {
			t.Errorf("who knows of %d believes %d: %v, want %v", c.own, c.told, got, c.ok)
		}
	}
}

// TestEachKeyIsRedacted: whichever algorithm carries a key.
func TestEachKeyIsRedacted(t *testing.T) {
	key := []byte("SECRETSECRETSECRET")
	alg := func(name string) *sadb.Algorithm { return &sadb.Algorithm{Name: name, Key: sadb.NewSecret(key)} }
	s := &sadb.SA{Auth: alg("hmac(sha256)"), Crypt: alg("cbc(aes)"), AEAD: alg("rfc4106(gcm(aes))")}
	a, b := Redact(s, NodeID{1}), Redact(s, NodeID{2})
	for name, got := range map[string][2]*sadb.Algorithm{"auth": {a.Auth, b.Auth}, "crypt": {a.Crypt, b.Crypt},
		"aead": {a.AEAD, b.AEAD}} {
		if got[0].Key.Len() != keyDigestLen || bytes.Contains(key, got[0].Key.Bytes()) || got[0].Key.Equal(got[1].Key) {
			t.Errorf("%s: a digest of %d bytes, the same under another salt: %v", name, got[0].Key.Len(),
				got[0].Key.Equal(got[1].Key))
		}
	}
	if a.Auth.Key.Equal(a.Crypt.Key) {
		t.Error("one key of two algorithms has one digest")
	}
	for _, x := range []*sadb.Algorithm{s.Auth, s.Crypt, s.AEAD} {
		if !bytes.Equal(x.Key.Bytes(), key) {
			t.Errorf("%s: the SA was changed", x.Name)
		}
	}
	if e := Redact(&sadb.SA{Auth: &sadb.Algorithm{Name: "digest_null"}}, NodeID{1}); e.Auth.Key.Len() != 0 {
		t.Error("an algorithm without a key has a digest")
	}
}

// TestListsHaveLimits: what is longer than its limit is not sent, and is refused from
// who sends it all the same; what is exactly as long is neither.
func TestListsHaveLimits(t *testing.T) {
	vips := make([]netip.Addr, maxVIPs+1)
	for i := range vips {
		vips[i] = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
	}
	group := func(n int) GroupState { return GroupState{Name: "g", VIPs: vips[:n]} }
	for name, c := range map[string]struct{ most, more Message }{
		"addresses": {&State{group(maxVIPs)}, &State{group(maxVIPs + 1)}},
		"groups": {&Hello{Min: 1, Max: 1, Groups: make([]GroupState, maxGroups)},
			&Hello{Min: 1, Max: 1, Groups: make([]GroupState, maxGroups+1)}},
		"name": {&Handover{Group: strings.Repeat("n", 255)}, &Handover{Group: strings.Repeat("n", 256)}},
		"report": {&Report{bytes.Repeat([]byte("x"), MaxReport)},
			&Report{bytes.Repeat([]byte("x"), MaxReport+1)}},
		"hold": {&Succession{Group: "g", Hold: math.MaxUint32 * time.Millisecond},
			&Succession{Group: "g", Hold: (math.MaxUint32 + 1) * time.Millisecond}},
		"buckets": {&BucketRequest{Of: 256, Buckets: []uint16{255}}, &BucketRequest{Of: 256, Buckets: []uint16{256}}},
		"bucket":  {&BucketItems{Of: 8, Bucket: 7}, &BucketItems{Of: 8, Bucket: 8}},
		"records": {&Batch{Records: flushes(MaxRecords)}, &Batch{Records: flushes(MaxRecords + 1)}},
	} {
		if b, err := AppendFrame(nil, c.most); err != nil {
			t.Errorf("%s: the most is not sent: %v", name, err)
		} else if _, err := Parse(c.most.Type(), b[HeaderLen:]); err != nil {
			t.Errorf("%s: the most is refused: %v", name, err)
		}
		if _, err := AppendFrame(nil, c.more); err == nil {
			t.Errorf("%s: more than the most is sent", name)
		}
	}
	if _, err := AppendFrame(nil, &Succession{Group: "g", Hold: -time.Millisecond}); err == nil {
		t.Error("a hold of less than nothing is sent")
	}
}

func flushes(n int) []Record {
	out := make([]Record, n)
	for i := range out {
		out[i] = Record{Kind: FlushSA, Proto: sadb.ProtoESP}
	}
	return out
}

// TestBeyondALimitIsRefused: what no sender of this code would send.
func TestBeyondALimitIsRefused(t *testing.T) {
	u16 := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	pos := append([]byte{0}, make([]byte, 8+16+8+8+1)...)
	group := func(addrs []byte, n int, role byte, rest ...byte) []byte {
		b := cat([]byte{1, 'g'}, u16(n), addrs, []byte{role}, make([]byte, 8), []byte{0}, pos, u16(0), rest)
		return cat(u16(len(b)), b)
	}
	four := []byte{4, 10, 0, 0, 1}
	if _, err := Parse(TypeState, group(four, 1, 2)); err != nil {
		t.Fatalf("a state: %v", err)
	}
	record := func(kind RecordKind, flags byte, rest ...byte) []byte {
		return cat(make([]byte, 12), []byte{1, byte(kind), flags}, u16(len(rest)), rest)
	}
	if _, err := Parse(TypeBatch, record(FlushSA, 1, 0, sadb.ProtoESP)); err != nil {
		t.Fatalf("a record: %v", err)
	}
	body := func(m Message) []byte {
		b, err := AppendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		return b[HeaderLen:]
	}
	hello := body(&Hello{Min: 1, Max: 1}) // which ends with how many groups it has
	groups := func(n int) []byte {
		return cat(hello[:len(hello)-2], u16(n), bytes.Repeat(body(&State{}), n))
	}
	if _, err := Parse(TypeHello, groups(maxGroups)); err != nil {
		t.Fatalf("a hello: %v", err)
	}
	key := AppendSAKey(nil, vectorSA().Key)
	for name, c := range map[string]struct {
		t Type
		b []byte
	}{
		"role 3":               {TypeState, group(four, 1, 3)},
		"an empty address":     {TypeState, group([]byte{0}, 1, 0)},
		"257 addresses":        {TypeState, group(bytes.Repeat(four, maxVIPs+1), maxVIPs+1, 0)},
		"257 groups":           {TypeHello, groups(maxGroups + 1)},
		"received nothing":     {TypeState, group(four, 1, 0, make([]byte, 8)...)},
		"half of received":     {TypeState, group(four, 1, 0, 0, 0, 0, 1)},
		"flag 2 of a record":   {TypeBatch, record(FlushSA, 2, 0, sadb.ProtoESP)},
		"record of kind 0":     {TypeBatch, record(0, 0, 0, 1)},
		"record of kind 7":     {TypeBatch, record(7, 0, 0, 1)},
		"record with a rest":   {TypeBatch, record(FlushSA, 0, 0, sadb.ProtoESP, 9)},
		"neither yes nor no":   {TypeBatch, record(FlushPolicy, 0, 0, 2)},
		"handle of 33 bits":    {TypeBatch, record(DelSA, 0, cat([]byte{0}, binary.AppendUvarint(nil, 1<<32), key)...)},
		"bucket of none":       {TypeBucketRequest, cat(u32(1), u32(8), []byte{1}, u16(8))},
		"buckets out of order": {TypeBucketRequest, cat(u32(1), u32(8), []byte{2}, u16(3), u16(2))},
		"a bucket twice":       {TypeBucketRequest, cat(u32(1), u32(8), []byte{2}, u16(3), u16(3))},
		"items of no bucket":   {TypeBucketItems, cat(u32(1), make([]byte, 8), u32(8), u16(8), []byte{0, 0, 0})},
		"keys out of order": {TypeBucketItems, cat(u32(1), make([]byte, 8), u32(8), u16(7), []byte{0, 2},
			bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{1}, 16), []byte{0})},
		"a key twice": {TypeBucketItems, cat(u32(1), make([]byte, 8), u32(8), u16(7), []byte{0, 2},
			bytes.Repeat([]byte{2}, 32), []byte{0})},
		"counters of one SA twice": {TypeCounters, cat(make([]byte, 12), []byte{0, 2, 4, 1, 1, 0, 1, 1})},
		"a sequence of nothing":    {TypeCounters, cat(make([]byte, 12), []byte{0, 1, 5, 1, 1, 1})},
		"report beyond its limit":  {TypeReport, cat(u32(MaxReport+1), make([]byte, MaxReport+1))},
		"long words of a bye":      {TypeBye, cat(u16(1), u16(maxBye+1), bytes.Repeat([]byte("a"), maxBye+1))},
	} {
		if m, err := Parse(c.t, c.b); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

// TestOrderIsTheSendersToo: what a receiver would refuse for its order is not sent.
func TestOrderIsTheSendersToo(t *testing.T) {
	for name, m := range map[string]Message{
		"buckets":         &BucketRequest{Of: 8, Buckets: []uint16{3, 2}},
		"a bucket twice":  &Compare{Group: "g", Of: 8, Buckets: []uint16{3, 3}},
		"keys":            &BucketItems{Of: 8, Keys: []Sum{{2}, {1}}},
		"a key twice":     &BucketItems{Of: 8, Keys: []Sum{{2}, {2}}},
		"counters":        &Counters{Entries: []CounterEntry{{Handle: 3}, {Handle: 3}}},
		"a nameless kind": &Batch{Records: []Record{{Kind: 99}}},
		"no policy":       &Batch{Records: []Record{{Kind: PutPolicy}}},
		"no identity":     &Batch{Records: []Record{{Kind: DelPolicy}}},
	} {
		if _, err := AppendFrame(nil, m); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
}

// TestFramesFollowOneAnother: a second message behind a first one in one buffer says its
// own length.
func TestFramesFollowOneAnother(t *testing.T) {
	var b []byte
	want := randomMessages(sadbtest.NewRand(11))
	for _, m := range want {
		var err error
		if b, err = AppendFrame(b, m); err != nil {
			t.Fatal(err)
		}
	}
	r := bytes.NewReader(b)
	var buf []byte
	for i, m := range want {
		got, again, err := Read(r, buf)
		if err != nil || got.Type() != m.Type() {
			t.Fatalf("message %d: %v, want %s", i, err, m.Type())
		}
		buf = again
	}
	if r.Len() != 0 {
		t.Errorf("%d bytes are left", r.Len())
	}
}

// TestMalformedIsTold: what arrives and is no message is told from what does not arrive.
func TestMalformedIsTold(t *testing.T) {
	ping, err := AppendFrame(nil, &Ping{7})
	if err != nil {
		t.Fatal(err)
	}
	unknown := append([]byte{0, 0, 0, 0, 99}, 1)
	for name, c := range map[string]struct {
		b         []byte
		malformed bool
	}{
		"header cut": {ping[:3], false}, "body cut": {ping[:9], false}, "nothing": {nil, false},
		"unknown type": {unknown, true},
		"a short ping": {[]byte{0, 0, 0, 1, byte(TypePing), 1}, true},
		"a long ping":  {[]byte{0, 1, 0, 0, byte(TypePing)}, true},
	} {
		_, _, err := Read(bytes.NewReader(c.b), nil)
		_, malformed := err.(*MalformedError)
		if err == nil || malformed != c.malformed {
			t.Errorf("%s: %v is malformed: %v", name, err, malformed)
		}
	}
}
