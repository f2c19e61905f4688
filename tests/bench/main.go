// Command bench measures replication against the figures that the project
// promises: two gateways with the real sasyncd and a real kernel, floors
// measured in the same run. "make bench" runs it.
//
// It prints a table on standard error and the same as JSON on standard output,
// and fails when something could not be measured. A missed target is reported
// and is no failure: figures depend on the machine. Where user-mode-linux has
// to serve, both gateways and the generator share one processor.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

func main() {
	if os.Getenv(bareEnv) != "" {
		os.Exit(bareMain())
	}
	options := []harness.Option{harness.Memory(3 << 30), harness.Timeout(10 * time.Minute)}
	if profiling() {
		options = append(options, harness.Build("-tags=profile"))
	}
	os.Exit(harness.BootOrRun(run, append(options, cluster.Options()...)...))
}

// Line is one line of the report.
type Line struct {
	What   string `json:"what"`
	Target string `json:"target"`
	Figure string `json:"figure"`
	Floor  string `json:"floor,omitempty"`
	// Ratio of the figure to the floor, in the target's sense; 0 without floor.
	Ratio float64 `json:"ratio,omitempty"`
	Met   bool    `json:"met"`
	Note  string  `json:"note,omitempty"`
}

// Report is the whole.
type Report struct {
	Kernel    string    `json:"kernel"`
	Processor string    `json:"processor"`
	CPUs      int       `json:"cpus"`
	Guest     bool      `json:"user_mode_linux"`
	Go        string    `json:"go"`
	At        time.Time `json:"at"`
	Lines     []Line    `json:"lines"`
}

// parts are what is measured, in the order of the report.
var parts = []struct {
	name string
	f    func(t lab.T) []Line
}{
	{"snapshot", snapshot},
	{"latency", latency},
	{"churn", churn},
	{"counters", counters},
	{"recovery", recovery},
	{"heap", heap},
}

func run() int {
	if profiling() {
		if err := os.Setenv("SASYNCD_PROFILE", harness.ArtifactDir()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	r := Report{Kernel: release(), Processor: processor(), CPUs: runtime.NumCPU(), Guest: harness.Guest(), Go: runtime.Version(), At: time.Now()}
	failed := false
	for _, p := range parts {
		if only := os.Getenv("BENCH_ONLY"); only != "" && !strings.Contains(only, p.name) {
			continue
		}
		began := time.Now()
		failed = lab.RunProgram(p.name, func(t *lab.Program) { r.Lines = append(r.Lines, p.f(t)...) }) || failed
		fmt.Fprintf(os.Stderr, "bench: %s took %.1f s\n", p.name, time.Since(began).Seconds())
	}
	print(&r)
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "\t")
	if err := out.Encode(&r); err != nil || failed {
		return 1
	}
	return 0
}

func print(r *Report) {
	fmt.Fprintf(os.Stderr, "\n%s, Linux %s, %d CPU, %s\n", r.Processor, r.Kernel, r.CPUs, r.Go)
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\ttarget\tfigure\tfloor\tratio\tverdict")
	for _, l := range r.Lines {
		verdict, ratio := "met", ""
		if !l.Met {
			verdict = "MISSED"
		}
		if l.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", l.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.What, l.Target, l.Figure, l.Floor, ratio, verdict)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for _, l := range r.Lines {
		if l.Note != "" {
			fmt.Fprintf(os.Stderr, "%s: %s\n", l.What, l.Note)
		}
	}
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// processor is the model as /proc/cpuinfo has it; of user-mode-linux, the host's.
func processor() string {
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
