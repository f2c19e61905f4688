package wire

import (
	"fmt"
	"net/netip"

	"sasyncd/sync/sadb"
)

// Message is one of the message types of this package, always by pointer.
// Messages are not changed after they were given to another goroutine.
type Message interface {
	Type() Type
	appendBody([]byte) ([]byte, error)
	parseBody(*reader)
}

// Versions of the protocol that this code speaks.
const (
	MinVersion uint16 = 1
	MaxVersion uint16 = 1
)

// MaxTerm is the highest term that is received. Terms count masterships, so no
// group ever gets near it; but whoever believed a term near 2^64 would remember it
// and could number no mastership of its own above it.
const MaxTerm uint64 = 1 << 62

// Bounds of what a node believes. Believed terms become the node's own, are kept
// over restarts and are told to others, and the next mastership is numbered above
// them. So they leave room below MaxTerm, and one message does not carry a group
// out of the range that counting reaches.
const (
	maxTermStep = 1 << 32
	maxBelieved = MaxTerm / 2
)

// Believable reports whether a node that knows of term own may take over one that a
// peer tells.
func Believable(own, told uint64) bool {
	return told <= own || told-own <= maxTermStep && told <= maxBelieved
}

// StreamID names one ordered stream of changes: of a group, under a term, by
// one process of one node. The zero StreamID stands for none.
type StreamID struct {
	Group string
	Term  uint64
	Node  NodeID
	Nonce uint64
}

// StreamPos is a position in a stream. Seq is the number of the last change
// that is in the kernel. Complete: a whole snapshot of that stream is
// installed, so that everything up to Seq is there; otherwise a snapshot was
// cut short and Seq says nothing.
type StreamPos struct {
	StreamID
	Seq      uint64
	Complete bool
}

// Beyond reports whether whoever is at p holds more than who is at o.
func (p StreamPos) Beyond(o StreamPos) bool {
	if !p.Complete || !o.Complete {
		return p.Complete && !o.Complete
	}
	if p.Term != o.Term {
		return p.Term > o.Term
	}
	return p.StreamID == o.StreamID && p.Seq > o.Seq
}

// GroupState is what a node says about one of its groups.
type GroupState struct {
	Name   string       // the group's name in the configuration, the same on all nodes
	VIPs   []netip.Addr // ascending, so that a difference between nodes is seen
	Role   Role
	Term   uint64 // the highest term this node knows of
	InSync bool   // complete up to now, or up to the moment contact was lost
	Have   StreamPos
	Reason string // why the role is what it is, for humans
	// Received counts the packets of the group that this node's kernel has
	// authenticated since the process started, as far as it was master.
	Received uint64
}

// Hello is the first message on a connection, from both sides.
type Hello struct {
	Min, Max  uint16 // range of protocol versions
	Caps      uint64 // capabilities, one bit each (CapCompare...)
	Node      NodeID // who
	Boot      NodeID // which boot of its kernel: another one lost all SAs
	Nonce     uint64 // which process: drawn at its start
	Kernel    string // release, as uname -r
	BigEndian bool   // byte order of attributes carried as they are
	Arch      string // as GOARCH
	WallUnix  int64  // the sender's clock in seconds, for diagnosis only
	Gen       uint32 // dialler's: one more than that of the last connection with this peer
	Move      bool   // dialler's: carry on the session here; listener's: agreed
	Groups    []GroupState
}

// State tells a change of one group, above all of its role.
type State struct{ GroupState }

// Request is sent by a standby to the master of a group: send me your stream,
// this is what I have. Resume or SnapBegin answers it.
type Request struct {
	Group string
	Have  StreamPos
}

// Resume begins a stream behind what the receiver has. The first numbered
// record that follows is Seq+1. Stream is the handle by which later messages
// of this connection name the stream.
type Resume struct {
	Stream uint32
	ID     StreamID
	Seq    uint64
}

// SnapBegin begins a stream with everything there is. Records of the snapshot
// are not numbered; numbered ones may be among them. Seq is the last number
// whose effect is contained from the start. SAs and Policies are estimates.
type SnapBegin struct {
	Stream        uint32
	ID            StreamID
	Seq           uint64
	SAs, Policies uint32
}

// SnapEnd ends the snapshot: what the receiver holds of the group and has not
// seen since SnapBegin is not on the master and may be removed. SAs and
// Policies are exact counts of snapshot records sent; Seq is the last number
// sent before.
type SnapEnd struct {
	Stream        uint32
	Seq           uint64
	SAs, Policies uint32
}

// Record is one change. Which fields matter is said at its kind; the others
// are not carried.
type Record struct {
	Kind      RecordKind
	Numbered  bool   // a change of the ordered sequence, not part of a snapshot
	Handle    uint32 // short name of an SA within the stream, never reused
	SentAge   uint64 // microseconds from its happening on the master to its sending
	SA        *sadb.SA
	Policy    *sadb.Policy
	SAKey     sadb.SAKey
	PolicyKey *sadb.PolicyKey // a pointer, because it is large and rare
	Proto     uint8
	Sub       bool
}

// Batch carries records in order. First is the number of its first numbered
// record, the next numbered one is First+1 and so on; without any it is the
// number that comes next.
type Batch struct {
	Stream  uint32
	First   uint64
	Records []Record
}

// CounterEntry holds the absolute counters of one SA.
type CounterEntry struct {
	Handle         uint32
	OSeq, Seq      uint64 // with high words for ESN
	Bytes, Packets uint64
}

// Counters tells the counters of the SAs that moved since the last such
// message. Epoch grows by one with every reading of the master's kernel; a
// reading may take several messages of the same epoch. AgeMicros is the time
// from the reading to the sending in microseconds. Entries ascend by handle.
type Counters struct {
	Stream    uint32
	Epoch     uint64
	AgeMicros uint64
	Entries   []CounterEntry
}

// Ack tells what the standby's kernel holds: every numbered change up to Seq,
// counters up to Epoch, SnapDone once the snapshot is whole and swept.
// Installed is the number of records applied since the stream began.
type Ack struct {
	Stream    uint32
	Seq       uint64
	Epoch     uint64
	SnapDone  bool
	Installed uint32
}

// Ping asks for a Pong with the same token.
type Ping struct{ Token uint64 }

// Pong answers a Ping.
type Pong struct{ Token uint64 }

// Bye is the last message on a connection. Text is for the logs of the other
// side: at most 1 KiB, no secrets.
type Bye struct {
	Code ByeCode
	Text string
}

// Handover tells a standby that its master is fenced and has sent its final
// counters: take over. Term is the term that the master gives up.
type Handover struct {
	Group string
	Term  uint64
}

// Maximum holds the highest counters that a node knows of an SA.
type Maximum struct {
	Key            sadb.SAKey
	OSeq, Seq      uint64
	Bytes, Packets uint64
}

// Maxima is exchanged when two nodes that were apart meet again: the counters
// of their outbound SAs, by identity, as the streams of the two have nothing
// in common. ID is the stream of the sender when it was master, without one where
// it does not know. The receiver's own stream: the sender follows it, and its
// kernel's counters stand there. Last ends the list, which may take several messages.
type Maxima struct {
	ID      StreamID
	Last    bool
	Entries []Maximum
}

// Digest tells the sums of the master's buckets as of change Seq. A standby
// compares them with its own once it is at Seq.
type Digest struct {
	Stream  uint32
	Seq     uint64
	Buckets []uint64
}

// BucketRequest asks for the contents of buckets that differ. Of is the number
// of buckets in the Digest that is answered. Buckets ascend.
type BucketRequest struct {
	Stream  uint32
	Of      uint32
	Buckets []uint16
}

// BucketItems answers for one bucket, as of change Seq: the digests of the
// identities of all that is in it, ascending, and records that put each. What
// the standby holds in that bucket beyond is removed. A bucket too large for
// one message takes several: More says that another follows, Keys is complete
// in the last.
type BucketItems struct {
	Stream  uint32
	Seq     uint64
	Of      uint32
	Bucket  uint16
	More    bool
	Keys    []Sum
	Records []Record
}

// Fitness tells how much the sender's election holds against it as a master of
// Group. Willing: it did not give mastership up of late for a reason other than
// being demoted, nor fail to take it, so that a master may hand over to it merely
// because it is less demoted.
type Fitness struct {
	Group    string
	Demotion int // 0..MaxDemotion
	Willing  bool
}

// Gossip carries what the membership layer has to say, opaque here.
type Gossip struct{ Payload []byte }

// Unknown stands for a message of a later version that may be ignored. It
// cannot be sent.
type Unknown struct{ Of Type }

// Type methods.
func (*Hello) Type() Type { return TypeHello }

func (*State) Type() Type { return TypeState }

func (*Request) Type() Type { return TypeRequest }

func (*Resume) Type() Type { return TypeResume }

func (*SnapBegin) Type() Type { return TypeSnapBegin }

func (*SnapEnd) Type() Type { return TypeSnapEnd }

func (*Batch) Type() Type { return TypeBatch }

func (*Counters) Type() Type { return TypeCounters }

func (*Ack) Type() Type { return TypeAck }

func (*Ping) Type() Type { return TypePing }

func (*Pong) Type() Type { return TypePong }

func (*Bye) Type() Type { return TypeBye }

func (*Handover) Type() Type { return TypeHandover }

func (*Maxima) Type() Type { return TypeMaxima }

func (*Digest) Type() Type { return TypeDigest }

func (*BucketRequest) Type() Type { return TypeBucketRequest }

func (*BucketItems) Type() Type { return TypeBucketItems }

func (*Fitness) Type() Type { return TypeFitness }

func (*Gossip) Type() Type { return TypeGossip }

func (m *Unknown) Type() Type { return m.Of }

// Agree returns the protocol version that two nodes speak with each other: the
// highest that both know. The error is for the humans of both sides.
func (m *Hello) Agree(o *Hello) (uint16, error) {
	v := min(m.Max, o.Max)
	if v < m.Min || v < o.Min {
		return 0, fmt.Errorf("this node speaks protocol versions %d to %d, the other %d to %d: upgrade the older one",
			m.Min, m.Max, o.Min, o.Max)
	}
	return v, nil
}
