// Command soak has a pair of gateways live through an hour: tunnels are rekeyed
// all the time, traffic flows, and one fault follows the other. After each, a
// failover must work again, the lag be that of a quiet pair, and the tables be
// equal. "make soak" runs it.
//
// It writes what it has seen as JSON to standard output (package soakdata), from
// which tests/soak/report makes docs/soak.md, and fails when something did not
// recover, was sent twice or in plaintext.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
	"sasyncd/tests/soak/soakdata"
)

func main() {
	duration := flag.Duration("duration", time.Hour, "how long faults are made")
	seed := flag.Uint64("seed", 0, "of faults and keys; 0 takes one from the clock")
	tunnels := flag.Int("tunnels", 500, "number of tunnels, each with two SAs and three policies")
	rate := flag.Int("rate", 1000, "rekeys a minute")
	commit := flag.String("commit", "unknown", "what the sources are, for the report")
	only := flag.String("only", "", "only faults whose names contain this, for instance \"LAN cut\"")
	flag.Parse()
	if !harness.Guest() {
		os.Setenv(envProcessor, processor())
	}
	// It measures seconds, and nobody shall wait an hour for the lock.
	options := append(scenario.Options(), harness.Memory(1<<30), harness.Timeout(*duration+15*time.Minute),
		harness.Beside())
	os.Exit(harness.BootOrRun(func() int {
		d := &soakdata.Run{Version: *commit, Kernel: release(), Guest: harness.Guest(),
			Processor: os.Getenv(envProcessor), Go: runtime.Version(),
			At: time.Now().UTC(), Seed: *seed, Tunnels: *tunnels, Rate: *rate}
		if d.Seed == 0 {
			d.Seed = uint64(d.At.UnixNano())
		}
		s := &soak{Run: d, duration: *duration, only: *only}
		d.Failed = lab.RunProgram("soak", s.run)
		if err := json.NewEncoder(os.Stdout).Encode(d); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if d.Failed {
			return 1
		}
		return 0
	}, options...))
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// envProcessor tells the guest, whose own says nothing, the host's processor.
const envProcessor = "SOAK_PROCESSOR"

// processor is the model as /proc/cpuinfo has it.
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
