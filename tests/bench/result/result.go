// Package result is what "make bench" measures: lines of a table, and what the
// table is printed, written and published from. Each line says on which machine
// it was measured, because one run has several.
package result

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Verdicts of a line.
const (
	Met    = "met"
	Missed = "missed"
	// Beside is the verdict of what has no target: peers, and parts of a figure.
	Beside = "for comparison"
	// NotShown is the verdict of a target that this run says nothing about.
	NotShown = "not shown"
)

// Line is one line of the table.
type Line struct {
	What   string `json:"what"`
	Target string `json:"target,omitempty"`
	Figure string `json:"figure"`
	// Floor is what the figure is compared with: the least that the kernel needs,
	// or a peer.
	Floor string `json:"floor,omitempty"`
	// Ratio of the figure to the floor, in the target's sense; 0 without floor.
	Ratio   float64 `json:"ratio,omitempty"`
	Verdict string  `json:"verdict"`
	Machine string  `json:"machine"`
	Note    string  `json:"note,omitempty"`
}

// Report is a run, or a part of one.
type Report struct {
	Version   string    `json:"version"`
	Processor string    `json:"processor"`
	Go        string    `json:"go"`
	At        time.Time `json:"at"`
	Seconds   int       `json:"seconds"`
	// Load is the host's mean load of the minute before; anything above a few
	// tenths was other work.
	Load  string `json:"load,omitempty"`
	Lines []Line `json:"lines"`
	// Failed names what could not be measured.
	Failed []string `json:"failed,omitempty"`
}

// Of is the verdict on whether a target is reached.
func Of(met bool) string {
	if met {
		return Met
	}
	return Missed
}

// Machine names the machine this process runs on; guest says that it is a
// guest of user-mode-linux.
func Machine(guest bool) string {
	var u unix.Utsname
	release := "unknown"
	if err := unix.Uname(&u); err == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	name := "native"
	if guest {
		name = "user-mode-linux"
	}
	plural := "s"
	if runtime.NumCPU() == 1 {
		plural = ""
	}
	return fmt.Sprintf("%s %s, %d processor%s", name, release, runtime.NumCPU(), plural)
}

// Processor is the model as /proc/cpuinfo has it; of user-mode-linux, the host's.
func Processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for _, key := range []string{"model name", "host"} {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
	}
	return "unknown processor"
}

// Load reads the mean load of the last minute, "" where there is none.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}

func (l *Line) ratio() string {
	if l.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", l.Ratio)
}

// Print writes the table for a terminal.
func (r *Report) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n", r.heading())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\ttarget\tfigure\tfloor or peer\tratio\tverdict\tmachine")
	for i := range r.Lines {
		l := &r.Lines[i]
		verdict := l.Verdict
		if verdict == Missed {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.What, l.Target, l.Figure, l.Floor, l.ratio(), verdict,
			l.Machine)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, n := range r.notes() {
		fmt.Fprintln(out, n)
	}
	return nil
}

func (r *Report) heading() string {
	s := fmt.Sprintf("Run of %s, version %s, %s, %s, in %d s", r.At.Format("2006-01-02 15:04"), r.Version, r.Go,
		r.Processor, r.Seconds)
	if r.Load != "" {
		s += ", load of the host before it " + r.Load
	}
	return s + "."
}

// notes are what belongs below the table.
func (r *Report) notes() (list []string) {
	for _, l := range r.Lines {
		if n := l.What + ": " + l.Note; l.Note != "" && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	for _, f := range r.Failed {
		list = append(list, "could not be measured: "+f)
	}
	return list
}

// Markdown is the table for a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	b.WriteString(r.heading() + "\n\n")
	b.WriteString("| what | target | figure | floor or peer | ratio | verdict | machine " +
		"|\n|---|---|---|---|---|---|---|\n")
	for i := range r.Lines {
		l := &r.Lines[i]
		verdict := l.Verdict
		if verdict == Missed || verdict == NotShown {
			verdict = "**" + verdict + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", l.What, l.Target, l.Figure, l.Floor, l.ratio(),
			verdict, l.Machine)
	}
	b.WriteString("\n")
	for _, n := range r.notes() {
		b.WriteString("* " + n + "\n")
	}
	return b.String()
}
