package conf

import (
	"net/netip"
	"time"
)

// Defaults of sasyncd.conf.
const (
	DefaultSyncPort       uint16 = 500
	DefaultReplayInterval        = time.Second
	DefaultMarginESN      uint64 = 67108864
	DefaultMargin32       uint64 = 1048576
	DefaultSasyncdSocket         = "/run/sasyncd/control.sock"
	DefaultCarpdSocket           = "/run/carpd/control.sock"
	DefaultSasyncdState          = "/var/lib/sasyncd"
	DefaultSasyncdMetrics uint16 = 9750
)

// Sasyncd is the content of sasyncd.conf, defaults filled in.
type Sasyncd struct {
	File string
	// Groups is one per `interface`, in the order of the file. With a locked
	// state and no interface there is one group without a name, which holds
	// the whole kernel.
	Groups []SyncGroup
	Peers  []Peer
	// Listen is empty for port 500 on all addresses of both families.
	Listen []Listen
	// Keys are the shared keys: the first is used, all are accepted.
	Keys      []Key
	FlushMode FlushMode
	// Lock, when not LockNone, fixes the state of all groups.
	Lock Lock
	// SkipSlave leaves out SAs and policies between the peers themselves.
	SkipSlave bool
	Tracker   Tracker
	// ReplayInterval is how often counters are read and sent, 50ms to 1m.
	ReplayInterval time.Duration
	// MarginESN and Margin32 are the smallest forward margins, in packets, of
	// 64-bit (ESN) and of 32-bit outbound counters, 1 to 2^31-1.
	MarginESN, Margin32 uint64
	// InboundAdvance, when set, advances inbound counters on a takeover instead
	// of accepting the window again.
	InboundAdvance bool
	// Fence: sasyncd keeps the fence itself. Only with trackers other than carpd.
	Fence bool
	// Guard is the leak guard: what keeps protected traffic from leaving in plaintext
	// while its policies are gone.
	Guard                         Guard
	Socket, CarpdSocket, StateDir string
	Metrics                       netip.AddrPort // invalid: off
	// MetricsConfig is the web configuration of that listener, "" for plain HTTP.
	MetricsConfig string
	// Warnings is what is allowed but probably not meant.
	Warnings []Error
	// Refused are the programs that will not be run, and why.
	Refused []Error
	// StaticFiles are those of `control static`, the included ones and those with
	// keys too, as LoadSasyncd has found them.
	StaticFiles []string

	inlineSecret Pos // the first key that stands in the file itself
}

// SyncGroup is one followed instance and what fails over with it.
type SyncGroup struct {
	Pos       Pos
	Interface string       // instance of carpd, or a network interface
	VIPs      []netip.Addr // in the order of the file
	// DemoteGroup is the carpd group to demote while not in sync; "" is the
	// group of the followed instance.
	DemoteGroup string
	Control     Control
}

// Peer is one other gateway.
type Peer struct {
	Pos   Pos
	Hosts []Host // links to the same peer, the first is preferred
	Port  uint16
	// Discover: it tells which other members of the key there are.
	Discover bool
}

// Listen is one place to listen on.
type Listen struct {
	Pos       Pos
	Addr      netip.Addr // valid, or
	Interface string     // all addresses of this interface
	Family    Family     // FamilyAny with Addr :: is both families
	Port      uint16
}

// Family restricts addresses to one family.
type Family uint8

// Families, as `inet` and `inet6` in the file.
const (
	FamilyAny Family = iota
	FamilyIPv4
	FamilyIPv6
)

// String returns the keyword of the family.
func (f Family) String() string { return [...]string{"any", "inet", "inet6"}[f] }

// FlushMode says what becomes of flushes and of what a snapshot lacks.
type FlushMode string

// Flush modes.
const (
	FlushStartup FlushMode = "startup" // sweep after a snapshot, forward flushes
	FlushSync    FlushMode = "sync"    // forward flushes, no sweep
	FlushNever   FlushMode = "never"   // neither
)

// Guard says what the leak guard is made of.
type Guard string

// Leak guards.
const (
	GuardAuto     Guard = "auto" // the table where the kernel can have it, else nothing
	GuardNo       Guard = "no"
	GuardYes      Guard = "yes"      // both, the routes alone where the kernel cannot have the table
	GuardRoutes   Guard = "routes"   // routes to a device that drops
	GuardNFTables Guard = "nftables" // a table of nf_tables
)

// Lock is a state that does not follow the elector.
type Lock string

// Locks.
const (
	LockNone   Lock = ""
	LockMaster Lock = "master"
	LockSlave  Lock = "slave"
)

// Control is the IKE daemon to switch between active and passive.
type Control struct {
	Pos  Pos
	Kind ControlKind
	Path string // of exec and static
	// Where the IKE daemon is, if not where distributions keep it: its control socket
	// (strongSwan, OpenIKED), PID file (libreswan) or FIFO (isakmpd).
	At       string
	FIFO     string // of strongSwan's ha plugin
	Settings string // swanctl.conf
}

// ControlKind is the kind of the IKE daemon.
type ControlKind string

// Kinds of control.
const (
	ControlAuto         ControlKind = "auto" // the one running, else none
	ControlNone         ControlKind = "none"
	ControlIsakmpd      ControlKind = "isakmpd"
	ControlIked         ControlKind = "iked"
	ControlAll          ControlKind = "all" // isakmpd and iked
	ControlStrongswan   ControlKind = "strongswan"
	ControlStrongswanHA ControlKind = "strongswan-ha"
	ControlLibreswan    ControlKind = "libreswan"
	ControlExec         ControlKind = "exec"
	ControlStatic       ControlKind = "static" // no daemon: SAs and policies from a file
)

// ProcessWide reports whether the driver switches a whole IKE daemon, so that
// two groups with masters of their own cannot share it.
func (c Control) ProcessWide() bool {
	return c.Kind != ControlNone && c.Kind != ControlExec && c.Kind != ControlStatic
}

// overlaps reports whether two groups would switch the same IKE daemon.
func (c Control) overlaps(o Control) bool {
	if c.Kind == ControlStatic && o.Kind == ControlStatic {
		return true // bypass and deny flows belong to no group, so each would remove the other's
	}
	if !c.ProcessWide() || !o.ProcessWide() {
		return false
	}
	several := func(k ControlKind) bool { return k == ControlAuto || k == ControlAll }
	charon := func(k ControlKind) bool { return k == ControlStrongswan || k == ControlStrongswanHA }
	return c.Kind == o.Kind || several(c.Kind) || several(o.Kind) || charon(c.Kind) && charon(o.Kind)
}

// Tracker is where the role comes from.
type Tracker struct {
	Pos  Pos
	Kind TrackerKind
	Path string // of keepalived: its notify FIFO
}

// TrackerKind is the kind of a tracker.
type TrackerKind string

// Kinds of trackers.
const (
	TrackCarpd      TrackerKind = "carpd"
	TrackLink       TrackerKind = "link"    // interface up: master
	TrackAddress    TrackerKind = "address" // the group's VIPs present: master
	TrackKeepalived TrackerKind = "keepalived"
)
