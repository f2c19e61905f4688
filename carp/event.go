package carp

import (
	"errors"
	"net/netip"
	"time"
)

// EventKind says what happened to a group.
type EventKind uint8

// The events of a group.
const (
	EvTick     EventKind = iota // time has passed and all received packets were delivered
	EvUp                        // Router's interface is usable, Src is its address
	EvDown                      // Router's interface is not usable
	EvAdvert                    // Router received Advert
	EvSent                      // Router's advertisement left (Err nil) or did not
	EvDone                      // kernel operation Op ended with Err
	EvRenewed                   // a renewal that was ordered at Proof ended with Err
	EvClient                    // client Client of Name came; Prepare: it takes part in changes
	EvGone                      // client Client left
	EvReady                     // client Client reports Ready
	EvPrepared                  // client Client has prepared for Term
	EvResign                    // hand over; Hold is added to the time in which not to contend
	EvTakeover                  // the master of Term has fenced itself for us
	EvDemote                    // put Demotion into the ledger
	EvUndemote                  // take the demotion Demotion.ID out; if empty, all that no connection holds
	EvTerm                      // Term was seen elsewhere
	EvAnnounce                  // announce the addresses again
	EvStop                      // end in an orderly way
	EvWitness                   // a witness answered what was sent at Proof, or none does any more
	EvMoved                     // Router's interface has another MAC address
	EvHoldBack                  // promise client Client not to take over for Hold because of Reason; 0 ends that
)

// Ready is what a client that replicates reports about a group.
type Ready struct {
	InSync    bool // complete up to the moment contact was lost
	Ahead     bool // a reachable member is MASTER or has more than we do
	PeerReady bool // a reachable member could take over now
	Traffic   bool // MASTER: authenticated packets of the group came in lately
	Loading   bool // policies are being loaded or negotiated on this node

	// PeerTold: the demotions of all members that PeerReady is about are known.
	// The least of them is PeerDemotion, and WillingDemotion is that of those who
	// did not give mastership up for another reason; maxDemotion if there is none.
	PeerTold        bool
	PeerDemotion    int
	WillingDemotion int
}

// Event is an event of a group. Which fields count depends on Kind. Request,
// if not 0, asks for an ActReply.
type Event struct {
	Kind     EventKind
	Router   int
	Src      netip.Addr
	Advert   Advert
	Op       uint64
	Err      error
	Client   uint64
	Name     string
	Prepare  bool
	Ready    Ready
	Term     uint64
	Reason   string
	Hold     time.Duration
	Demotion Demotion
	Request  uint64
	Witness  bool
	Proof    time.Duration
}

// ActionKind says what a group wants done.
type ActionKind uint8

// The actions of a group. The kernel operations (ActFence, ActAcquire,
// ActRelease) are done one after the other and each ends with an EvDone. ActRenew
// is done between them and ends with an EvRenewed.
const (
	ActAdvert    ActionKind = iota // Router sends an advertisement with Priority (0 resigns); EvSent follows
	ActFence                       // set the fence
	ActAcquire                     // addresses on, fence off, announce
	ActRelease                     // fence set, addresses off
	ActRenew                       // renew the leases of addresses and fence
	ActAnnounce                    // announce the addresses
	ActTerm                        // remember Term
	ActPrepare                     // ask clients to prepare for To in Term within For
	ActCancel                      // the preparation for Term came to nothing, because of Reason
	ActState                       // the state changed from Old, because of Reason
	ActContested                   // another master at Peer; For is 0 at the beginning, its duration at the end
	ActStall                       // advertisements were late by For
	ActReply                       // answer Request with Err
	ActFitness                     // the sum of demotions, or whether the group is Unwilling, has changed
	ActStopped                     // the last action after EvStop
)

// Action is an action of a group. Which fields count depends on Kind.
type Action struct {
	Kind     ActionKind
	Router   int
	Priority uint8
	Base     uint8 // CARP, with ActAdvert
	Skew     uint8
	Demotion uint8 // also with ActFitness
	// Unwilling, with ActFitness: nobody is to hand over to this node merely
	// because it is less demoted.
	Unwilling bool

	Op      uint64
	Term    uint64
	To      State
	Old     State
	For     time.Duration
	Reason  string
	Peer    netip.Addr
	Request uint64
	Err     error
}

// Errors of ActReply.
var (
	ErrNotMaster   = errors.New("group is not master")
	ErrIsMaster    = errors.New("group is already master or about to be")
	ErrRouterDown  = errors.New("an instance of the group has no usable interface")
	ErrNotEligible = errors.New("group may not take over: a required client is missing or not in sync")
	ErrOldTerm     = errors.New("term is older than one seen before")
	ErrStuck       = errors.New(whyStuck)
	ErrHighTerm    = errors.New("term is too far above the highest one known here")
	ErrStopping    = errors.New("daemon is stopping")
	ErrDemotion    = errors.New("demotion is not between 1 and 255")
	ErrUnknown     = errors.New("no such demotion")
)
