package wire

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

// same compares what was sent with what arrived; keys are compared, not shown.
func same() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b sadb.Secret) bool { return a.Equal(b) }),
		cmpopts.EquateComparable(netip.Addr{}),
	}
}

func TestSAsSurviveTheWire(t *testing.T) {
	for seed := range uint64(500) {
		r := sadbtest.NewRand(seed)
		for _, want := range []*sadb.SA{sadbtest.SA(r), sadbtest.AnySA(r)} {
			b := AppendSA(nil, want)
			got, err := ParseSA(b)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if d := cmp.Diff(want, got, same()); d != "" {
				t.Fatalf("seed %d: sent - received +\n%s", seed, d)
			}
			if again := AppendSA(nil, got); !bytes.Equal(b, again) {
				t.Fatalf("seed %d: the same SA has two encodings", seed)
			}
			k, err := ParseSAKey(AppendSAKey(nil, want.Key))
			if err != nil || k != want.Key {
				t.Fatalf("seed %d: identity %v, %v; want %v", seed, k, err, want.Key)
			}
		}
	}
}

func TestPoliciesSurviveTheWire(t *testing.T) {
	for seed := range uint64(500) {
		r := sadbtest.NewRand(seed)
		for _, want := range []*sadb.Policy{sadbtest.Policy(r), sadbtest.AnyPolicy(r)} {
			b := AppendPolicy(nil, want)
			got, err := ParsePolicy(b)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if d := cmp.Diff(want, got, same()); d != "" {
				t.Fatalf("seed %d: sent - received +\n%s", seed, d)
			}
			if again := AppendPolicy(nil, got); !bytes.Equal(b, again) {
				t.Fatalf("seed %d: the same policy has two encodings", seed)
			}
			k, err := ParsePolicyKey(AppendPolicyKey(nil, &want.Key))
			if err != nil || k != want.Key {
				t.Fatalf("seed %d: identity %v, %v; want %v", seed, k, err, want.Key)
			}
		}
	}
}

// What is local to a machine must not reach another one.
func TestLocalFieldsStayAtHome(t *testing.T) {
	r := sadbtest.NewRand(1)
	s, p := sadbtest.SA(r), sadbtest.Policy(r)
	sb, pb := AppendSA(nil, s), AppendPolicy(nil, p)
	s.Tag, s.Offloaded, p.Index, p.Socket = 77, true, 88, true
	if !bytes.Equal(sb, AppendSA(nil, s)) || !bytes.Equal(pb, AppendPolicy(nil, p)) {
		t.Error("a local field changes the record")
	}
}

func randomStream(r *rand.Rand) StreamID {
	return StreamID{Group: "carp1", Term: r.Uint64N(MaxTerm + 1), Node: NodeID(sadbtest.Bytes(r, 16)),
		Nonce: r.Uint64()}
}

func randomGroup(r *rand.Rand) GroupState {
	return GroupState{
		Name: "carp1", VIPs: []netip.Addr{sadbtest.Addr4(r), sadbtest.Addr6(r)}, Role: Role(r.IntN(3)),
		Term: r.Uint64N(MaxTerm + 1), Received: r.Uint64(), InSync: r.IntN(2) == 0, Reason: "adverts ceased on “eth0”",
		Have: StreamPos{StreamID: randomStream(r), Seq: r.Uint64(), Complete: r.IntN(2) == 0},
	}
}

func randomRecords(r *rand.Rand) (rs []Record) {
	s, p := sadbtest.SA(r), sadbtest.Policy(r)
	for _, rec := range []Record{
		{Kind: PutSA, Handle: r.Uint32(), SA: s}, {Kind: DelSA, Handle: r.Uint32(), SAKey: s.Key},
		{Kind: PutPolicy, Policy: p}, {Kind: DelPolicy, PolicyKey: &p.Key},
		{Kind: FlushSA, Proto: sadb.ProtoAH}, {Kind: FlushPolicy, Sub: true},
	} {
		rec.Numbered, rec.SentAge = r.IntN(2) == 0, r.Uint64()>>r.IntN(64)
		rs = append(rs, rec)
	}
	return rs
}

func randomMessages(r *rand.Rand) []Message {
	var cs []CounterEntry
	for h, i := uint32(r.IntN(2)), 0; i < 20; i++ {
		cs = append(cs, CounterEntry{h, r.Uint64() >> r.IntN(65), r.Uint64() >> r.IntN(65), r.Uint64() >> r.IntN(65),
			r.Uint64() >> r.IntN(65)})
		h += 1 + r.Uint32()>>(5+r.IntN(27))
	}
	return []Message{
		&Hello{Min: 1, Max: 2, Caps: r.Uint64(), Node: NodeID(sadbtest.Bytes(r, 16)),
			Boot:  NodeID(sadbtest.Bytes(r, 16)),
			Nonce: r.Uint64(), Kernel: "6.1.0-18-amd64", BigEndian: true, Arch: "s390x", WallUnix: -int64(r.Uint32()),
			Gen:    r.Uint32(),
			Groups: []GroupState{randomGroup(r), randomGroup(r), {}}},
		&State{randomGroup(r)},
		&Request{Group: "carp1", Have: randomGroup(r).Have},
		&Resume{Stream: r.Uint32(), ID: randomStream(r), Seq: r.Uint64()},
		&SnapBegin{Stream: r.Uint32(), ID: randomStream(r), Seq: r.Uint64(), SAs: r.Uint32(), Policies: r.Uint32()},
		&SnapEnd{Stream: r.Uint32(), Seq: r.Uint64(), SAs: r.Uint32(), Policies: r.Uint32()},
		&Batch{Stream: r.Uint32(), First: r.Uint64(), Records: randomRecords(r)},
		&Batch{Stream: 1},
		&Counters{Stream: r.Uint32(), Epoch: r.Uint64(), AgeMicros: r.Uint64(), Entries: cs},
		&Counters{},
		&Ack{Stream: r.Uint32(), Seq: r.Uint64(), Epoch: r.Uint64(), SnapDone: true, Installed: r.Uint32()},
		&Ping{r.Uint64()}, &Pong{r.Uint64()},
		&Bye{Code: ByeVersion, Text: "this node speaks protocol versions 1 to 1"},
		&Handover{Group: "carp1", Term: r.Uint64N(MaxTerm + 1)},
		&Maxima{ID: randomStream(r), Last: true, Entries: []Maximum{
			{sadbtest.SA(r).Key, r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}, {Key: sadbtest.SA(r).Key}}},
		&Digest{Stream: r.Uint32(), Seq: r.Uint64(), Buckets: []uint64{r.Uint64(), 0, r.Uint64()}},
		&BucketRequest{Stream: r.Uint32(), Of: 256, Buckets: []uint16{0, 7, 255}},
		&BucketItems{Stream: r.Uint32(), Seq: r.Uint64(), Of: 256, Bucket: 255, More: true,
			Keys: []Sum{{1}, {2}}, Records: randomRecords(r)},
		&Gossip{sadbtest.Bytes(r, r.IntN(100)+1)},
		&Compare{Token: r.Uint32(), Group: "carp1", Salt: NodeID(sadbtest.Bytes(r, 16)), Of: 256,
			Buckets: []uint16{0, 7, 255}},
		&Compare{Group: "carp1"},
		&Inventory{Token: r.Uint32(), Last: r.IntN(2) == 0, Error: "busy", Sums: []uint64{r.Uint64(), 0},
			Records: randomRecords(r)},
		&Succession{Token: r.Uint32(), Group: "carp1", Term: r.Uint64N(MaxTerm + 1),
			Node: NodeID(sadbtest.Bytes(r, 16)),
			Hold: time.Duration(r.Uint32()) * time.Millisecond},
		&Consent{Token: r.Uint32(), Yes: r.IntN(2) == 0, Reason: "not in sync", Remedy: "wait"},
		&Fitness{Group: "carp1", Demotion: r.IntN(MaxDemotion + 1), Willing: r.IntN(2) == 0},
		&Report{[]byte(`{"host":"gw1"}`)},
		&Outage{Group: "carp1", Term: r.Uint64N(MaxTerm + 1), Gap: time.Duration(r.Uint32()) * time.Microsecond,
			Over: r.IntN(2) == 0},
	}
}

func TestMessagesSurviveTheWire(t *testing.T) {
	for seed := range uint64(100) {
		for _, want := range randomMessages(sadbtest.NewRand(seed)) {
			b, err := AppendFrame(nil, want)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			got, _, err := Read(bytes.NewReader(b), nil)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if d := cmp.Diff(want, got, same()); d != "" {
				t.Fatalf("seed %d: %s: sent - received +\n%s", seed, want.Type(), d)
			}
			// A later version may append fields; they are ignored.
			if want.Type() == TypeGossip {
				continue
			}
			got, err = Parse(want.Type(), append(b[HeaderLen:], 1, 2, 3))
			if err != nil {
				t.Fatalf("%s with bytes of a later version: %v", want.Type(), err)
			}
			if d := cmp.Diff(want, got, same()); d != "" {
				t.Fatalf("%s with bytes of a later version:\n%s", want.Type(), d)
			}
		}
	}
}

// Every cut of every message is refused, without a panic and without a result.
func TestCutMessagesAreRefused(t *testing.T) {
	for _, m := range randomMessages(sadbtest.NewRand(3)) {
		b, err := AppendFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		for n := range b {
			if _, _, err := Read(bytes.NewReader(b[:n]), nil); err == nil {
				t.Errorf("%s: %d of %d bytes are accepted", m.Type(), n, len(b))
			}
			if n < HeaderLen || m.Type() == TypeGossip {
				continue
			}
			if _, err := Parse(m.Type(), b[HeaderLen:n]); err == nil {
				t.Errorf("%s: %d of %d bytes of body are accepted", m.Type(), n-HeaderLen, len(b)-HeaderLen)
			}
		}
	}
}

func TestWordsForHumansAreCleaned(t *testing.T) {
	b, err := AppendFrame(nil, &Bye{Text: "a\nb\x1b[2J\xff" + strings.Repeat("ü", 2000)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(TypeBye, b[HeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*Bye).Text; !strings.HasPrefix(got, "a?b?[2J?ü") || len(got) > maxBye || !strings.HasSuffix(got, "ü") {
		t.Errorf("arrived as %q", got)
	}
	raw := append([]byte{0, 1, 0, 3}, "a\nb"...)
	if _, err := Parse(TypeBye, raw); err == nil {
		t.Error("control characters are accepted from a peer")
	}
	if _, err := AppendFrame(nil, &Handover{Group: "a\nb"}); err == nil {
		t.Error("a name that is not printable is sent")
	}
}

// The wire budget of the design: 20 bytes for an SA that moved.
func TestCountersAreSmall(t *testing.T) {
	r := sadbtest.NewRand(9)
	const n = 10000
	m := &Counters{Stream: 1, Epoch: 1 << 40, AgeMicros: 900}
	for i := range n {
		p := uint64(1e9) + r.Uint64N(1e9) // a day or two at 10,000/s
		e := CounterEntry{Handle: uint32(2*i + 1), Packets: p, Bytes: p * 1400}
		if i%2 == 0 {
			e.OSeq = p + 10<<26 // ten failovers with the usual margin
		} else {
			e.Seq = p + 5000
		}
		m.Entries = append(m.Entries, e)
	}
	b, err := AppendFrame(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if per := len(b) / n; per > 20 {
		t.Errorf("%d bytes for each SA", per)
	}
}

func TestAgreeOnVersion(t *testing.T) {
	hello := func(lo, hi uint16) *Hello { return &Hello{Min: lo, Max: hi} }
	for _, c := range []struct {
		a, b *Hello
		want uint16
	}{
		{hello(1, 1), hello(1, 1), 1}, {hello(1, 2), hello(2, 3), 2}, {hello(1, 3), hello(1, 2), 2},
		{hello(1, 1), hello(2, 3), 0}, {hello(3, 4), hello(1, 2), 0},
	} {
		for _, x := range [][2]*Hello{{c.a, c.b}, {c.b, c.a}} {
			v, err := x[0].Agree(x[1])
			if v != c.want || (err == nil) != (c.want != 0) {
				t.Errorf("%d-%d with %d-%d: %d, %v; want %d", x[0].Min, x[0].Max, x[1].Min, x[1].Max, v, err, c.want)
			}
		}
	}
}

// Digests tell keys apart, under one salt only, and are no keys.
func TestRedact(t *testing.T) {
	salt, other := NodeID{1}, NodeID{2}
	s := vectorSA()
	key := s.AEAD.Key.Bytes()
	a := Redact(s, salt).AEAD.Key
	if !bytes.Equal(s.AEAD.Key.Bytes(), key) || a.Len() != keyDigestLen || bytes.Contains(key, a.Bytes()) {
		t.Fatalf("the SA was changed, or the digest is %d bytes of the key", a.Len())
	}
	if !a.Equal(Redact(vectorSA(), salt).AEAD.Key) {
		t.Error("equal keys have different digests")
	}
	if a.Equal(Redact(s, other).AEAD.Key) {
		t.Error("the salt does not matter")
	}
	s.AEAD.Key = sadb.NewSecret(append([]byte{9}, key[1:]...))
	if a.Equal(Redact(s, salt).AEAD.Key) {
		t.Error("different keys have the same digest")
	}
	if Redact(&sadb.SA{Comp: &sadb.Algorithm{Name: "deflate"}}, salt).Comp.Key.Len() != 0 {
		t.Error("what has no key has a digest")
	}
}
