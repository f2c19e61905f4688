package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Config is what the engine must know. It is not changed after New.
type Config struct {
	Node  wire.NodeID
	Nonce uint64 // of this process
	// Kernel and BigEndian are what this node's Hello says of its kernel.
	Kernel    string
	BigEndian bool
	// Features are those of this node's kernel; nil for all.
	Features *sadb.Features
	// Peers is how many members the configuration names; without hearing all
	// of them a node cannot know that nobody holds more than it does.
	Peers int
	// Expect, where members are found while running, returns their number instead of
	// Peers. It must not block.
	Expect func() int
	Groups []GroupConfig
	Margin sadb.Margin
	// Interval is how often the master reads counters, Audit how often a
	// standby checks its kernel against what was published.
	Interval, Audit time.Duration
	// Sweep says whether the end of a snapshot deletes what it did not name
	// (`flushmode startup`).
	Sweep bool
	// ForwardFlush says whether a flush of the master's tables reaches the
	// standbys (all flush modes but `never`).
	ForwardFlush bool
	// Advance raises a standby's inbound counters to what the master has
	// probably received since its last report (`replay inbound advance`). It
	// closes most of the gap in which packets captured before a takeover could
	// be replayed, at the price of refusing some when traffic slows down.
	Advance bool
	// Terms remembers the highest term of each group over a restart; nil for
	// no memory.
	Terms Terms
	// Failovers remembers what the failovers were like; nil for no memory.
	Failovers Failovers
	// Skip are the peers' own addresses in `mode skipslave`.
	Skip []netip.Addr
	// Bypass keeps this node's own addresses inside reachable while it is
	// BACKUP of the groups with these virtual IPs, and undoes that without
	// any. It is called after each reading of the kernel with the policies
	// found; nil for nothing.
	Bypass func(ctx context.Context, vips []netip.Addr, policies []*sadb.Policy) error
	// Fence silences the virtual IPs of a group whose elector died while this
	// node was MASTER: nobody else on this machine would, and another node is
	// about to take over. nil leaves it to the elector.
	Fence func(ctx context.Context, vips []netip.Addr) error
	// Imported reports whether sasyncd has installed an SA, in this process's
	// life or before. As MASTER no others are touched. nil: this process knows.
	Imported func(*sadb.SA) bool
	// Keying switches the IKE daemons; nil leaves them alone.
	Keying Keying
	// Hints returns what members without a session are said to be in a group; nil for
	// no hints. It must not block. See hinted for what comes of them.
	Hints func(group string) []Hint
	// Wall reads the wall clock, to notice its steps; nil for time.Now.
	Wall func() time.Time
	Log  *slog.Logger
}

// Terms is a memory of the highest term of each group.
type Terms interface {
	Term(group string) uint64
	SetTerm(group string, term uint64)
}

// GroupConfig names a group.
type GroupConfig struct {
	Name string
	// Whole takes in the whole kernel instead of what ends on a virtual IP.
	Whole bool
	// CountersOnly: the group's IKE daemon replicates SAs and policies itself,
	// so that a standby writes nothing but counters.
	CountersOnly bool
}
