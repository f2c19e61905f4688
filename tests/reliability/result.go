// Package reliability is what drills have shown of a pair's reliability, and how
// docs/reliability.md is made of it: drills print results, the generator takes
// them from their output into docs/reliability.json and renders that.
package reliability

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Mark is what a line of the drill's output begins with that carries a result.
const Mark = "matrix-result "

// Verdicts of a cell.
const (
	OK     = "ok"
	Failed = "failed"
	NA     = "n/a"
)

// Cell is what came of one fault at one moment.
type Cell struct {
	Fault   string `json:"fault"`
	Moment  string `json:"moment"`
	Verdict string `json:"verdict"`
	// Reason is why the cell makes no sense, or what failed.
	Reason string `json:"reason,omitempty"`
	// GapMS is the longest time without a packet on any flow, in milliseconds,
	// BudgetMS what it may be; -1 where no traffic was metered.
	GapMS    int `json:"gap_ms"`
	BudgetMS int `json:"budget_ms"`
	// Changes is how many times a node became master.
	Changes int     `json:"changes"`
	Seconds float64 `json:"seconds"`
	Stamp
}

// Stamp says where a result comes from.
type Stamp struct {
	Seed    uint64 `json:"seed"`
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	Date    string `json:"date"`
}

// Run is what came of a run of failovers.
type Run struct {
	Failovers  int `json:"failovers"`
	Seconds    int `json:"seconds"`
	Sent       int `json:"packets_sent"`
	Lost       int `json:"packets_lost"`
	ESP        int `json:"esp_packets"`
	Duplicates int `json:"sent_twice"`
	Refused    int `json:"refused"`
	Plaintext  int `json:"plaintext"`
	Leaked     int `json:"leaked"`
	// Again is how many more were cancelled by the successor, whose machine stood
	// still, and tried again.
	Again  int   `json:"again"`
	Ways   []Way `json:"ways"`
	Use    []Use `json:"use"`
	Failed bool  `json:"failed"`
	Stamp
}

// Way is a kind of failover, with the longest gaps of its failovers.
type Way struct {
	Name     string `json:"name"`
	Times    int    `json:"times"`
	MedianMS int    `json:"median_ms"`
	P95MS    int    `json:"p95_ms"`
	WorstMS  int    `json:"worst_ms"`
	Lost     int    `json:"lost"`
}

// Use is what a daemon that lived through all of a run used early and late.
type Use struct {
	Daemon string `json:"daemon"`
	What   string `json:"what"`
	Early  int    `json:"early"`
	Late   int    `json:"late"`
	Allow  int    `json:"allow"`
}

// Mutant is a defect that was planted, and what noticed it.
type Mutant struct {
	Invariant string `json:"invariant"`
	Name      string `json:"name"`
	File      string `json:"file"`
	By        string `json:"by"`
	Verdict   string `json:"verdict"` // caught, or not
	Stamp
}

// Prediction is what "sasyncctl check" said in a situation, and what then came of a
// planned failover and of a power cut.
type Prediction struct {
	Situation string   `json:"situation"`
	Where     string   `json:"where"` // it is wrong
	Gateways  int      `json:"gateways"`
	Election  string   `json:"election"`
	ESP       bool     `json:"esp"`
	Said      []string `json:"said"`  // by gateway: yes, no, cannot tell, no answer
	Codes     []string `json:"codes"` // of the findings, each behind its severity
	Planned   string   `json:"planned"`
	Cut       string   `json:"power_cut"`
	Verdict   string   `json:"verdict"` // OK, FalseYes or FalseNo
	Why       string   `json:"why,omitempty"`
	Seconds   float64  `json:"seconds"`
	Stamp
}

// Verdicts of a Prediction besides OK.
const (
	FalseYes = "false yes" // a member said yes, and a failover did not work
	FalseNo  = "false no"  // a member said no, and both worked
)

// Leak is what a gateway sent in plaintext in one situation.
type Leak struct {
	Row   string `json:"row"`
	Guard string `json:"guard"` // of sasyncd.conf
	// Plaintext is how many packets left that should have been encrypted, and GapMS the time
	// from the first to the last of them.
	Plaintext int `json:"plaintext"`
	GapMS     int `json:"gap_ms"`
	Dropped   int `json:"dropped"` // packets, by the guard
	Lost      int `json:"lost"`    // packets that no policy was for
	Stamp
}

// Results are all that is known.
type Results struct {
	Cells       []Cell       `json:"cells"`
	Runs        []Run        `json:"runs"`
	Mutants     []Mutant     `json:"mutants"`
	Predictions []Prediction `json:"predictions"`
	Leaks       []Leak       `json:"leaks,omitempty"`
}

// line is what follows a Mark: one of these.
type line struct {
	Cell   *Cell   `json:"cell,omitempty"`
	Run    *Run    `json:"run,omitempty"`
	Mutant *Mutant `json:"mutant,omitempty"`

	Prediction *Prediction `json:"prediction,omitempty"`
	Leak       *Leak       `json:"leak,omitempty"`
}

// Print writes a result as a line of output: a *Cell, *Run, *Mutant,
// *Prediction or *Leak.
func Print(w io.Writer, result any) error {
	var l line
	switch r := result.(type) {
	case *Cell:
		l.Cell = r
	case *Run:
		l.Run = r
	case *Mutant:
		l.Mutant = r
	case *Prediction:
		l.Prediction = r
	case *Leak:
		l.Leak = r
	default:
		return fmt.Errorf("print a result: %T is none", result)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("print a result: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", Mark, b)
	return err
}

// Add takes the results from a drill's output; what is known of the same cell,
// mutant or situation gives way, and runs that had no more failovers do.
func (r *Results) Add(output io.Reader) error {
	sc := bufio.NewScanner(output)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		_, text, ok := strings.Cut(sc.Text(), Mark)
		if !ok {
			continue
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return fmt.Errorf("read result %q: %w", text, err)
		}
		switch {
		case l.Cell != nil:
			r.Cells = replace(r.Cells, *l.Cell, func(c Cell) string { return c.Fault + "/" + c.Moment })
		case l.Run != nil:
			r.Runs = append(slices.DeleteFunc(r.Runs, func(o Run) bool { return o.Failovers <= l.Run.Failovers }),
				*l.Run)
		case l.Mutant != nil:
			r.Mutants = replace(r.Mutants, *l.Mutant, func(m Mutant) string { return m.Name })
		case l.Leak != nil:
			r.Leaks = replace(r.Leaks, *l.Leak, func(x Leak) string { return x.Row + "/" + x.Guard + "/" + x.Kernel })
		case l.Prediction != nil:
			r.Predictions = replace(r.Predictions, *l.Prediction, func(p Prediction) string {
				return p.election() +
					p.Where + p.Situation
			})
		}
	}
	return sc.Err()
}

func replace[T any](list []T, x T, key func(T) string) []T {
	if i := slices.IndexFunc(list, func(o T) bool { return key(o) == key(x) }); i >= 0 {
		list[i] = x
		return list
	}
	return append(list, x)
}
