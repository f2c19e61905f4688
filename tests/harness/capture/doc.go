// Package capture reads packets off the cables of a [lab] and judges them: no
// ESP sequence number twice, nothing in plaintext.
//
// It listens on bridge ports in the fabric namespace and takes the frames that
// arrive there, so every frame is seen once, at the port of the node that sent
// it, and before a blocked direction drops it. A node's own interface would
// also show decapsulated packets.
//
// Frames come through a memory-mapped ring; should the kernel drop any, the
// capture fails the test, because what it did not see it cannot vouch for.
package capture
