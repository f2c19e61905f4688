package xfrm

import (
	"testing"

	"sasyncd/sync/sadb"
)

func benchSA(b *testing.B, name string) (raw []byte, sa *sadb.SA, now int64) {
	b.Helper()
	for _, f := range fixtures(b, "sas.hex") {
		if f.name != name {
			continue
		}
		now := recordedAt(f.raw, saCurrent+16)
		sa, err := newDecoder(testName).sa(f.raw, now)
		if err != nil {
			b.Fatal(err)
		}
		return f.raw, sa, now
	}
	b.Fatalf("no fixture %s", name)
	return nil, nil, 0
}

func BenchmarkDecodeSA(b *testing.B) {
	for _, name := range []string{"gcm-esn-tunnel4", "cbc-sha256-tunnel6"} {
		b.Run(name, func(b *testing.B) {
			raw, _, now := benchSA(b, name)
			d := newDecoder(testName)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.sa(raw, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeSA(b *testing.B) {
	_, sa, now := benchSA(b, "gcm-esn-tunnel4")
	e := encoder{ifindex: testIndex}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.appendSA(buf, sa, tagSA, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeCounters(b *testing.B) {
	_, sa, now := benchSA(b, "gcm-esn-tunnel4")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendCounters(buf, sa, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePolicy(b *testing.B) {
	f := fixtures(b, "policies.hex")[0]
	now := recordedAt(f.raw, polCurrent+16)
	d := newDecoder(testName)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.policy(f.raw, now); err != nil {
			b.Fatal(err)
		}
	}
}
