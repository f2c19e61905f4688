package report

import (
	"time"

	"sasyncd/sync/engine"
)

// Last is the answer to last.
type Last struct {
	Groups []GroupLast `json:"groups"`
}

// GroupLast are the failovers of a group that this node took part in.
type GroupLast struct {
	Group     string     `json:"group"`
	Failovers []Timeline `json:"failovers"` // the latest first
}

// Timeline is a failover with its steps.
type Timeline struct {
	engine.Failover
	// Began is the last sign of the old MASTER: its last advertisement, its resignation,
	// or at a hand-over its fence.
	Began time.Time `json:"began"`
	// Slowest is the step that took longest, SlowestSeconds for how long; traffic does
	// not count.
	Slowest        string  `json:"slowest"`
	SlowestSeconds float64 `json:"slowest_seconds"`
}

// NewTimeline returns the timeline of a failover.
func NewTimeline(f engine.Failover) Timeline {
	t := Timeline{Failover: f, Began: f.At.Add(-time.Duration(f.GapSeconds * float64(time.Second)))}
	t.Slowest, t.SlowestSeconds = f.Slowest()
	if t.Steps == nil {
		t.Steps = []engine.FailoverStep{}
	}
	return t
}

// stepWords says what is done at the end of each step.
var stepWords = map[string]string{
	engine.StepHandedOver:   "the old MASTER has handed over its counters",
	engine.StepDecided:      "the election takes over",
	engine.StepPrepared:     "the kernel is prepared",
	engine.StepAddresses:    "the virtual addresses are configured",
	engine.StepFence:        "the fence is open",
	engine.StepCountersSent: "a standby holds the final counters",
	engine.StepMaster:       "MASTER",
	engine.StepKeying:       "the IKE daemon is active",
	engine.StepPublished:    "the tables are published to the standbys",
	engine.StepTraffic:      "packets have come in",
}

// StepWords says for people what is done at the end of a step.
func StepWords(step string) string {
	if w, ok := stepWords[step]; ok {
		return w
	}
	return step
}

// FirstWords says for people how a failover began.
func (t Timeline) FirstWords() string {
	switch {
	case t.From == "":
		return "nobody was MASTER"
	case t.From == engine.ThisNode:
		return "this node was fenced"
	case t.Planned:
		return "last sign of " + t.From + ": its fence or its resignation"
	}
	return "last sign of " + t.From
}
