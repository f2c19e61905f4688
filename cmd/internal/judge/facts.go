// Package judge decides whether a failover would work now. [Judge] is a pure
// function over what the gateways report of themselves: [Facts] of this one and
// of each peer, which sasyncd exchanges (report in docs/protocol.md).
//
// The answer is yes only if every group has one MASTER that serves and a standby
// that could take over from it. What a member cannot tell makes the answer
// [CannotTell], not yes.
package judge

import (
	"net/netip"
	"slices"

	"sasyncd/sync/peer"
)

// Facts is what one gateway knows of itself. It travels as JSON: a reader ignores
// fields that it does not know, and a field that is absent is not known.
type Facts struct {
	Host    string `json:"host"`
	Version string `json:"version"`
	// Tracker is the election that the gateway follows, as in sasyncd.conf: carpd,
	// link, address or keepalived; locked where the configuration fixes the role.
	Tracker string `json:"tracker"`
	// Forward4 and Forward6 tell whether the kernel forwards packets.
	Forward4 *bool `json:"forward4,omitempty"`
	Forward6 *bool `json:"forward6,omitempty"`
	// Settings are those of the kernel that may harm the instances' interfaces, see
	// [Harmful].
	Settings []Setting `json:"settings,omitempty"`
	// Denials are routing rules of other programs; Unrouted the address families, ipv4
	// or ipv6, in which no rule leads to a table with routes.
	Denials  []Denial `json:"denials,omitempty"`
	Unrouted []string `json:"unrouted,omitempty"`
	// StateError is why sasyncd cannot write its state directory, "" if it can.
	StateError string `json:"state_error,omitempty"`
	// GuardError is why the leak guard is not whole, "" if it is, or if there is none.
	GuardError string `json:"guard_error,omitempty"`
	// GuardDropped is how many packets the leak guard has dropped in the last five
	// minutes: they matched a policy that requires IPsec, and had no SA.
	GuardDropped uint64 `json:"guard_dropped,omitempty"`
	// Local is what is not replicated, as its tunnels end on no VIP; nil for nothing.
	Local *Local `json:"local,omitempty"`
	// Clock is the time of day in seconds since 1970, up to 5 s before the report was
	// sent; 0 if it is not told.
	Clock int64 `json:"clock,omitempty"`
	// Peers are the peers of the configuration; nil if they are not told.
	Peers  []Known `json:"peers,omitempty"`
	Groups []Group `json:"groups"`
	// LeftOut is what a report that would be too long does not tell, in words.
	LeftOut []string `json:"left_out,omitempty"`
	// Apart are the ids of the members to which it has no session, and which it sees by
	// way of another.
	Apart []string `json:"apart,omitempty"`
}

// Local is what a kernel has that is no group's.
type Local struct {
	SAs      int    `json:"sas"`
	Policies int    `json:"policies"`
	Example  string `json:"example,omitempty"` // the ends of one
}

// Known is a peer in the configuration of the gateway that reports.
type Known struct {
	Name      string `json:"name"`
	Node      string `json:"node,omitempty"` // id; "" before the first session
	Connected bool   `json:"connected,omitempty"`
}

// Group is what a gateway knows of one group.
type Group struct {
	Name string `json:"name"` // the same on all members
	// Elector is why the election's daemon cannot be reached, "" if it can.
	Elector string `json:"elector,omitempty"`
	Role    string `json:"role"`   // MASTER, BACKUP or INIT
	Reason  string `json:"reason"` // of Role
	InSync  bool   `json:"in_sync"`
	Why     string `json:"why"` // of InSync

	VIPs []netip.Addr `json:"vips"` // ascending
	// Missing are VIPs that the kernel of a MASTER does not have.
	Missing []netip.Addr `json:"missing,omitempty"`

	SAs       int `json:"sas"`
	Policies  int `json:"policies"`
	Refused   int `json:"refused,omitempty"`   // items that this kernel does not take
	Unlike    int `json:"unlike,omitempty"`    // of them those of another kernel's release
	Uncovered int `json:"uncovered,omitempty"` // SAs that cannot be kept ahead
	Offloaded int `json:"offloaded,omitempty"` // SAs that are not replicated
	Reduced   int `json:"reduced,omitempty"`   // SAs without what this kernel does not have
	// Carried: there were SAs since Role was taken, or when it was.
	Carried bool `json:"carried,omitempty"`

	Keying Keying `json:"keying"`

	// Following is the node that a standby follows, "" for none; nil if it is not told.
	Following *string `json:"following,omitempty"`
	// Others is what the connected peers say of the group, as heard here.
	Others []Other `json:"others,omitempty"`
	// Standbys is what a MASTER knows of its standbys.
	Standbys []Standby `json:"standbys,omitempty"`

	// Stray are VIPs that the kernel of a BACKUP has, where carpd does not elect.
	Stray []netip.Addr `json:"stray,omitempty"`
	// Election is what is seen of an election other than carpd's; nil if nothing is.
	Election *Election `json:"election,omitempty"`
	// Carp is what carpd says; nil with another election, or without an answer.
	Carp *Carp `json:"carp,omitempty"`
}

// Values of Facts.Tracker that the judgement knows.
const (
	TrackerCarpd      = "carpd"
	TrackerKeepalived = "keepalived"
	TrackerLocked     = "locked"
)

// Election is what is known of a program that elects in carpd's place.
type Election struct {
	// Standing is hidden where only the results of the election are seen, silent for a
	// program that is alive and has not told its state, able, unable or gone.
	Standing string `json:"standing"`
	Reason   string `json:"reason"` // of the latest
}

// Keying is the state of the IKE daemon's driver.
type Keying struct {
	Driver string `json:"driver,omitempty"` // "" for none
	State  string `json:"state,omitempty"`
	Error  string `json:"error,omitempty"`
	// Lint are settings of the IKE daemon that would hurt at a failover: what is
	// wrong, and what to do.
	Lint [][2]string `json:"lint,omitempty"`
	// Absent: the daemon does not run. Probed: this is known, and so is Version, which is
	// "" for no daemon, or for one that does not tell. ProbeError is why the daemon and
	// its settings cannot be looked at.
	Absent     bool   `json:"absent,omitempty"`
	Version    string `json:"version,omitempty"`
	Probed     bool   `json:"probed,omitempty"`
	ProbeError string `json:"probe_error,omitempty"`
}

// Other is the role of another node.
type Other struct {
	Node string `json:"node"`
	Role string `json:"role"`
}

// Standby is one standby as its MASTER sees it.
type Standby struct {
	Node     string  `json:"node"` // id
	Complete bool    `json:"complete"`
	Lag      float64 `json:"lag_seconds"`
}

// Carp is the group that moves the instance, as carpd tells it.
type Carp struct {
	Group   string `json:"group"`
	Fenced  bool   `json:"fenced"`
	Blocked string `json:"blocked,omitempty"` // why it would not take over
	Held    string `json:"held,omitempty"`    // why nothing is forwarded
	// StateError is why carpd cannot write its state directory, "" if it can.
	StateError string     `json:"state_error,omitempty"`
	Demotion   int        `json:"demotion"`
	Demotions  []string   `json:"demotions,omitempty"` // what demotes, by id
	Instances  []Instance `json:"instances"`
	// Configured are VIPs that the system has configured on an interface, too.
	Configured []Configured `json:"configured,omitempty"`
	// Repairs are kinds of changes that others made lately to what carpd owns.
	Repairs []Repair `json:"repairs,omitempty"`
}

// Configured is a VIP that the system has configured, and where.
type Configured struct {
	Address   netip.Addr `json:"address"`
	Interface string     `json:"interface"`
}

// Repair is a kind of change by others to what carpd owns in the kernel.
type Repair struct {
	Kind  string `json:"kind"`            // fence, gate, hold, address, route or filter
	Count uint64 `json:"count"`           // within the last five minutes
	Error string `json:"error,omitempty"` // why it cannot be repaired
}

// Instance is one block of carpd.conf.
type Instance struct {
	Name      string   `json:"name"`
	Interface string   `json:"interface"`
	Virtual   bool     `json:"virtual_mac,omitempty"`
	Protocol  string   `json:"protocol"` // vrrp3, vrrp2 or carp
	ID        uint8    `json:"id"`       // VRID or vhid
	State     string   `json:"state"`
	Routers   []Router `json:"routers"`
}

// Router is an instance in one address family.
type Router struct {
	Family string `json:"family"` // ipv4 or ipv6
	// Expired: a BACKUP hears no MASTER.
	Expired  bool       `json:"expired,omitempty"`
	Priority uint8      `json:"priority,omitempty"` // VRRP, as advertised
	AdvBase  uint8      `json:"advbase,omitempty"`  // CARP, as advertised
	AdvSkew  uint8      `json:"advskew,omitempty"`
	Source   netip.Addr `json:"source,omitzero"`
	// Master is another node whose advertisements as a MASTER are heard now.
	Master netip.Addr `json:"master,omitzero"`
	// MAC is what the node answers with for the VIPs as a MASTER, Claims who else has
	// answered for them lately, Silent those for which nobody does.
	MAC    string       `json:"mac,omitempty"`
	Claims []Claim      `json:"claims,omitempty"`
	Silent []netip.Addr `json:"silent,omitempty"`
	// Refusals are kinds of advertisements that were not taken within the last minute.
	Refusals []Refusal `json:"refusals,omitempty"`
}

// Claim is a machine that answers for VIPs.
type Claim struct {
	MAC     string     `json:"mac"`
	Count   int        `json:"count"`   // VIPs
	Address netip.Addr `json:"address"` // one of them
}

// Refusal is one kind of advertisement that was not taken.
type Refusal struct {
	Kind string     `json:"kind"` // as carpd names it, such as mac or own
	Peer netip.Addr `json:"peer,omitzero"`
	Text string     `json:"text"`
}

// Peer is one gateway of the configuration, as this one sees it.
type Peer struct {
	Name      string // in the configuration
	Node      string // id; "" before the first session
	Connected bool
	Trouble   peer.Trouble // why not Connected
	Words     string       // Trouble for people
	// Facts is what it reported last, Age how many seconds ago; nil for nothing. Tells:
	// it is of a version that reports.
	Facts *Facts
	Age   float64
	Tells bool
	// Seen is what it says of its groups in the protocol of every version.
	Seen []Seen
	// Sight is what it says by way of another member, while it is not Connected; nil for
	// nothing.
	Sight *Sight
}

// Seen is what every version says of a group.
type Seen struct {
	Name   string
	Role   string
	InSync bool
}

// group returns what f says of a group, nil for nothing.
func (f *Facts) group(name string) *Group {
	if f == nil {
		return nil
	}
	if i := slices.IndexFunc(f.Groups, func(g Group) bool { return g.Name == name }); i >= 0 {
		return &f.Groups[i]
	}
	return nil
}
