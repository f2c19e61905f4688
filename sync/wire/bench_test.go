package wire

import (
	"testing"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

func benchSAs() (out []*sadb.SA) {
	r := sadbtest.NewRand(1)
	for range 256 {
		out = append(out, sadbtest.SA(r))
	}
	return out
}

func benchBatch() *Batch {
	m := &Batch{Stream: 1, First: 1}
	for i, s := range benchSAs() {
		m.Records = append(m.Records, Record{Kind: PutSA, Handle: uint32(i), SA: s})
	}
	return m
}

// Encoding into a buffer that is large enough allocates nothing.
func TestEncodingDoesNotAllocate(t *testing.T) {
	r := sadbtest.NewRand(2)
	batch, policy := benchBatch(), sadbtest.Policy(r)
	counters := &Counters{Entries: make([]CounterEntry, 100)}
	for i := range counters.Entries {
		counters.Entries[i] = CounterEntry{Handle: uint32(i), OSeq: r.Uint64()}
	}
	state := &State{randomGroup(r)}
	buf := make([]byte, 0, MaxFrame)
	for name, f := range map[string]func(){
		"batch":    func() { buf, _ = AppendFrame(buf[:0], batch) },
		"counters": func() { buf, _ = AppendFrame(buf[:0], counters) },
		"state":    func() { buf, _ = AppendFrame(buf[:0], state) },
		"policy":   func() { buf = AppendPolicy(buf[:0], policy) },
		"digest":   func() { SADigest(batch.Records[0].SA) },
	} {
		if n := testing.AllocsPerRun(10, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkEncodeSA(b *testing.B) {
	sas := benchSAs()
	buf := make([]byte, 0, MaxRecord)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = AppendSA(buf[:0], sas[i%len(sas)])
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeSA(b *testing.B) {
	var raw [][]byte
	for _, s := range benchSAs() {
		raw = append(raw, AppendSA(nil, s))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := ParseSA(raw[i%len(raw)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeBatch256(b *testing.B) {
	m := benchBatch()
	buf := make([]byte, 0, MaxFrame)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = AppendFrame(buf[:0], m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeBatch256(b *testing.B) {
	buf, err := AppendFrame(nil, benchBatch())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(TypeBatch, buf[HeaderLen:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigestSA(b *testing.B) {
	sas := benchSAs()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		SADigest(sas[i%len(sas)])
	}
}
