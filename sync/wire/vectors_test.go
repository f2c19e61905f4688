package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/sync/sadb"
)

// vector reads a file of testdata: hexadecimal, comments behind #.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []byte
	for s := bufio.NewScanner(f); s.Scan(); {
		digits, _, _ := strings.Cut(s.Text(), "#")
		b, err := hex.DecodeString(strings.TrimSpace(digits))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, b...)
	}
	return out
}

func sequence(first byte, n int) (b []byte) {
	for i := range n {
		b = append(b, first+byte(i))
	}
	return b
}

func vectorSelector() sadb.Selector {
	return sadb.Selector{
		Family: sadb.FamilyIPv6, SrcLen: 48, DstLen: 32, Proto: 6, DstPort: 443, DstPortMask: 0xffff, Interface: "eth1",
		Src: sadb.Raw(netip.MustParseAddr("fd00:1:2::")), Dst: sadb.Raw(netip.MustParseAddr("2001:db8::")),
	}
}

func vectorSA() *sadb.SA {
	return &sadb.SA{
		Key: sadb.SAKey{Dst: netip.MustParseAddr("2001:db8::2"), SPI: 0xc0ffee01, Proto: sadb.ProtoESP,
			Mark: sadb.Mark{Value: 0x2a, Mask: 0xff}},
		Src: netip.MustParseAddr("2001:db8::1"), Selector: vectorSelector(), Mode: sadb.ModeTunnel, Reqid: 17,
		Flags: sadb.FlagESN | sadb.FlagAFUnspec | sadb.FlagNoPMTU, Extra: 1,
		AEAD:  &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret(sequence(0x40, 20)), TruncBits: 128},
		Encap: &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4501, OA: netip.MustParseAddr("2001:db8::9")},

		OutputMark: &sadb.Mark{Mask: 0xff}, IfID: 9, TFCPad: 1400, KernelDir: sadb.DirOut, PCPU: new(uint32),
		MappingTimer: 30, Keepalive: 20, Window: 64, BitmapLen: 2,
		Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: 1000, SoftPackets: sadb.NoLimit,
			HardPackets: sadb.NoLimit,
			SoftAdd:     3000, HardAdd: 3600},
		Unknown:  []sadb.Attr{{Type: 99, Data: []byte{0xde, 0xad, 0xbe, 0xef}}},
		Dir:      sadb.DirOut,
		Counters: sadb.Counters{OSeq: 5000000000, Bytes: 70000, Packets: 500, Bitmap: []uint32{0xffffffff, 1}},
		Age:      100, Used: true, UseAge: 90,
	}
}

func vectorPolicy() *sadb.Policy {
	return &sadb.Policy{
		Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: vectorSelector(), Mark: sadb.Mark{Value: 0x2a, Mask: 0xff},
			IfID: 9, SecCtx: "ctx"},
		Priority: 371327, Action: sadb.ActionBlock, Flags: 1, Share: 3,
		Limits: sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
			HardPackets: sadb.NoLimit,
			HardAdd:     86400},
		Templates: []sadb.Template{{
			Dst: netip.MustParseAddr("198.51.100.7"), Src: netip.MustParseAddr("203.0.113.1"), Proto: sadb.ProtoESP,
			Family: sadb.FamilyIPv4, Reqid: 17, Mode: sadb.ModeTunnel, Optional: true,
			AuthAlgs: 0xffffffff, EncAlgs: 0xffffffff, CompAl: 0xffffffff,
		}},
		Unknown: []sadb.Attr{{Type: 99, Data: []byte{0xde, 0xad, 0xbe, 0xef}}},
		Use:     sadb.Use{Bytes: 70000, Packets: 500, Age: 100, Used: true, UseAge: 90},
	}
}

func vectors() map[string]Message {
	node, boot := NodeID(sequence(0x10, 16)), NodeID(sequence(0x20, 16))
	stream := StreamID{Group: "carp1", Term: 7, Node: node, Nonce: 0x0123456789abcdef}
	pos := StreamPos{StreamID: stream, Seq: 42, Complete: true}
	group := GroupState{
		Name: "carp1", VIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")},
		Role: RoleMaster, Term: 7, InSync: true, Have: pos, Reason: "won the election", Received: 123456,
	}
	sa, policy := vectorSA(), vectorPolicy()
	key301 := sa.Key
	return map[string]Message{
		"hello": &Hello{Min: 1, Max: 1, Node: node, Boot: boot, Nonce: stream.Nonce, Kernel: "6.1.0-18-amd64",
			Arch:     "amd64",
			WallUnix: 1750000000, Gen: 3, Move: true, Groups: []GroupState{group}},
		"state":      &State{group},
		"request":    &Request{Group: "carp1", Have: pos},
		"resume":     &Resume{Stream: 3, ID: stream, Seq: 42},
		"snap-begin": &SnapBegin{Stream: 3, ID: stream, Seq: 42, SAs: 2000, Policies: 3000},
		"snap-end":   &SnapEnd{Stream: 3, Seq: 44, SAs: 2000, Policies: 3000},
		"batch": &Batch{Stream: 3, First: 43, Records: []Record{
			{Kind: PutSA, Handle: 300, SentAge: 1500, SA: sa},
			{Kind: PutPolicy, Policy: policy},
			{Kind: DelSA, Numbered: true, Handle: 301, SentAge: 20, SAKey: key301},
			{Kind: DelPolicy, Numbered: true, SentAge: 20, PolicyKey: &policy.Key},
			{Kind: FlushSA, Numbered: true, Proto: sadb.ProtoAH},
			{Kind: FlushPolicy, Numbered: true, Sub: true},
		}},
		"counters": &Counters{Stream: 3, Epoch: 9, AgeMicros: 850, Entries: []CounterEntry{
			{Handle: 1, OSeq: 17384, Bytes: 150000, Packets: 1000},
			{Handle: 2, Seq: 999, Bytes: 150000, Packets: 1000},
			{Handle: 300, Bytes: 400, Packets: 5},
		}},
		"ack":      &Ack{Stream: 3, Seq: 44, Epoch: 9, SnapDone: true, Installed: 5000},
		"ping":     &Ping{0xfeedface},
		"pong":     &Pong{0xfeedface},
		"bye":      &Bye{Code: ByeVersion, Text: "upgrade the older one"},
		"handover": &Handover{Group: "carp1", Term: 7},
		"maxima": &Maxima{ID: stream, Last: true, Entries: []Maximum{
			{Key: sa.Key, OSeq: 5000000000, Bytes: 70000, Packets: 500}}},
		"digest":         &Digest{Stream: 3, Seq: 44, Buckets: []uint64{0x1122334455667788, 0}},
		"bucket-request": &BucketRequest{Stream: 3, Of: 256, Buckets: []uint16{1, 255}},
		"bucket-items": &BucketItems{Stream: 3, Seq: 44, Of: 256, Bucket: 255, Keys: []Sum{Sum(sequence(0x60, 16))},
			Records: []Record{{Kind: FlushSA}}},
		"gossip": &Gossip{[]byte("opaque")},
		"compare": &Compare{Token: 5, Group: "carp1", Salt: NodeID(sequence(0x30, 16)), Of: 256,
			Buckets: []uint16{1, 255}},
		"inventory": &Inventory{Token: 5, Last: true, Error: "busy", Sums: []uint64{0x1122334455667788},
			Records: []Record{{Kind: FlushSA}}},
		"succession": &Succession{Token: 6, Group: "carp1", Term: 7, Node: node, Hold: 10 * time.Second},
		"consent":    &Consent{Token: 6, Reason: "not in sync", Remedy: "wait"},
		"fitness":    &Fitness{Group: "carp1", Demotion: 100, Willing: true},
		"report":     &Report{[]byte(`{"host":"gw1"}`)},
		"outage":     &Outage{Group: "carp1", Term: 8, Gap: 43 * time.Millisecond, Over: true},
	}
}

// The files were written from the specification, not by this code.
func TestVectors(t *testing.T) {
	all := vectors()
	for typ := range Type(255) {
		m := newMessage(typ)
		if _, unknown := m.(*Unknown); m != nil && !unknown && all[typ.String()] == nil {
			t.Errorf("%s has no vector", typ)
		}
	}
	for name, want := range all {
		raw := vector(t, name)
		got, _, err := Read(bytes.NewReader(raw), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(want, got, same()); d != "" {
			t.Errorf("%s: want - got +\n%s", name, d)
		}
		b, err := AppendFrame(nil, want)
		if err != nil || !bytes.Equal(b, raw) {
			t.Errorf("%s: encoded as\n%x, %v; want\n%x", name, b, err, raw)
		}
	}
}

// What a field was added to is still understood without it.
func TestOldVectors(t *testing.T) {
	want := vectors()["state"].(*State)
	want.Received = 0
	got, _, err := Read(bytes.NewReader(vector(t, "state-1")), nil)
	if d := cmp.Diff(Message(want), got, same()); err != nil || d != "" {
		t.Errorf("%v, want - got +\n%s", err, d)
	}
}

func TestDigestVectors(t *testing.T) {
	sa, p := vectorSA(), vectorPolicy()
	for name, got := range map[string]Sum{
		"digest-sa": SADigest(sa), "digest-sa-identity": SAKeyDigest(sa.Key),
		"digest-policy": PolicyDigest(p), "digest-policy-identity": PolicyKeyDigest(&p.Key),
	} {
		if want := vector(t, name); !bytes.Equal(got[:], want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
	sum := Sum{0, 0, 1, 2, 3, 4, 5, 6, 7}
	if sum.Bucket(256) != 2 || sum.Fold() != 0x0000010203040506 {
		t.Errorf("bucket %d, value %x", sum.Bucket(256), sum.Fold())
	}
}

// What moves by itself must not look like a difference; what decides how
// packets are treated must.
func TestDigestIsOverConfiguration(t *testing.T) {
	before := SADigest(vectorSA())
	moved := vectorSA()
	moved.Counters, moved.Age, moved.Used, moved.UseAge = sadb.Counters{OSeq: 1}, 5, false, 0
	moved.Tag, moved.Offloaded, moved.Dir = 9, true, sadb.DirIn
	if SADigest(moved) != before {
		t.Error("counters, ages or local fields change the digest")
	}
	for name, change := range map[string]func(*sadb.SA){
		"key":        func(s *sadb.SA) { s.AEAD.Key = sadb.NewSecret(sequence(0x41, 20)) },
		"window":     func(s *sadb.SA) { s.Window++ },
		"soft limit": func(s *sadb.SA) { s.Limits.SoftAdd-- },
		"mark":       func(s *sadb.SA) { s.Key.Mark.Mask = 0 },
		"cpu":        func(s *sadb.SA) { s.PCPU = nil },
		"encap":      func(s *sadb.SA) { s.Encap.DstPort++ },
		"attribute":  func(s *sadb.SA) { s.Unknown[0].Data[0]++ },
	} {
		s := vectorSA()
		if change(s); SADigest(s) == before {
			t.Errorf("%s does not change the digest", name)
		}
	}
	p, q := vectorPolicy(), vectorPolicy()
	if q.Use, q.Index = (sadb.Use{}), 9; PolicyDigest(p) != PolicyDigest(q) {
		t.Error("use or index changes the digest of a policy")
	}
	if q.Templates[0].Optional = false; PolicyDigest(p) == PolicyDigest(q) {
		t.Error("a template does not change the digest of a policy")
	}
}
