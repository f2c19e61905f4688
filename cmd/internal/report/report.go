// Package report is what sasyncd's control socket answers, and sasyncctl prints
// with -j: the JSON that docs/json.md documents.
package report

import (
	"cmp"
	"fmt"
	"time"

	"sasyncd/sync/compare"
	"sasyncd/sync/engine"
)

// Status is the answer to status.
type Status struct {
	engine.Status
	Version string `json:"version"`
	Host    string `json:"host"`
	// Peers are those of the configuration, in its order.
	Peers []Peer `json:"peers"`
	// Seen are the members without a session that others have passed a word of on
	// within the last seconds.
	Seen  []Seen  `json:"seen"`
	Check Verdict `json:"check"`
}

// Seen is what a member without a session says of itself by way of another. It is a
// hint, of a member that holds the key.
type Seen struct {
	Peer string  `json:"peer"` // its name in the configuration, "" for none
	Node string  `json:"node"`
	Host string  `json:"host"` // as it says
	Via  string  `json:"via"`  // the peer that passed it on
	Age  float64 `json:"age_seconds"`
	// Roles are those of its groups.
	Roles []SeenRole `json:"roles"`
}

// SeenRole is what a member is in a group.
type SeenRole struct {
	Group string `json:"group"`
	Role  string `json:"role"`
	Term  uint64 `json:"term"`
}

// Name is what people call the member.
func (s Seen) Name() string {
	return cmp.Or(s.Peer, s.Host, fmt.Sprintf("%.8s", s.Node))
}

// Link says what is the matter with the link to the member.
func (s Seen) Link() string {
	if s.Peer == "" {
		return "it is no peer of this configuration"
	}
	return "the link between you is cut"
}

// Peer is one of the configuration, or found by `peer discover`.
type Peer struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"` // with ports
	Node      string   `json:"node"`      // of the last session, "" before the first
	Kernel    string   `json:"kernel"`    // of the session
	Connected bool     `json:"connected"`
	RTT       float64  `json:"rtt_seconds"` // of the last keepalive, 0 while unknown
	// Since is when the session began; Trouble why there is none.
	Since   time.Time `json:"since,omitzero"`
	Trouble string    `json:"trouble"`
	// FoundBy is the peer that told of it, or how it was found; "" where the
	// configuration names it.
	FoundBy string `json:"found_by"`
}

// Peers is the answer to peers.
type Peers struct {
	Peers []Peer `json:"peers"`
	// Members is who gossip tells of, perhaps without a session from here.
	Members []Member `json:"members"`
}

// Member is a gateway that gossip tells of.
type Member struct {
	Node      string   `json:"node"`
	Host      string   `json:"host"`
	Alive     bool     `json:"alive"`
	Direct    bool     `json:"direct"` // there is a session from here
	Addresses []string `json:"addresses"`
	// Roles are those of its groups, as it says.
	Roles map[string]string `json:"roles"`
	// Seen is what it said last by way of another, if that was within the last seconds.
	Seen *Seen `json:"seen,omitempty"`
}

// Verdict is the answer to "would a failover work now?".
type Verdict struct {
	Fit     bool   `json:"fit"`    // Answer is yes
	Answer  string `json:"answer"` // yes, no or cannot tell
	Summary string `json:"summary"`
	// Reasons are why Answer is not yes.
	Reasons []Problem `json:"reasons"`
	// Warnings are wrong but do not stop a failover.
	Warnings []Problem `json:"warnings"`
}

// Problem is something that is wrong, and what to do.
type Problem struct {
	Code     string `json:"code"`     // one of package judge
	Severity string `json:"severity"` // fails, unknown, costs or odd
	Group    string `json:"group"`    // "" where it is about no group alone
	Member   string `json:"member"`   // a peer, judge.ThisGateway, or ""
	What     string `json:"what"`
	Remedy   string `json:"remedy"`
}

// Where is what a problem is about, for people.
func (p Problem) Where() string {
	s := ""
	if p.Group != "" {
		s = "group " + p.Group + ": "
	}
	if p.Member != "" {
		s += p.Member + ": "
	}
	return s
}

// Step is a line of progress. It is not part of the answer.
type Step struct {
	Group string `json:"group"`
	Text  string `json:"text"`
}

// Line is one line of the answer of a verb that takes its time: progress, or the
// result at the end.
type Line[T any] struct {
	Step   *Step `json:"step,omitempty"`
	Result *T    `json:"result,omitempty"`
}

// Resync is the result of resync.
type Resync struct {
	Transfers []Transfer `json:"transfers"`
}

// Transfer is one snapshot. Complete tells whether it arrived as a whole.
type Transfer struct {
	engine.Transfer
	Complete bool    `json:"complete"`
	Records  uint64  `json:"records"`
	Seconds  float64 `json:"seconds"`
}

// Failover is the result of failover.
type Failover struct {
	Handovers []Handover `json:"handovers"`
}

// Handover is that of one group. Gap is the one of engine.Failover, Took from the
// order to the successor's word that it is MASTER, both in seconds.
type Handover struct {
	Group   string   `json:"group"`
	To      string   `json:"to"` // who is MASTER now; "this node" if it came back
	OK      bool     `json:"ok"`
	Error   string   `json:"error"` // why not OK
	Gap     float64  `json:"gap_seconds"`
	Took    float64  `json:"took_seconds"`
	Holding []string `json:"held_back"` // peers that held back for it
	// Unasked is how many peers of the configuration could not be asked to.
	Unasked int `json:"unasked"`
}

// Diff is the answer to diff. Peer is who was asked, "" for what was published.
type Diff struct {
	Peer        string               `json:"peer"`
	Differences []compare.Difference `json:"differences"`
}
