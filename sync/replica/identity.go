package replica

import (
	"hash/maphash"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// coreOf tells configurations apart as CoreDigest does, within this process and
// at a fraction of the cost.
func coreOf(sa *sadb.SA) uint64 {
	c := *sa
	c.Limits = sadb.Limits{}
	var room [512]byte
	b := wire.AppendSAConfig(room[:0], &c)
	defer clear(b) // keys
	return maphash.Bytes(keySeed, b)
}

// limitsOf tells limits apart.
func limitsOf(l sadb.Limits) uint64 { return maphash.Comparable(keySeed, l) }

// CoreDigest is the digest of an SA's configuration without its limits, which
// a standby changes on purpose and which the kernel can update in place, and
// without its direction, which the kernel need not know.
func CoreDigest(sa *sadb.SA) wire.Sum {
	c := *sa
	c.Limits, c.Dir = sadb.Limits{}, sadb.DirUnknown
	return wire.SADigest(&c)
}

// PolicyDigest is the digest of a policy without its limits.
func PolicyDigest(p *sadb.Policy) wire.Sum {
	c := *p
	c.Limits = sadb.Limits{}
	return wire.PolicyDigest(&c)
}

func asHave(sa *sadb.SA) haveSA {
	return haveSA{core: coreOf(sa), limits: limitsOf(sa.Limits), keys: keysOf(sa), oseq: sa.OSeq, seq: sa.Seq,
		inbound: sa.Dir == sadb.DirIn}
}

// keySeed makes keysOf, coreOf and limitsOf worthless outside this process.
var keySeed = maphash.MakeSeed()

// keysOf tells SAs with different key material apart. Two of one identity with
// the same keys share one space of sequence numbers.
func keysOf(sa *sadb.SA) uint64 {
	var h maphash.Hash
	h.SetSeed(keySeed)
	for _, a := range []*sadb.Algorithm{sa.Auth, sa.Crypt, sa.AEAD, sa.Comp} {
		if a != nil {
			h.WriteString(a.Name)
			h.Write(a.Key.Bytes())
		}
		h.WriteByte(0)
	}
	return h.Sum64()
}
