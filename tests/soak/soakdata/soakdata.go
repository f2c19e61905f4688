// Package soakdata is what a soak run writes and its report reads.
package soakdata

import "time"

// Run is one run, as JSON. Times are seconds since its begin.
type Run struct {
	Version   string    `json:"version"` // of the sources, "unknown" outside a repository
	Kernel    string    `json:"kernel"`
	Guest     bool      `json:"user_mode_linux"`
	Processor string    `json:"processor"`
	Go        string    `json:"go"`
	At        time.Time `json:"at"`
	Seed      uint64    `json:"seed"`
	Tunnels   int       `json:"tunnels"`
	Rate      int       `json:"rekeys_per_minute"` // that were to be made
	Took      float64   `json:"took_seconds"`
	Rekeys    int       `json:"rekeys"` // that were made

	Samples []Sample `json:"samples"`
	Faults  []Fault  `json:"faults"`

	// Traffic through the tunnels meanwhile.
	Sent      int `json:"packets_sent"`
	Lost      int `json:"packets_lost"`
	Twice     int `json:"sequence_numbers_twice"`
	Refused   int `json:"packets_refused"`
	Plaintext int `json:"packets_in_plaintext"`

	// Differences between the gateways' tables at the end, 0 if they are equal.
	Differences int  `json:"differences_at_end"`
	SAs         int  `json:"sas_at_end"`
	Policies    int  `json:"policies_at_end"`
	Failed      bool `json:"failed"`
}

// Sample is what one gateway's metrics said at a moment.
type Sample struct {
	T       float64 `json:"t"`
	Node    string  `json:"node"`
	Role    string  `json:"role"` // "" when nobody answered
	Lag     float64 `json:"lag"`  // seconds; of a master, else 0
	InSync  bool    `json:"in_sync"`
	SAs     float64 `json:"sas"`
	Repairs float64 `json:"repairs"`
	Rekeys  int     `json:"rekeys"` // of the whole run so far
	Sasyncd Process `json:"sasyncd"`
	Carpd   Process `json:"carpd"`
}

// Process is what a daemon uses. All is 0 while it does not answer.
type Process struct {
	RSS        float64 `json:"rss"` // bytes
	FDs        float64 `json:"fds"`
	Goroutines float64 `json:"goroutines"`
	CPU        float64 `json:"cpu"` // seconds since its start
}

// Fault is one thing that was done, and what came of it.
type Fault struct {
	T    float64 `json:"t"`
	What string  `json:"what"`
	Node string  `json:"node"`
	// Lasted is how long it was left so, Fit how long it took from its end until
	// a failover would work again, with a lag below a second, Equal until the
	// tables were equal too. All in seconds; Fit and Equal are -1 for never.
	Lasted float64 `json:"lasted"`
	Fit    float64 `json:"fit"`
	Equal  float64 `json:"equal"`
	// Lag is the largest that the master owned to meanwhile.
	Lag     float64 `json:"lag"`
	Refused int     `json:"refused"` // packets, for their numbers
}
