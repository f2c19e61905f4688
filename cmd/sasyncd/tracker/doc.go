// Package tracker follows elections other than carpd's: the state of an
// interface, the presence of addresses, keepalived's notifications. It is the
// elector of the engine then, and keeps the fence where carpd would.
//
// Such an election cannot be asked for anything: not to wait until the kernel
// is prepared, not to resign. What is left is the order of things on this node
// (machine.go), and the fence.
package tracker

import (
	"context"
	"net/netip"
	"time"

	"sasyncd/kernel/link"
)

// Group is a set of virtual addresses that moves together.
type Group struct {
	Name string // interface, or instance or group of keepalived
	VIPs []netip.Addr
}

// Observation is what a tracker sees of one group.
type Observation struct {
	Master   bool
	Reason   string // for people
	Standing Standing
}

// Standing is what is known of the program that elects, on this node.
type Standing uint8

// Standings. The zero value is that of a tracker that sees results only.
const (
	StandingHidden Standing = iota // whether it is alive cannot be seen
	StandingSilent                 // it is alive, and has not told its state
	StandingAble                   // it takes part in the election
	StandingUnable                 // it is alive and would not become master, see Reason
	StandingGone                   // it is not there
)

// String names the standing for the report to the peers.
func (s Standing) String() string {
	return [...]string{"hidden", "silent", "able", "unable", "gone"}[s]
}

// Source is a tracker.
type Source interface {
	// Follow calls see with each group's state, at first and after changes,
	// until ctx ends. A state told twice does no harm.
	Follow(ctx context.Context, see func(group string, s Observation)) error
}

// Fence silences virtual addresses. rules.Fence is one.
type Fence interface {
	Set(vips ...netip.Addr) error
	Clear(link int, vips ...netip.Addr) error
	RenewFor(lifetime time.Duration) error
}

// Interfaces is what trackers need of the kernel. link.Table is one.
type Interfaces interface {
	Addrs(ctx context.Context) ([]link.Address, error)
	Links(ctx context.Context) ([]link.Link, error)
	// Watch says when one of the others may answer differently.
	Watch(ctx context.Context) (<-chan struct{}, error)
}
