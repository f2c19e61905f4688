// Package sadb holds what is replicated: security associations (SAs), policies
// (flows), their counters and keys, and the arithmetic that keeps a standby's
// counters ahead of the master's.
//
// It is the vocabulary that every other package speaks. The kernel package
// turns netlink messages into these types and back, the wire package turns
// them into records and back, and the engine compares them. The package
// imports the standard library only, does no I/O and reads no clock: ages are
// seconds relative to the moment at which a value was read, never dates, so
// that a step of the wall clock cannot expire an SA on another gateway.
//
// Selectors and addresses are kept as the kernel keeps them (family, bytes and
// prefix length). Nothing here guesses an address family from the bytes: an
// IPv6 prefix whose last bytes are zero stays IPv6.
package sadb
