package wire

import (
	"encoding/hex"
	"fmt"
)

// NodeID names a node (kept in its state directory) or one boot of its kernel.
// It is random and says nothing about the machine.
type NodeID [16]byte

// String returns the identifier in hexadecimal.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the identifier is absent.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// Role is what the election made of a group on a node. The numbers are those
// that OpenBSD's sasyncd uses for its run states.
type Role uint8

// Roles.
const (
	RoleInit Role = iota // not known yet, or the elector is silent
	RoleBackup
	RoleMaster
)

// String names the role as users see it.
func (r Role) String() string {
	switch r {
	case RoleInit:
		return "INIT"
	case RoleBackup:
		return "BACKUP"
	case RoleMaster:
		return "MASTER"
	}
	return fmt.Sprintf("ROLE-%d", uint8(r))
}

// RecordKind says what a record does.
type RecordKind uint8

// Record kinds.
const (
	PutSA       RecordKind = iota + 1 // SA, Handle
	DelSA                             // SAKey, Handle
	PutPolicy                         // Policy
	DelPolicy                         // PolicyKey
	FlushSA                           // Proto, 0 is all
	FlushPolicy                       // Sub
)

// String names the kind for logs and metrics.
func (k RecordKind) String() string {
	switch k {
	case PutSA:
		return "put-sa"
	case DelSA:
		return "del-sa"
	case PutPolicy:
		return "put-policy"
	case DelPolicy:
		return "del-policy"
	case FlushSA:
		return "flush-sa"
	case FlushPolicy:
		return "flush-policy"
	}
	return fmt.Sprintf("record-%d", uint8(k))
}

// ByeCode says why a connection is closed.
type ByeCode uint16

// Reasons to close. Text says the details.
const (
	ByeShutdown  ByeCode = iota + 1 // the process ends
	ByeVersion                      // no common protocol version
	ByeSelf                         // the other end is this very node
	ByeDuplicate                    // another node has the same node id
	ByeRedundant                    // the other of two connections stays
	ByeRenewed                      // a newer connection takes over
	ByeSlow                         // the receiver does not keep up; resynchronise
	ByeProtocol                     // what was received makes no sense
	ByeStranger                     // the node is not configured here
	ByeTimeout                      // nothing was heard for too long
)

// String names the code for logs and metrics.
func (c ByeCode) String() string {
	switch c {
	case ByeShutdown:
		return "shutdown"
	case ByeVersion:
		return "version"
	case ByeSelf:
		return "self"
	case ByeDuplicate:
		return "duplicate"
	case ByeRedundant:
		return "redundant"
	case ByeRenewed:
		return "renewed"
	case ByeSlow:
		return "slow"
	case ByeProtocol:
		return "protocol"
	case ByeStranger:
		return "stranger"
	case ByeTimeout:
		return "timeout"
	}
	return fmt.Sprintf("code-%d", uint16(c))
}
