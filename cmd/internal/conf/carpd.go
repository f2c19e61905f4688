package conf

import (
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/sadb"
)

// Defaults of carpd.conf.
const (
	DefaultGroup                = "carp"
	DefaultVRRP3Interval        = 250 * time.Millisecond
	DefaultVRRP2Interval        = time.Second
	DefaultPriority       uint8 = 100
	DefaultAdvBase        uint8 = 1
	DefaultAloneAfter           = 10 * time.Second
	DefaultPrepareTimeout       = 2 * time.Second
	DefaultTrackInterval        = time.Second
	DefaultTrackTimeout         = time.Second
	DefaultTrackFail      uint8 = 3
	DefaultBFDInterval          = 300 * time.Millisecond
	DefaultBFDMultiplier  uint8 = 3
	DefaultCarpdState           = "/var/lib/carpd"

	DefaultCarpdMetrics uint16 = 9751

	// Never is AloneAfter for `alone after never`.
	Never = time.Duration(-1)
)

const (
	maxAddresses   = 255 // their count is one byte of a VRRP advertisement
	maxPassCARP    = 19  // OpenBSD and ucarp
	maxPassCARPBSD = 20  // FreeBSD
)

// Carpd is the content of carpd.conf, defaults filled in.
type Carpd struct {
	File string
	// Groups are those of the file in its order, and behind them the group
	// `carp` with its defaults if an instance or a track uses it undeclared.
	Groups    []Group
	Instances []Instance // in the order of the file
	Tracks    []Track
	Socket    string
	StateDir  string
	Metrics   netip.AddrPort // invalid: off
	// MetricsConfig is the web configuration of that listener, "" for plain HTTP.
	MetricsConfig string
	// Warnings is what is allowed but probably not meant.
	Warnings []Error
	// Refused are the programs that will not be run, and why.
	Refused []Error

	inlineSecret Pos // the first password or key that stands in the file itself
}

// Group is a set of instances that are MASTER together or not at all.
type Group struct {
	Pos          Pos
	Name         string
	Preempt      Preempt
	PreemptDelay time.Duration // before preempting
	// DemoteAtStart is the demotion from the start of carpd until the group is
	// ready, 0 to 255. Default 1 with RequireSasyncd, else 0.
	DemoteAtStart uint8
	// StartHold is how long carpd only listens after its start.
	StartHold time.Duration
	// RequireSasyncd: no mastership without a live sasyncd that is in sync.
	RequireSasyncd bool
	// RequireFence: nor without somebody who silences a master that is not heard.
	RequireFence bool
	// AloneAfter is how long a node that is not in sync must have been without
	// a reachable better member before it takes the addresses, or Never.
	AloneAfter time.Duration
	// PrepareTimeout is how long sasyncd may take to prepare a takeover.
	PrepareTimeout time.Duration
	WhenSplit      WhenSplit
	Witness        []netip.Addr // of SplitWitness
}

// Preempt says whether a better node takes over from a working master.
type Preempt string

// Values of preempt. PreemptDefault, of an instance, is the value of its group.
const (
	PreemptDefault Preempt = ""
	PreemptNo      Preempt = "no"
	PreemptYes     Preempt = "yes"
	PreemptInSync  Preempt = "in-sync" // yes, but only when in sync
)

// WhenSplit says who stays master when the members cannot see each other.
type WhenSplit string

// Values of when-split.
const (
	SplitContinue      WhenSplit = "continue"
	SplitPreferTraffic WhenSplit = "prefer-traffic"
	SplitWitness       WhenSplit = "witness"
)

// Instance is one carp or vrrp block.
type Instance struct {
	Pos       Pos
	Name      string
	Device    string // carpdev
	Group     string
	Addresses []netip.Prefix // in the order of the file; not masked
	// VirtualMAC: the addresses live on the protocol's MAC, else on the device's.
	VirtualMAC bool
	Lease      Lease
	Preempt    Preempt
	Keys       []AuthKey // the first signs, all verify
	Auth       Auth
	Hops       uint8 // unicast: routers that may be between the members, 0 to 254
	CARP       *CARP // exactly one of CARP and VRRP is set
	VRRP       *VRRP
}

// CARP is what only a carp block has.
type CARP struct {
	VHID             uint8 // 1 to 255
	AdvBase, AdvSkew uint8 // seconds and 1/256 seconds, 0 to 254
	Pass             sadb.Secret
	Peers            []netip.Addr // empty: multicast
	Dialect          Dialect
}

// VRRP is what only a vrrp block has.
type VRRP struct {
	Version  uint8 // 2 or 3
	VRID     uint8 // 1 to 255
	Priority uint8 // 1 to 255; 255 is the owner of the addresses
	// Interval: version 3 10ms to 40.95s in steps of 10ms, version 2 1s to
	// 255s in steps of 1s.
	Interval time.Duration
	Unicast  []netip.Addr // empty: multicast
	Pass     sadb.Secret  // version 2: simple password, at most 8 bytes
	Checksum Checksum
	Accept   bool // accept packets to the addresses while master
}

// Dialect is how demotion travels in CARP.
type Dialect string

// Dialects of CARP.
const (
	DialectOpenBSD Dialect = "openbsd" // in byte 4
	DialectFreeBSD Dialect = "freebsd" // folded into advskew
)

// Checksum is the form of the VRRPv3 checksum over IPv4 that is sent.
type Checksum string

// Checksum forms.
const (
	ChecksumAuto    Checksum = "auto"    // as the peer does, pseudo until one is heard
	ChecksumPseudo  Checksum = "pseudo"  // with pseudo-header
	ChecksumMessage Checksum = "message" // message only (RFC 9568 5.2.8)
)

// Lease is what takes the addresses off a node whose carpd stopped.
type Lease string

// Leases.
const (
	LeaseAuto     Lease = "auto"     // the kernel's address lifetime
	LeaseNftables Lease = "nftables" // and an nftables set for sub-second timers
)

// Auth is how strictly the HMAC trailer is demanded.
type Auth string

// Values of auth. AuthNone is used without keys.
const (
	AuthNone        Auth = ""
	AuthReceiveOnly Auth = "receive-only" // verify what is signed, do not sign
	AuthPermissive  Auth = "permissive"   // sign, accept unsigned
	AuthEnforce     Auth = "enforce"      // sign, demand
)

// AuthKey is one key of the HMAC trailer.
type AuthKey struct {
	Pos    Pos
	ID     uint8
	Secret sadb.Secret // 32 to 64 bytes
	File   string      // where it was read from; "" when it stands in the configuration
	Text   bool        // written in characters
}

// Track demotes a group while something is wrong.
type Track struct {
	Pos      Pos
	Kind     TrackKind
	Target   string // interface, path, or command
	Addr     netip.Addr
	Group    string
	Demote   uint8 // 1 to 255; of a file: while it exists but holds no number
	Interval time.Duration
	Timeout  time.Duration
	Fail     uint8 // of an address: unanswered requests in a row

	// Of BFD. Tracks of several groups with the same Addr and Interface are one
	// session, and have the same interval, multiplier and source.
	Multiplier uint8      // packets missed in a row, 1 to 255
	Interface  string     // required where Addr is link-local, else "" is any
	Source     netip.Addr // invalid: what the kernel chooses
}

// TrackKind is what is tracked.
type TrackKind string

// Kinds of tracks.
const (
	TrackIfLink TrackKind = "link"    // demote while the interface has no carrier
	TrackFile   TrackKind = "file"    // demote by the number in the file
	TrackExec   TrackKind = "exec"    // demote while the command fails
	TrackAddr   TrackKind = "address" // demote while the address does not answer
	TrackBFD    TrackKind = "bfd"     // demote while the BFD session with the address is not Up
)

// Router is one virtual router of an instance: election runs per address family.
type Router struct {
	IPv6      bool
	Addresses []netip.Prefix // of an IPv6 VRRP router the first is link-local (RFC 9568 5.2.9)
	Unicast   []netip.Addr
}

// Routers returns the virtual routers of an instance, IPv4 first. A VRRP router
// for IPv6 without a link-local address gets the one that the VRID's MAC
// implies, so all members derive the same.
func (i *Instance) Routers() []Router {
	var out []Router
	for _, v6 := range []bool{false, true} {
		r := Router{IPv6: v6}
		var local []netip.Prefix
		for _, a := range i.Addresses {
			switch {
			case a.Addr().Is6() != v6:
			case v6 && a.Addr().IsLinkLocalUnicast():
				local = append(local, a)
			default:
				r.Addresses = append(r.Addresses, a)
			}
		}
		if v6 && i.VRRP != nil && len(local) == 0 && len(r.Addresses) > 0 {
			local = []netip.Prefix{netip.PrefixFrom(LinkLocalOf(i.VRRP.VRID), 128)}
		}
		r.Addresses = slices.Concat(local, r.Addresses)
		if len(r.Addresses) == 0 {
			continue
		}
		for _, u := range i.peers() {
			if u.Is6() == v6 {
				r.Unicast = append(r.Unicast, u)
			}
		}
		out = append(out, r)
	}
	return out
}

func (i *Instance) peers() []netip.Addr {
	if i.CARP != nil {
		return i.CARP.Peers
	}
	return i.VRRP.Unicast
}

// LinkLocalOf returns the IPv6 link-local address of the virtual MAC
// 00-00-5E-00-02-VRID (RFC 9568 7.3 and RFC 4291 appendix A).
func LinkLocalOf(vrid uint8) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: 0x02, 10: 0x5e, 11: 0xff, 12: 0xfe, 14: 0x02, 15: vrid})
}

// Detection returns how long a silent master stays unnoticed at the least: three
// intervals, without the skew that differs from node to node.
func (i *Instance) Detection() time.Duration {
	switch {
	case i.VRRP != nil:
		return 3 * i.VRRP.Interval
	case i.CARP.AdvBase > 0:
		return 3 * time.Duration(i.CARP.AdvBase) * time.Second
	}
	return 3 * time.Duration(max(1, i.CARP.AdvSkew)) * time.Second / 256
}
