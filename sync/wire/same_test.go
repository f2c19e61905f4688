package wire

import (
	"testing"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

// TestSameConfigIsDigest: sadb.SameConfig and the digest must agree, or a change
// would be published by the one and not seen by the other.
func TestSameConfigIsDigest(t *testing.T) {
	for seed := range uint64(3000) {
		a, b := sadbtest.AnySA(sadbtest.NewRand(seed)), sadbtest.AnySA(sadbtest.NewRand(seed))
		if !sadb.SameConfig(a, b) || SADigest(a) != SADigest(b) {
			t.Fatalf("seed %d: an SA is not the same as itself", seed)
		}
		r := sadbtest.NewRand(seed + 1<<32)
		other := sadbtest.AnySA(r)
		// One field of another SA's, which may be the same by chance.
		for i, set := range []func(*sadb.SA){
			func(s *sadb.SA) { s.Key.SPI = other.Key.SPI }, func(s *sadb.SA) { s.Key.Mark = other.Key.Mark },
			func(s *sadb.SA) { s.Src = other.Src }, func(s *sadb.SA) { s.Selector = other.Selector },
			func(s *sadb.SA) { s.Mode = other.Mode }, func(s *sadb.SA) { s.Reqid = other.Reqid },
			func(s *sadb.SA) { s.Flags = other.Flags }, func(s *sadb.SA) { s.Extra = other.Extra },
			func(s *sadb.SA) { s.Auth = other.Auth }, func(s *sadb.SA) { s.Crypt = other.Crypt },
			func(s *sadb.SA) { s.AEAD = other.AEAD }, func(s *sadb.SA) { s.Comp = other.Comp },
			func(s *sadb.SA) { s.Encap = other.Encap }, func(s *sadb.SA) { s.OutputMark = other.OutputMark },
			func(s *sadb.SA) { s.IfID = other.IfID }, func(s *sadb.SA) { s.TFCPad = other.TFCPad },
			func(s *sadb.SA) { s.KernelDir = other.KernelDir }, func(s *sadb.SA) { s.PCPU = other.PCPU },
			func(s *sadb.SA) { s.MappingTimer = other.MappingTimer },
			func(s *sadb.SA) { s.Keepalive = other.Keepalive },
			func(s *sadb.SA) { s.Window = other.Window }, func(s *sadb.SA) { s.BitmapLen = other.BitmapLen },
			func(s *sadb.SA) { s.Limits = other.Limits }, func(s *sadb.SA) { s.Unknown = other.Unknown },
			func(s *sadb.SA) { s.Counters, s.Age, s.Used, s.UseAge, s.Dir = other.Counters, 1, true, 2, other.Dir },
		} {
			c := *a
			set(&c)
			if same, digests := sadb.SameConfig(a, &c), SADigest(a) == SADigest(&c); same != digests {
				t.Fatalf("seed %d, field %d: SameConfig says %v, the digests %v", seed, i, same, digests)
			}
		}
	}
}
