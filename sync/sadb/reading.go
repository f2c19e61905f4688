package sadb

// Reading is what a glance at one SA in the kernel's tables tells: its identity
// and what packets move. Everything else is behind a fingerprint. A reading of
// all tables comes every second, and nearly always nothing but counters has
// changed.
type Reading struct {
	Key SAKey
	// Config is a fingerprint of everything but Counters, Age, Used, UseAge and
	// Tag. Two readings by one process of the same fingerprint are of the same
	// configuration; two of different ones need not differ. It is 0 where
	// it cannot be told, and then equals nothing.
	Config uint64
	Counters
	Age, UseAge uint64
	Used        bool
	Encap       bool // for NAT traversal
	Tag         uint32
}

// Chunk is a part of a reading of the tables, valid only until the function
// that it was handed to returns.
type Chunk struct {
	Readings []Reading
	// SA decodes the whole of one, of which the caller may keep and change the
	// result.
	SA func(i int) (*SA, error)
}

// Moved reports whether counters differ, whatever the bitmap.
func (c *Counters) Moved(o *Counters) bool {
	return c.OSeq != o.OSeq || c.Seq != o.Seq || c.Bytes != o.Bytes || c.Packets != o.Packets
}
