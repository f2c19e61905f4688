package xfrm

import (
	"bytes"
	"testing"

	"sasyncd/kernel/netlink"
)

// What the kernel says is trusted, but a decoder that can be made to panic or
// to read beyond its input is one system update away from doing it.

func FuzzDecodeSA(f *testing.F) {
	for _, x := range fixtures(f, "sas.hex") {
		f.Add(x.raw, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, raw []byte, now int64) {
		sa, err := newDecoder(testName).sa(raw, now)
		if err != nil {
			return
		}
		e := encoder{ifindex: testIndex}
		once, err := e.appendSA(nil, sa, 1, now)
		if err != nil {
			return
		}
		again, err := newDecoder(testName).sa(once, now)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		again.Bytes, again.Packets, again.Age, again.Used, again.UseAge = sa.Bytes, sa.Packets, sa.Age, sa.Used,
			sa.UseAge
		twice, err := e.appendSA(nil, again, 1, now)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("encoded\n%x, then\n%x", once, twice)
		}
	})
}

func FuzzDecodePolicy(f *testing.F) {
	for _, x := range fixtures(f, "policies.hex") {
		f.Add(x.raw, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, raw []byte, now int64) {
		p, err := newDecoder(testName).policy(raw, now)
		if err != nil {
			return
		}
		e := encoder{ifindex: testIndex}
		once, err := e.appendPolicy(nil, p, 8)
		if err != nil {
			return
		}
		again, err := newDecoder(testName).policy(once, now)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		twice, err := e.appendPolicy(nil, again, 8)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("encoded\n%x, then (%v)\n%x", once, err, twice)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	for _, x := range fixtures(f, "sas.hex")[:5] {
		for _, typ := range []uint16{msgNewSA, msgDelSA, msgExpire, msgMapping} {
			f.Add(typ, x.raw)
		}
	}
	for _, x := range fixtures(f, "policies.hex")[:5] {
		for _, typ := range []uint16{msgNewPolicy, msgDelPolicy, msgPolExpire, msgFlushPolicy, msgFlushSA} {
			f.Add(typ, x.raw)
		}
	}
	f.Fuzz(func(t *testing.T, typ uint16, payload []byte) {
		ev, ok, err := newDecoder(testName).event(netlink.Message{Type: typ, Payload: payload}, 1, 1_800_000_000)
		if ok && err == nil && ev.Kind == 0 {
			t.Error("an event without kind")
		}
	})
}
