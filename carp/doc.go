// Package carp elects a master among gateways that share virtual addresses.
//
// It holds the part that decides: a machine per virtual router (Router, one
// per instance and address family) and above it a machine per group (Group),
// because the inside and the outside address of a gateway are of use only
// together. Both are pure. They take events and the time, return actions, and
// name the time at which they want to be called again; sockets, clocks,
// addresses and clients are at the edges, in carp/engine, carp/vip and
// carp/api. That is what lets a simulation run thousands of elections under
// loss and restart in virtual time.
//
// Times are readings of one monotonic clock that counts suspend too
// (CLOCK_BOOTTIME), as durations since its start.
//
// A group is MASTER only when all of its routers are, and takes its addresses
// in this order: advertise, ask the clients to prepare, addresses, fence off,
// announce, tell. A loss runs the other way: fence, addresses off, tell the
// peers to take over, tell the clients. The fence is set whenever the group is
// not MASTER; it silences the virtual addresses while the kernel already holds
// all SAs and policies.
//
// Sources: RFC 9568 with errata 7947, 7949, 8298 to 8301 for VRRPv3, RFC 3768
// for VRRPv2, carp(4) of OpenBSD and of FreeBSD and ucarp(8) for CARP. Where a
// group binds routers together they say nothing. OpenBSD's carp takes over when
// it misses the advertisements of either address family; here each family is a
// router, so both must be missed.
package carp

import (
	"math"
	"time"
)

// Never is a deadline that does not come.
const Never = time.Duration(math.MaxInt64)
