// Package bfd is Bidirectional Forwarding Detection without I/O: the control
// packet of RFC 5880 section 4.1, and the state machine of one session in
// asynchronous mode (section 6.8). Demand mode is honoured when the neighbor asks
// for it, and never asked for. There is no echo function and no authentication:
// [Decode] refuses packets that are authenticated.
//
// Package track runs sessions over single hops (RFC 5881). It is for that package
// to check that a packet has travelled a single hop, and that it is from the
// neighbor.
package bfd
