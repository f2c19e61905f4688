package xfrm

import (
	"hash/maphash"
	"slices"
	"testing"
)

// FuzzReading: what a glance at an SA tells is what decoding it tells.
func FuzzReading(f *testing.F) {
	for _, x := range fixtures(f, "sas.hex") {
		f.Add(x.raw, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, raw []byte, now int64) {
		s := &scanner{decoder: newDecoder(testName), seed: maphash.MakeSeed(), now: now}
		if s.add(raw) != nil {
			if len(s.chunk.Readings) != 0 {
				t.Error("a reading of what was refused")
			}
			return
		}
		sa, err := s.sa(0)
		if err != nil {
			return
		}
		r := &s.chunk.Readings[0]
		if r.Key != sa.Key || r.OSeq != sa.OSeq || r.Seq != sa.Seq || !slices.Equal(r.Bitmap, sa.Bitmap) ||
			r.Bytes != sa.Bytes ||
			r.Packets != sa.Packets || r.Age != sa.Age || r.Used != sa.Used || r.UseAge != sa.UseAge ||
			r.Tag != sa.Tag || r.Encap != (sa.Encap != nil) {
			t.Errorf("read %+v of %+v", r, sa)
		}
	})
}

func FuzzErrorCounts(f *testing.F) {
	f.Add("XfrmInError             \t0\nXfrmInStateSeqError     \t18446744073709551615\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseErrorCounts(text)
		if err == nil && text != "" && len(list) == 0 {
			t.Errorf("%q holds nothing", text)
		}
	})
}

func FuzzReadPolicies(f *testing.F) {
	for _, x := range fixtures(f, "policies.hex") {
		f.Add(x.raw)
	}
	f.Fuzz(func(_ *testing.T, payload []byte) {
		_ = encrypts(newDecoder(testName), payload, nil)
		_ = decodeSPDInfo(new(SPDInfo), payload)
	})
}
