package gate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Run is one run of a gate. It holds only what the run itself has shown.
type Run struct {
	Gate    string    `json:"gate"`
	Commit  string    `json:"commit"`
	Began   time.Time `json:"began"`
	Seconds int       `json:"seconds"`
	Exit    int       `json:"exit"` // status of make; -1 when a signal ended it
	Machine string    `json:"machine"`
	// Settings are variables of the environment that change what the gate does.
	Settings []string `json:"settings,omitempty"`
	// Lines are those in which go test says how it ended. Where there are none, Last
	// is the last line of the log.
	Lines []string `json:"lines,omitempty"`
	Last  string   `json:"last_line,omitempty"`
	// Ground is of what the ground was made on which it ran.
	Ground string `json:"ground,omitempty"`
	// Wrote are the files of the checkout that the run has changed.
	Wrote []string `json:"wrote,omitempty"`
	// Areas are those of the commit's tree that the gate depends on, with their digests.
	Areas map[string]string `json:"areas,omitempty"`
}

// OK reports whether the gate has passed.
func (r *Run) OK() bool { return r.Exit == 0 }

// Results holds the last run of each gate.
type Results struct {
	Runs []Run `json:"runs"`
}

// Decode reads what Encode has made. Nothing at all holds no results.
func Decode(b []byte) (*Results, error) {
	r := new(Results)
	if len(bytes.TrimSpace(b)) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	return r, nil
}

// Encode writes the results in the order of the list. What is not in the list any
// more is left out.
func (r *Results) Encode(list []Gate) ([]byte, error) {
	sorted := Results{Runs: []Run{}}
	for _, g := range list {
		if last := r.Last(g.Name); last != nil {
			sorted.Runs = append(sorted.Runs, *last)
		}
	}
	b, err := json.MarshalIndent(sorted, "", " ")
	return append(b, '\n'), err
}

// Last returns the last run of a gate, or nil.
func (r *Results) Last(name string) *Run {
	if i := slices.IndexFunc(r.Runs, func(o Run) bool { return o.Gate == name }); i >= 0 {
		return &r.Runs[i]
	}
	return nil
}

// Put takes a run over, whatever came of it, unless a later one of its gate is known.
func (r *Results) Put(run Run) {
	switch last := r.Last(run.Gate); {
	case last == nil:
		r.Runs = append(r.Runs, run)
	case !last.Began.After(run.Began):
		*last = run
	}
}

// ParseLog takes from a log the lines in which go test says how it ended: "ok" and
// "FAIL" of packages, "--- FAIL" and "--- SKIP" of tests and of their parts, and a panic
// at column zero, which is a time limit as a rule. Where there are none, it returns the last
// line that is not make's own.
func ParseLog(log string) (lines []string, last string) {
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, " \t\r\n")
		if closing(line) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		if line != "" && !strings.HasPrefix(line, "make: ") && !strings.HasPrefix(line, "make[") {
			last = strings.TrimSpace(line)
		}
	}
	if len(lines) > 0 {
		return lines, ""
	}
	return nil, last
}

// ParseGround takes from a log the line in which a ground says of what it was made.
func ParseGround(log string) string {
	for line := range strings.Lines(log) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "ground: made of "); ok {
			return text
		}
	}
	return ""
}

// closing reports whether a line is one of those. A part of a test is indented, and
// its name has a slash: other indented lines are what a test prints of another one.
func closing(line string) bool {
	for _, prefix := range []string{"ok \t", "ok  \t", "FAIL\t", "--- FAIL: ", "--- SKIP: ", "panic: "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	for _, prefix := range []string{"--- FAIL: ", "--- SKIP: "} {
		part, found := strings.CutPrefix(strings.TrimLeft(line, " "), prefix)
		if name, _, _ := strings.Cut(part, " "); found && strings.Contains(name, "/") {
			return true
		}
	}
	return false
}

// Outcome says in one line how a run ended: how many packages passed, or what failed
// first, and which tests did not run.
func (r *Run) Outcome() string {
	var text string
	switch {
	case r.OK():
		text = "ok"
		n := 0
		for _, l := range r.Lines {
			if strings.HasPrefix(l, "ok ") {
				n++
			}
		}
		if n > 1 {
			text += fmt.Sprintf(", %d packages", n)
		}
	case r.Exit < 0:
		text = "failed, ended by a signal"
	default:
		text = fmt.Sprintf("failed, exit status %d", r.Exit)
	}
	if !r.OK() {
		if why := r.failures(); len(why) > 3 {
			text += fmt.Sprintf(": %s, and %d more", strings.Join(why[:3], ", "), len(why)-3)
		} else if len(why) > 0 {
			text += ": " + strings.Join(why, ", ")
		}
	}
	var skipped []string
	for _, l := range r.Lines {
		if name, ok := strings.CutPrefix(l, "--- SKIP: "); ok {
			name, _, _ = strings.Cut(name, " ")
			skipped = append(skipped, name)
		}
	}
	if len(skipped) > 0 {
		text += "; skipped: " + strings.Join(skipped, ", ")
	}
	if len(r.Settings) > 0 {
		text += " (" + strings.Join(r.Settings, ", ") + ")"
	}
	return text
}

// failures are the tests that failed, without their parts, and what else the log
// says: a panic, or packages whose failure no test explains.
func (r *Run) failures() []string {
	var tests, packages []string
	for _, l := range r.Lines {
		name, test := strings.CutPrefix(l, "--- FAIL: ")
		name, _, _ = strings.Cut(name, " ")
		switch {
		case test && !strings.Contains(name, "/"):
			tests = append(tests, name)
		case strings.HasPrefix(l, "panic: "):
			tests = append(tests, l)
		case strings.HasPrefix(l, "FAIL "):
			packages = append(packages, strings.TrimPrefix(l, "FAIL "))
		}
	}
	switch {
	case len(tests) > 0:
		return tests
	case len(packages) > 0:
		return packages
	case r.Last != "":
		return []string{r.Last}
	}
	return nil
}
