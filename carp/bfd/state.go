package bfd

import "fmt"

// State is the state of a session, with its number in packets.
type State uint8

// The states (RFC 5880 section 4.1).
const (
	AdminDown State = iota // held down by an administrator
	Down
	Init // the neighbor is heard, and does not hear us yet as far as we know
	Up
)

// String returns the name that RFC 5880 gives the state.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Diag is a diagnostic: why a session left its state, with its number in packets.
type Diag uint8

// The diagnostics (RFC 5880 section 4.1). Those from 9 to 31 are reserved.
const (
	NoDiagnostic Diag = iota
	DetectionExpired
	EchoFailed
	NeighborDown
	ForwardingReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

const diagMask = 1<<5 - 1

// String returns the name that RFC 5880 gives the diagnostic.
func (d Diag) String() string {
	names := [...]string{"No Diagnostic", "Control Detection Time Expired", "Echo Function Failed",
		"Neighbor Signaled Session Down", "Forwarding Plane Reset", "Path Down", "Concatenated Path Down",
		"Administratively Down", "Reverse Concatenated Path Down"}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("Diagnostic %d", uint8(d))
}
