package sadb

// Block is an SA together with what nearly every SA points to but its key, in one
// allocation of 472 bytes: gateways hold tens of thousands, and most are of one
// algorithm (AEAD) with a window of at most 128 packets. What does not fit is
// allocated beside it. The decoders fill it; it lives as long as anything that was
// taken from it.
type Block struct {
	SA SA

	alg     Algorithm
	words   [4]uint32
	algUsed bool
}

// Algorithm returns room for one more algorithm.
func (b *Block) Algorithm() *Algorithm {
	if b.algUsed {
		return new(Algorithm)
	}
	b.algUsed = true
	return &b.alg
}

// Words returns room for a bitmap of n words, once.
func (b *Block) Words(n int) []uint32 {
	if n > len(b.words) {
		return make([]uint32, n)
	}
	return b.words[:n:n]
}
