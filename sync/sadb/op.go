package sadb

import "fmt"

// OpKind says what to do to the kernel's tables.
type OpKind uint8

// Operations. AddSA and AddPolicy fail when the identity exists; UpdateSA
// changes lifetimes only (as XFRM_MSG_UPDSA does), UpdatePolicy everything but
// the identity, and creates what is absent. SetCounters writes replay state
// and byte counts of an existing SA (XFRM_MSG_NEWAE). Deletes of what is
// absent succeed.
const (
	OpAddSA OpKind = iota + 1
	OpUpdateSA
	OpDeleteSA
	OpSetCounters
	OpAddPolicy
	OpUpdatePolicy
	OpDeletePolicy
)

// String names the operation for logs and metrics.
func (k OpKind) String() string {
	switch k {
	case OpAddSA:
		return "add-sa"
	case OpUpdateSA:
		return "update-sa"
	case OpDeleteSA:
		return "delete-sa"
	case OpSetCounters:
		return "set-counters"
	case OpAddPolicy:
		return "add-policy"
	case OpUpdatePolicy:
		return "update-policy"
	case OpDeletePolicy:
		return "delete-policy"
	}
	return fmt.Sprintf("op-%d", uint8(k))
}

// Op is one operation of a batch. SA is set for the SA operations (for
// DeleteSA only its Key matters, for SetCounters its Key, Flags, Window,
// BitmapLen, Counters and ages), Policy for the policy operations. Ops share
// what they point to with their maker; neither side changes it afterwards.
type Op struct {
	Kind   OpKind
	SA     *SA
	Policy *Policy
}

// EventKind says what the kernel announced.
type EventKind uint8

// Events of the kernel's tables. EventResync means that events were lost or
// that the tables changed in a way that is not announced item by item (ENOBUFS,
// MIGRATE): only a dump tells the truth.
const (
	EventPutSA EventKind = iota + 1 // added or updated
	EventDeleteSA
	EventPutPolicy
	EventDeletePolicy
	EventFlushSA     // Proto says which; 0 is all
	EventFlushPolicy // Sub says which type
	EventExpireSA    // Hard: it is gone, else a soft limit passed
	EventExpirePolicy
	EventMapping // NAT: a peer's address or port changed; the SA is unchanged
	EventCounters
	EventAcquire
	EventResync
)

// Event is one announcement of the kernel. Own is set when this process caused
// it. What it points to belongs to whoever receives it.
type Event struct {
	Kind   EventKind
	Own    bool
	SA     *SA     // PutSA; for DeleteSA, ExpireSA, Mapping at least its Key
	Policy *Policy // PutPolicy; for DeletePolicy, ExpirePolicy at least its Key
	Hard   bool
	Proto  uint8
	Sub    bool
	Encap  *Encap // Mapping: the new values
	Reason string // Resync: why
}

// Snapshot is a full dump of the kernel's tables, in the kernel's order: SAs
// newest first.
type Snapshot struct {
	SAs      []*SA
	Policies []*Policy
}
