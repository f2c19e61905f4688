package xfrm

import (
	"bytes"
	"hash/maphash"
	"slices"
	"testing"

	"sasyncd/sync/sadb"
)

func readOne(t testing.TB, s *scanner, raw []byte) (*sadb.Reading, *sadb.SA) {
	t.Helper()
	s.reset()
	if err := s.add(raw); err != nil {
		t.Fatal(err)
	}
	sa, err := s.sa(0)
	if err != nil {
		t.Fatal(err)
	}
	return &s.chunk.Readings[0], sa
}

// TestReadingsTellWhatDecodingTells: a reading has the counters of the whole SA,
// and of two SAs that differ in one byte the fingerprints are the same only if
// their configurations are. Were a change overlooked here, the engine would
// never hear of it.
func TestReadingsTellWhatDecodingTells(t *testing.T) {
	same, other := 0, 0
	for _, f := range fixtures(t, "sas.hex") {
		now := recordedAt(f.raw, saCurrent+16)
		s := &scanner{decoder: newDecoder(testName), seed: maphash.MakeSeed(), now: now}
		r, sa := readOne(t, s, f.raw)
		first := r.Config
		for at := range f.raw {
			raw := bytes.Clone(f.raw)
			raw[at] ^= 1
			if err := s.add(raw); err != nil {
				s.reset()
				continue // an address family that is none
			}
			r, changed := readOne(t, s, raw)
			if r.Key != changed.Key || r.OSeq != changed.OSeq || r.Seq != changed.Seq || !slices.Equal(r.Bitmap,
				changed.Bitmap) ||
				r.Bytes != changed.Bytes || r.Packets != changed.Packets || r.Age != changed.Age ||
				r.Used != changed.Used ||
				r.UseAge != changed.UseAge || r.Tag != changed.Tag || r.Encap != (changed.Encap != nil) {
				t.Fatalf("%s, byte %d: read %+v of %+v", f.name, at, r, changed)
			}
			// What has no configuration to compare (a larval SA) may do as it likes.
			switch alike := sadb.SameConfig(sa, changed) && sa.Offloaded == changed.Offloaded; {
			case !alike && r.Config == first && first != 0:
				t.Fatalf("%s, byte %d: the configuration differs, its fingerprint does not", f.name, at)
			case alike && r.Config == first:
				same++
			case alike:
				other++ // padding, what is told twice, or an interface
			}
		}
	}
	if same < 1000 {
		t.Errorf("of %d changes that are none of the configuration %d left the fingerprint alone", same+other, same)
	}
}

func TestInterfacesHaveNoFingerprint(t *testing.T) {
	raw := bytes.Clone(oneFixture(t, "sas.hex", "gcm-esn-tunnel4"))
	native.PutUint32(raw[selIfindex:], 7)
	s := &scanner{decoder: newDecoder(testName), seed: maphash.MakeSeed(), now: recordedAt(raw, saCurrent+16)}
	if r, _ := readOne(t, s, raw); r.Config != 0 {
		t.Errorf("an SA with an interface has fingerprint %d: its index may come to mean another", r.Config)
	}
}

// A reading of tables in which only counters move allocates nothing.
func TestScanningDoesNotAllocate(t *testing.T) {
	raw := oneFixture(t, "sas.hex", "gcm-esn-tunnel4")
	s := &scanner{decoder: newDecoder(testName), seed: maphash.MakeSeed(), now: recordedAt(raw, saCurrent+16)}
	if n := testing.AllocsPerRun(100, func() {
		s.reset()
		for range 90 {
			if err := s.add(raw); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkScanSA(b *testing.B) {
	raw := oneFixture(b, "sas.hex", "gcm-esn-tunnel4")
	s := &scanner{decoder: newDecoder(testName), seed: maphash.MakeSeed(), now: recordedAt(raw, saCurrent+16)}
	b.ReportAllocs()
	for b.Loop() {
		s.reset()
		if err := s.add(raw); err != nil {
			b.Fatal(err)
		}
	}
}
