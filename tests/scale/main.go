// Command scale measures what many SAs and many standbys cost: real daemons on a
// real kernel, a gateway with a number of SAs and one to eight standbys. "make
// scale" runs it and puts the tables into docs/scale.md.
//
//	scale > scale.json              measures
//	scale -report scale.json FILE   replaces the tables in a page
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/cluster"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// Run is what was measured.
type Run struct {
	Version   string    `json:"version"`
	Kernel    string    `json:"kernel"`
	Guest     bool      `json:"user_mode_linux"`
	Processor string    `json:"processor"`
	Go        string    `json:"go"`
	At        time.Time `json:"at"`
	Beside    bool      `json:"beside_other_work"` // the machine was not the run's alone
	Rows      []Row     `json:"rows"`
}

func main() {
	report := flag.String("report", "", "put the tables of this run into the page that follows")
	commit := flag.String("commit", "unknown", "what the sources are, for the report")
	sizes := flag.String("sizes", "1000x1,10000x1,10000x2,10000x4,10000x8,100000x1", "SAs x standbys, in this order")
	beside := flag.Bool("beside", false, "do not wait for other runs on this host; figures suffer")
	flag.Parse()
	if *report != "" {
		if err := publish(*report, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, "scale:", err)
			os.Exit(1)
		}
		return
	}
	if !harness.Guest() {
		os.Setenv(envProcessor, processor())
	}
	options := append(cluster.Options(), harness.Memory(6<<30), harness.Timeout(40*time.Minute))
	if *beside {
		options = append(options, harness.Beside())
	}
	os.Exit(harness.BootOrRun(func() int {
		r := &Run{Version: *commit, Kernel: release(), Guest: harness.Guest(), Processor: os.Getenv(envProcessor),
			Go: runtime.Version(),
			At: time.Now().UTC(), Beside: *beside}
		failed := false
		for size := range strings.SplitSeq(*sizes, ",") {
			sas, standbys, _ := strings.Cut(size, "x")
			n, err1 := strconv.Atoi(sas)
			k, err2 := strconv.Atoi(standbys)
			if err1 != nil || err2 != nil || n < 1 || k < 1 {
				fmt.Fprintf(os.Stderr, "scale: %q is not SAs x standbys\n", size)
				return 2
			}
			began := time.Now()
			failed = lab.RunProgram("scale", func(t *lab.Program) { r.Rows = append(r.Rows, measure(t, n, k)) }) ||
				failed
			fmt.Fprintf(os.Stderr, "scale: %s took %.0f s\n", size, time.Since(began).Seconds())
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil || failed {
			return 1
		}
		return 0
	}, options...))
}

// envProcessor tells the guest, whose own says nothing, the host's processor.
const envProcessor = "SCALE_PROCESSOR"

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
