package carp

// State is the state of a router or of a group.
type State uint8

// The states. Init means that an interface, or its address, is missing.
const (
	Init State = iota
	Backup
	Master
)

// String returns the lower-case name, as events carry it.
func (s State) String() string {
	switch s {
	case Init:
		return "init"
	case Backup:
		return "backup"
	case Master:
		return "master"
	}
	return "unknown"
}

// Proto is an election protocol.
type Proto uint8

// The protocols.
const (
	VRRP3 Proto = iota
	VRRP2
	CARP // version 2
)

// String names the protocol.
func (p Proto) String() string {
	switch p {
	case VRRP3:
		return "vrrp3"
	case VRRP2:
		return "vrrp2"
	case CARP:
		return "carp"
	}
	return "unknown"
}

// Preempt says whether a node takes over from a working master that is lesser.
type Preempt uint8

// The choices.
const (
	PreemptGroup Preempt = iota // of a router: as its group; of a group: no
	PreemptNo
	PreemptYes
	PreemptInSync // only while all required clients are in sync
)
