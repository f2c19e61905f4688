package keying

import (
	"context"
	"net/netip"
	"slices"
)

// Driver speaks with one kind of IKE daemon. The Runner calls Passive and
// Active one at a time; Probe and Status may run beside them. All of them are
// idempotent: what is done already is not done again.
type Driver interface {
	// Name is the keyword of sasyncd.conf that selects the driver.
	Name() string
	Caps() Caps
	// Probe reports whether the daemon runs, and what in its configuration
	// would harm a failover. It changes nothing. ErrNotRunning if there is no
	// daemon.
	Probe(ctx context.Context, vips []netip.Addr) (Info, error)
	// Passive returns once the daemon can send no packet for an SA of its own,
	// without having told any peer. A daemon that is not running is passive.
	Passive(ctx context.Context, h PassiveOrder) error
	// Active negotiates what the plan asks for. The VIPs are up, and SAs,
	// policies and counters final. It returns when every tunnel is up or has
	// failed; progress is called from the same goroutine and may be nil.
	Active(ctx context.Context, p Plan, progress func(Outcome)) error
	// Watch tells what happens to the daemon until ctx ends, then closes the
	// channel; nil if the driver cannot know.
	Watch(ctx context.Context) <-chan Notice
}

// Caps are properties of an IKE daemon that others must take into account.
type Caps struct {
	// CountersOnly: the daemon replicates SAs itself, so that only counters
	// may be written on a standby, and no SA be added.
	CountersOnly bool
	// FlushesOnStart: its start may empty the kernel's table of SAs.
	FlushesOnStart bool
	// LoadsPolicies: it has policies in the kernel in any role, its own and not
	// those that are replicated.
	LoadsPolicies bool
	// ProcessWide: it has one role for the whole machine, so that two groups
	// cannot share it.
	ProcessWide bool
}

// PassiveOrder is the order to become passive.
type PassiveOrder struct {
	Term   uint64
	Reason string
	// Settled: the VIPs have gone. Before that, nothing may be done that
	// touches the kernel's SAs, which still carry traffic.
	Settled bool
	VIPs    []netip.Addr // of the group, wherever they are
}

// Plan is the order to become active.
type Plan struct {
	Term   uint64
	Reason string
	VIPs   []netip.Addr // sorted
	// PerRemote is how many negotiations with one remote address may be under
	// way at once; 0 means 2. Responders limit half-open IKE SAs per address.
	PerRemote int
}

// Equal reports whether two plans ask for the same.
func (p Plan) Equal(q Plan) bool {
	return p.Term == q.Term && p.PerRemote == q.PerRemote && slices.Equal(p.VIPs, q.VIPs)
}

// Has reports whether a is one of the plan's virtual IPs.
func (p Plan) Has(a netip.Addr) bool { return slices.Contains(p.VIPs, a.Unmap()) }

// Outcome counts the tunnels of a plan. Wanted is the sum of the others and of
// those whose turn has not come.
type Outcome struct {
	Wanted  int `json:"wanted"`
	Up      int `json:"up"`      // negotiated by this node
	Pending int `json:"pending"` // under way
	Failed  int `json:"failed"`
}

// Info is what a probe finds.
type Info struct {
	Version string `json:"version"`
	// IKESAs and Children count what the daemon has negotiated itself.
	IKESAs   int `json:"ike_sas"`
	Children int `json:"children"`
	// Stop is what a stop by the service manager does: StopKeeps, StopTears or StopAsIs.
	Stop string `json:"stop,omitempty"`
	Lint []Lint `json:"lint,omitempty"`
}

// Lint is a setting that would harm a failover.
type Lint struct {
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// NoticeKind says what happened to an IKE daemon.
type NoticeKind uint8

// Notices. Back comes for a daemon that is there when Watch begins, too.
const (
	NoticeLost  NoticeKind = iota + 1 // it has died or been stopped
	NoticeBack                        // it runs
	NoticeChild                       // an SA of its own came, went, or was rekeyed
)

// Notice is one thing that happened to an IKE daemon.
type Notice struct{ Kind NoticeKind }
