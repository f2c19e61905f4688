package engine

import (
	"context"
	"net/netip"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Kernel is what the engine needs of the machine's IPsec tables.
type Kernel interface {
	// Dump reads all SAs and policies.
	Dump(ctx context.Context) (*sadb.Snapshot, error)
	// Scan reads them too, handing all SAs to f, some at a time, and then
	// returns the policies. It tells what Dump tells, at a fraction of the
	// cost where little has changed.
	Scan(ctx context.Context, f func(*sadb.Chunk) error) ([]*sadb.Policy, error)
	// Apply carries out ops in order, pipelined, and returns one error for
	// each. Deleting what is absent succeeds; adding what exists fails with
	// an error that is fs.ErrExist.
	Apply(ctx context.Context, ops []sadb.Op) []error
	// Watch delivers the changes of the tables from now on, in the order in
	// which the kernel made them.
	Watch(ctx context.Context) (<-chan sadb.Event, error)
}

// Peers is what the engine needs of the sessions with the other members.
type Peers interface {
	// Events delivers sessions that come up and go down, and what they
	// received, in order.
	Events() <-chan PeerEvent
	// Kick makes every disconnected peer redial at once.
	Kick()
}

// Session is one authenticated connection to a member.
type Session interface {
	// Send queues a message; false means that the queue is full, or that the
	// session is over and its end is about to be reported.
	Send(m wire.Message) bool
	// Queued is how many bytes wait to be sent; 0 once the session is over.
	Queued() int
	// Close ends the session, telling the peer why.
	Close(code wire.ByeCode, reason string)
	// Peer is the peer's name in the configuration.
	Peer() string
}

// PeerEventKind says what happened to a session.
type PeerEventKind uint8

// Events of a session. Up comes first, Down last.
const (
	PeerUp PeerEventKind = iota + 1
	PeerMessage
	PeerDown
)

// PeerEvent is one event of a session.
type PeerEvent struct {
	Kind    PeerEventKind
	Session Session
	Hello   *wire.Hello  // Up
	Message wire.Message // Message
	Reason  string       // Down
}

// Elector tells who is master: carpd, or one of the other trackers.
type Elector interface {
	Events() <-chan ElectorEvent
	// Prepared answers EventPrepare once the kernel is ready (to master) or
	// the exact counters have been sent (to backup).
	Prepared(group string, term uint64)
	// Ready reports how fit this node is to take over.
	Ready(group string, r Readiness)
	// Takeover says that the master has fenced itself in our favour, so the
	// election need not wait for its timer. It has been fenced for silent, 0 where
	// that is not known.
	Takeover(group string, term uint64, silent time.Duration)
	// Resign asks to give mastership away.
	Resign(group, reason string)
}

// Readiness is what the election must know before it lets this node win.
type Readiness struct {
	// InSync: the kernel holds everything up to the moment contact with the
	// master was lost.
	InSync bool
	// Behind: a reachable member is master or holds more than this node. Where this node
	// is not in sync, a member of which only hints tell counts too, see hinted.
	Behind bool
	// PeerReady: a reachable member is in sync and could take over.
	PeerReady bool
	// PeerTold: all members that PeerReady is about have told their demotions, or
	// will. The least of them is PeerDemotion, and WillingDemotion, of a MASTER,
	// that of those to whom it may hand over merely because they are less demoted.
	// Both are the largest there is where nobody has told.
	PeerTold                      bool
	PeerDemotion, WillingDemotion int
	// Master: a reachable member is MASTER.
	Master bool
	// Traffic: MASTER, and packets that the kernel authenticated came in lately.
	Traffic bool
	// Loading: the keying is on its way to having its policies in the kernel, as
	// MASTER all that it is to negotiate or load, otherwise what it loads in any role.
	Loading bool
	// Term is the highest term seen anywhere.
	Term   uint64
	Reason string
}

// Role of this node in a group.
type Role = wire.Role

// ElectorEventKind says what the election wants.
type ElectorEventKind uint8

// Events of an Elector.
const (
	// ElectorState: the role has changed, or is told again after a
	// reconnection. VIPs are all virtual IPs of the group.
	ElectorState ElectorEventKind = iota + 1
	// ElectorPrepare: about to become To; answer with Prepared.
	ElectorPrepare
	// ElectorCancel: the preparation is void, the old role stands.
	ElectorCancel
	// ElectorHeard: a master's advertisements are heard, so the election
	// itself keeps this node from contending.
	ElectorHeard
	// ElectorLost: the elector of the Group, or without one that of all groups,
	// cannot be reached; roles are unknown.
	ElectorLost
	// ElectorFitness: the Demotion of this node, or whether it is Willing, see
	// wire.Fitness.
	ElectorFitness
)

// ElectorEvent is one message of the election.
type ElectorEvent struct {
	Kind  ElectorEventKind
	Group string
	Role  Role // State
	To    Role // Prepare
	// Term numbers the mastership. An election that has no such number leaves
	// it 0, and the engine counts: one more than any it has seen.
	Term   uint64
	VIPs   []netip.Addr
	Reason string
	// PreferTraffic, of State: of two masters the one stays to which the
	// traffic comes.
	PreferTraffic bool
	// Gap, of a State to MASTER from another node: for how long nobody was MASTER,
	// from the last sign of that node. Measured says that the election knows it.
	Gap      time.Duration
	Measured bool
	// Steps are the election's own on the way there, if Measured.
	Steps []FailoverStep

	Demotion int  // Fitness
	Willing  bool // Fitness
}
