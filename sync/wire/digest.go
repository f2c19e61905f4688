package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"sasyncd/sync/sadb"
)

// Sum is a digest of an item or of an identity: the first 16 bytes of a
// SHA-256. It depends on key material and stays inside the channel.
type Sum [16]byte

// String returns the digest of an identity for logs. Digests of items are not
// for logs: they let a guess at a weak key be tested.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// Bucket returns the bucket of the item whose identity has this digest, of n
// buckets.
func (s Sum) Bucket(n int) int { return int(binary.BigEndian.Uint32(s[:4]) % uint32(n)) }

// Fold returns what an item with this digest adds to the sum of its bucket,
// modulo 2^64.
func (s Sum) Fold() uint64 { return binary.BigEndian.Uint64(s[:8]) }

// Domains keep the digests of different things apart.
const (
	domainSA        = "sasyncd sa\x00"
	domainSAKey     = "sasyncd sa identity\x00"
	domainPolicy    = "sasyncd policy\x00"
	domainPolicyKey = "sasyncd policy identity\x00"
)

// digestRoom holds a usual record without allocation.
const digestRoom = 512

// SADigest returns the digest of an SA's configuration: every replicated field
// but the counters, the bitmap, the ages and the judged direction. Soft limits
// are included as they are in s.
func SADigest(s *sadb.SA) Sum {
	var room [digestRoom]byte
	return digest(AppendSAConfig(append(room[:0], domainSA...), s))
}

// SAKeyDigest returns the digest of an SA's identity, which decides its bucket.
func SAKeyDigest(k sadb.SAKey) Sum {
	var room [digestRoom]byte
	return digest(AppendSAKey(append(room[:0], domainSAKey...), k))
}

// PolicyDigest returns the digest of a policy's configuration: every replicated
// field but its use.
func PolicyDigest(p *sadb.Policy) Sum {
	var room [digestRoom]byte
	return digest(appendPolicyConfig(append(room[:0], domainPolicy...), p))
}

// PolicyKeyDigest returns the digest of a policy's identity, which decides its
// bucket.
func PolicyKeyDigest(k *sadb.PolicyKey) Sum {
	var room [digestRoom]byte
	return digest(AppendPolicyKey(append(room[:0], domainPolicyKey...), k))
}

// digest overwrites b, which may hold keys.
func digest(b []byte) Sum {
	h := sha256.Sum256(b)
	clear(b)
	return Sum(h[:16])
}
