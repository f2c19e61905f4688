package report

import "time"

// Plan is the answer to plan: what failover would do, without doing it.
type Plan struct {
	// Answer is the worst of the hand-overs, as in a Verdict.
	Answer    string    `json:"answer"`
	Handovers []Planned `json:"handovers"`
}

// Planned is the hand-over of one group.
type Planned struct {
	Group string `json:"group"`
	// To are the peers that could take over, the likeliest first.
	To []Successor `json:"to"`
	// Check judges this hand-over: its reasons are what it is refused for, its
	// warnings what it would cost more.
	Check Verdict `json:"check"`
	// Gap is that of the last planned hand-over, in seconds, and GapAt when it was;
	// nil for none since the start.
	Gap   *float64   `json:"gap_seconds,omitempty"`
	GapAt *time.Time `json:"gap_at,omitempty"`
	// Negotiates is how many tunnels the IKE daemon of the new MASTER negotiates
	// beside the SAs in use, which carry the traffic meanwhile.
	Negotiates int `json:"negotiates"`
	// HoldBack are the peers that would be asked to hold back for the one that is
	// named; Unasked is how many peers of the configuration could not be asked.
	HoldBack []string `json:"hold_back"`
	Unasked  int      `json:"unasked"`
}

// Successor is a peer that could take over.
type Successor struct {
	Peer string `json:"peer"`
	Host string `json:"host"` // "" if it has not told
}
