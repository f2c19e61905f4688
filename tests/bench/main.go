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
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"sasyncd/tests/bench/bare"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// What the guest cannot see of its host.
const (
	envProcessor = "BENCH_PROCESSOR"
	envLoad      = "BENCH_LOAD"
	envCost      = "BENCH_COST"
)

var (
	version = flag.String("version", "unknown", "what the sources are, for the report")
	page    = flag.String("report", "", "do not measure: put the parts of a run, JSON files that follow, together "+
		"and their table into this page")
	drills = flag.String("drills", "docs/reliability.json", "with -report: what the drills have shown")
)

func main() {
	bare.Main()
	flag.Parse()
	if *page != "" {
		if err := report(*page, *drills, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if !harness.Guest() {
		os.Setenv(envProcessor, result.Processor())
		os.Setenv(envLoad, result.Load())
		cost, err := json.Marshal(result.Measure())
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Setenv(envCost, string(cost))
	}
	options := []harness.Option{harness.Memory(3 << 30), harness.Timeout(limit)}
	if profiling() {
		options = append(options, harness.Build("-tags=profile")) // flags go first
	}
	os.Exit(harness.BootOrRun(run, append(options, scenario.Options()...)...))
}

// parts are what is measured, in the order of the report.
var parts = []struct {
	name string
	f    func(t lab.T) []result.Line
}{
	{"unplanned", unplanned},
	{"planned", planned},
	{"alone", alone},
	{"snapshot", snapshot},
	{"copies", copies},
	{"latency", latency},
	{"churn", churn},
	{"counters", counters},
	{"recovery", recovery},
	{"costs", costs},
	{"heap", heap},
	{"size", size},
}

// What runs in a guest takes some 7 minutes. On a busy host it takes longer: no
// part begins after lastStart, and limit ends what hangs.
const (
	lastStart = 9 * time.Minute
	limit     = 20 * time.Minute
)

func run() int {
	if profiling() {
		if err := os.Setenv("SASYNCD_PROFILE", harness.ArtifactDir()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	r := result.Report{Version: *version, Processor: os.Getenv(envProcessor), Go: runtime.Version(),
		At: time.Now().UTC(), Load: os.Getenv(envLoad)}
	machine := result.Machine(harness.Guest())
	for _, p := range parts {
		if only := os.Getenv("BENCH_ONLY"); only != "" && !slices.Contains(strings.Fields(only), p.name) {
			continue
		}
		if time.Since(r.At) > lastStart {
			r.Failed = append(r.Failed, p.name+": no time was left")
			continue
		}
		began := time.Now()
		var lines []result.Line
		if lab.RunProgram(p.name, func(t *lab.Program) { lines = p.f(t) }) {
			r.Failed = append(r.Failed, p.name)
		}
		for _, l := range lines {
			l.Machine = machine
			r.Lines = append(r.Lines, l)
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %.1f s\n", p.name, time.Since(began).Seconds())
	}
	r.Seconds = int(time.Since(r.At).Seconds())
	if err := r.Encode(os.Stdout); err != nil || len(r.Failed) > 0 {
		return 1
	}
	return 0
}

// report puts the parts of a run together: the table on standard error, all as
// JSON on standard output, and the table into a page.
func report(page, drills string, parts []string) error {
	r, err := result.Merge(parts...)
	if err != nil {
		return err
	}
	if err := errors.Join(r.Drills(drills), r.Print(os.Stderr), r.Publish(page)); err != nil {
		return err
	}
	return r.Encode(os.Stdout)
}

// costs: what the guest makes of the little that everything is made of. It says
// how much of a figure is the guest's.
func costs(t lab.T) []result.Line {
	if !harness.Guest() {
		return nil
	}
	var host result.Cost
	if err := json.Unmarshal([]byte(os.Getenv(envCost)), &host); err != nil {
		t.Fatalf("costs on the host: %v", err)
	}
	return result.Measure().Lines(host)
}
