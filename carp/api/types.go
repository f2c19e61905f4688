package api

import (
	"net/netip"
	"slices"
	"time"
)

// Request is what a client sends. Which fields count depends on Verb.
type Request struct {
	ID        uint64    `json:"id"`
	Verb      string    `json:"verb"`
	Name      string    `json:"name,omitempty"`
	Version   string    `json:"version,omitempty"`
	Prepare   bool      `json:"prepare,omitempty"`
	Groups    []string  `json:"groups,omitempty"`
	Instances []string  `json:"instances,omitempty"`
	Group     string    `json:"group,omitempty"`
	Term      uint64    `json:"term,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	HoldMS    int64     `json:"hold_ms,omitempty"`
	SilentMS  int64     `json:"silent_ms,omitempty"`
	Ready     *Ready    `json:"ready,omitempty"`
	Demotion  *Demotion `json:"demotion,omitempty"`
}

// Ready is what a replicating client reports about a group.
type Ready struct {
	InSync    bool `json:"in_sync"`    // complete up to the moment contact was lost
	Ahead     bool `json:"ahead"`      // a reachable member is MASTER or has more
	PeerReady bool `json:"peer_ready"` // a reachable member could take over now
	Traffic   bool `json:"traffic"`    // MASTER: authenticated packets of the group came in lately
	// Loading: policies are being loaded or negotiated on this node, by order of
	// the client.
	Loading bool `json:"loading"`
	// PeerTold: the demotions of all members that could take over are known; absent
	// from clients that know nothing of it. PeerDemotion is the least of them,
	// WillingDemotion that of the members to which a MASTER may hand over merely
	// because they are less demoted; both 255 where there is none.
	PeerTold        bool `json:"peer_told,omitempty"`
	PeerDemotion    int  `json:"peer_demotion,omitempty"`
	WillingDemotion int  `json:"willing_demotion,omitempty"`
}

// Fitness is how fit this node is to be MASTER of a group.
type Fitness struct {
	Demotion int `json:"demotion"` // sum
	// Willing: this node has not given mastership up for a reason other than its
	// demotion, nor failed to take it, since it was last MASTER.
	Willing bool `json:"willing"`
}

// Holds of a demotion.
const (
	HoldConnection = "connection" // until the connection ends
	HoldPersistent = "persistent" // until undemote; the default of people
)

// Demotion is a reason to be a lesser master.
type Demotion struct {
	ID     string `json:"id"`
	By     int    `json:"by"` // 1..255
	Reason string `json:"reason,omitempty"`
	Hold   string `json:"hold,omitempty"`   // HoldConnection (default) or HoldPersistent
	TTLMS  int64  `json:"ttl_ms,omitempty"` // 0: no limit
}

// Message is what the server sends: a reply (Event empty) or an event.
type Message struct {
	ID     uint64       `json:"id,omitempty"`
	Error  string       `json:"error,omitempty"`
	Groups []GroupState `json:"groups,omitempty"` // of the reply to status
	Clock  *Clock       `json:"clock,omitempty"`  // of the reply to status

	Event    string      `json:"event,omitempty"`
	Seq      uint64      `json:"seq,omitempty"`
	Group    string      `json:"group,omitempty"`
	Snapshot bool        `json:"snapshot,omitempty"` // state: nothing changed, this is how it is
	State    *GroupState `json:"state,omitempty"`
	Fitness  *Fitness    `json:"fitness,omitempty"`
	Old      string      `json:"old,omitempty"`
	To       string      `json:"to,omitempty"`
	Term     uint64      `json:"term,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	ForMS    int64       `json:"for_ms,omitempty"`
	Instance string      `json:"instance,omitempty"`
	Peer     netip.Addr  `json:"peer,omitzero"`
}

// For is ForMS as a duration.
func (m *Message) For() time.Duration { return time.Duration(m.ForMS) * time.Millisecond }

// Names of states.
const (
	StateInit   = "init"
	StateBackup = "backup"
	StateMaster = "master"
)

// GroupState is everything there is to know about a group.
type GroupState struct {
	Group     string          `json:"group"`
	State     string          `json:"state"`
	Reason    string          `json:"reason"`            // of the latest change
	AgeMS     int64           `json:"age_ms"`            // since then
	Term      uint64          `json:"term"`              // of this node's latest mastership
	Seen      uint64          `json:"seen_term"`         // highest known
	Fenced    bool            `json:"fenced"`            // nothing can leave from the VIPs
	Blocked   string          `json:"blocked,omitempty"` // why the group would not take over now
	Held      string          `json:"held,omitempty"`    // why nothing is forwarded from the group's interfaces
	Demotion  int             `json:"demotion"`          // sum
	Demotions []Demotion      `json:"demotions,omitempty"`
	BFD       []BFDSession    `json:"bfd,omitempty"` // sessions that the group tracks
	Clients   []string        `json:"clients,omitempty"`
	WhenSplit string          `json:"when_split"` // continue, prefer-traffic or witness
	Instances []InstanceState `json:"instances"`
	VIPs      []VIP           `json:"vips"`
	// Transitions counts the changes of state since carpd started.
	Transitions []Transition `json:"-"`
	// Takeover is the latest one by this node from another master; absent if
	// there was none since carpd started.
	Takeover *Takeover `json:"last_takeover,omitempty"`
	// OutageMS is how long nobody would be MASTER if the master died now: the
	// silence after which this node takes over; on the MASTER itself, that of a
	// backup with the same settings. Negative: this node would not take over.
	OutageMS int64 `json:"predicted_outage_ms"`
	// Repairs are the changes by others to what carpd owns in the kernel.
	Repairs []Repair `json:"repairs,omitempty"`
	// Configured are the virtual addresses that the system has configured, too; not those
	// of their owner (RFC 9568, priority 255).
	Configured []Configured `json:"configured,omitempty"`
	// StateError is why carpd cannot write its state directory; absent if it can.
	StateError string `json:"state_error,omitempty"`
}

// BFDSession is a BFD session that a group tracks. States and diagnostics have the
// names of RFC 5880 section 4.1.
type BFDSession struct {
	Neighbor  netip.Addr `json:"neighbor"`
	Interface string     `json:"interface,omitempty"` // absent: any
	State     string     `json:"state"`               // AdminDown, Down, Init, Up
	AgeMS     int64      `json:"age_ms"`              // since it changed
	// Diagnostic is why the session went Down; absent while it is Up, and where it
	// never was anything but Down.
	Diagnostic string `json:"diagnostic,omitempty"`
	// What the neighbor said last; absent if it is not heard.
	NeighborState      string `json:"neighbor_state,omitempty"`
	NeighborDiagnostic string `json:"neighbor_diagnostic,omitempty"` // absent: none
	TransmitMS         int64  `json:"transmit_ms"`                   // interval at which this node sends
	// DetectionMS is the silence after which the neighbor counts as lost; 0 if it is
	// not heard.
	DetectionMS int64 `json:"detection_ms"`
}

// Repair is one kind of change by somebody else to what carpd owns in the kernel.
type Repair struct {
	Kind  string `json:"kind"`  // one of the Repaired names
	Count uint64 `json:"count"` // changes undone since carpd started
	AgeMS int64  `json:"age_ms"`
	Error string `json:"error,omitempty"` // why the kind cannot be repaired now
}

// Kinds of repairs.
const (
	RepairedFence   = "fence"   // of a BACKUP: removed; of a MASTER: set
	RepairedGate    = "gate"    // what closes the IPv6 fence when carpd dies: removed
	RepairedHold    = "hold"    // forwarding was to be held and was not, or the other way round
	RepairedAddress = "address" // of a MASTER: removed
	RepairedRoute   = "route"   // local route of an address of a MASTER: removed
	RepairedFilter  = "filter"  // tables of nftables: changed or removed
)

// RepairKinds are all kinds of repairs.
func RepairKinds() []string {
	return []string{RepairedFence, RepairedGate, RepairedHold, RepairedAddress, RepairedRoute, RepairedFilter}
}

// Configured is a virtual address that the system has configured on an interface.
type Configured struct {
	Address   netip.Prefix `json:"address"`
	Interface string       `json:"interface"`
}

// Transition is a change of state and how often it happened.
type Transition struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count uint64 `json:"count"`
}

// Takeover is how this node became MASTER.
type Takeover struct {
	Reason string     `json:"reason"`
	From   netip.Addr `json:"from,omitzero"` // the master before
	GapMS  int64      `json:"gap_ms"`        // from its last sign until this node had the addresses and no fence
	AgeMS  int64      `json:"age_ms"`        // since then
	// Steps are in the order of time. Another release may tell none, or others.
	Steps []Step `json:"steps,omitempty"`
}

// Step is one on the way to a mastership.
type Step struct {
	Step  string  `json:"step"`          // one of the Step names
	After float64 `json:"after_seconds"` // the last sign of the master before
}

// Steps of a takeover.
const (
	StepDecided   = "decided"   // the group takes over: the silence was long enough, or it is told to
	StepPrepared  = "prepared"  // its clients are prepared
	StepAddresses = "addresses" // the addresses are configured
	StepFence     = "fence"     // the fence is open
)

// What GroupState.WhenSplit can be.
const (
	SplitContinue      = "continue"
	SplitPreferTraffic = "prefer-traffic"
	SplitWitness       = "witness"
)

// HasInstance reports whether the group contains the instance.
func (g *GroupState) HasInstance(name string) bool {
	return slices.ContainsFunc(g.Instances, func(i InstanceState) bool { return i.Name == name })
}

// Addresses returns the addresses of all VIPs of the group.
func (g *GroupState) Addresses() []netip.Addr {
	out := make([]netip.Addr, 0, len(g.VIPs))
	for _, v := range g.VIPs {
		out = append(out, v.Address)
	}
	return out
}

// InstanceState is one block of the configuration.
type InstanceState struct {
	Name      string        `json:"name"`
	Interface string        `json:"interface"`
	Virtual   bool          `json:"virtual_mac,omitempty"`
	Protocol  string        `json:"protocol"` // vrrp3, vrrp2
	ID        uint8         `json:"id"`       // VRID or vhid
	State     string        `json:"state"`    // the least of its routers'
	Routers   []RouterState `json:"routers"`
}

// RouterState is an instance in one address family.
type RouterState struct {
	Family   string     `json:"family"` // ipv4, ipv6
	State    string     `json:"state"`
	Expired  bool       `json:"expired,omitempty"`  // hears no master; the group does not take over (yet)
	Priority uint8      `json:"priority,omitempty"` // VRRP, as advertised
	AdvBase  uint8      `json:"advbase,omitempty"`  // CARP, as advertised
	AdvSkew  uint8      `json:"advskew,omitempty"`
	DownMS   int64      `json:"down_ms"` // silence after which a master is gone
	Source   netip.Addr `json:"source,omitzero"`
	Peer     netip.Addr `json:"peer,omitzero"`      // last other master
	HeardMS  int64      `json:"heard_ms,omitempty"` // since then
	Sent     uint64     `json:"sent"`
	Received uint64     `json:"received"`
	Dropped  uint64     `json:"dropped"`
	// Trailers counts what was found about the authentication of
	// advertisements, by the names of auth.Verdict; empty without keys.
	Trailers map[string]uint64 `json:"trailers,omitempty"`
	// BadDigests counts CARP advertisements of another pass phrase or set of
	// addresses.
	BadDigests uint64    `json:"bad_digests,omitempty"`
	Repaired   uint64    `json:"repaired"` // addresses that somebody deleted on the master, put back
	Refusals   []Refusal `json:"refusals,omitempty"`
	// MAC is what this node answers with for the addresses as a MASTER.
	MAC string `json:"mac,omitempty"`
	// Claims are the machines that have answered for the addresses on the interface
	// within the last half minute and since the MASTER is who it is, but for this node.
	Claims []Claim `json:"claims,omitempty"`
	// Silent are addresses for which nobody has answered for half a minute; of a BACKUP
	// that hears a MASTER.
	Silent []netip.Addr `json:"silent,omitempty"`
}

// Claim is a machine that answers for addresses.
type Claim struct {
	MAC     string     `json:"mac"`
	Count   int        `json:"count"`   // addresses
	Address netip.Addr `json:"address"` // one of them
}

// Clock tells how often the time of day has jumped against the time since boot
// by more than a second since carpd started.
type Clock struct {
	Jumps  uint64 `json:"jumps"`
	LastMS int64  `json:"last_ms"` // size of the latest, negative: backwards
	AgeMS  int64  `json:"age_ms"`  // since then
}

// Refusal is one kind of advertisement that was not taken.
type Refusal struct {
	Kind  string     `json:"kind"` // one of the Refused names
	Peer  netip.Addr `json:"peer,omitzero"`
	Count uint64     `json:"count"`
	AgeMS int64      `json:"age_ms"` // of the latest
	Text  string     `json:"text"`
}

// Kinds of refusals. RefusedAddresses and RefusedMAC ones were taken all the same.
const (
	RefusedVersion   = "version"   // another version of VRRP
	RefusedProtocol  = "protocol"  // CARP with our VRID, or VRRP with our vhid
	RefusedInterval  = "interval"  // VRRPv2: another interval
	RefusedAddresses = "addresses" // other virtual addresses with our id
	RefusedAuth      = "auth"      // wrong or missing authentication
	RefusedTTL       = "ttl"       // from beyond a router
	RefusedInvalid   = "invalid"   // malformed
	RefusedOwn       = "own"       // another machine uses our own address, or the network sends ours back
	RefusedCast      = "cast"      // unicast where we multicast, or the other way around
	RefusedPeer      = "peer"      // unicast from an address that is not among the members
	RefusedMAC       = "mac"       // another machine uses our MAC address
)

// VIP is a virtual address.
type VIP struct {
	Address   netip.Addr `json:"address"`
	Interface string     `json:"interface"`
	Instance  string     `json:"instance"`
}
