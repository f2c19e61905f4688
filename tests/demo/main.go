// Demo shows a failover: two gateways, real ESP under traffic, the master's
// power is cut, the backup carries on; it returns and gets the mastership back;
// then all of it again. It prints a timeline while it runs, then a table, and
// exits with 1 when a budget was missed.
package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// limit is far beyond what the demo takes.
const limit = 5 * time.Minute

func main() {
	os.Exit(harness.BootOrRun(demo, append(scenario.Options(), harness.Timeout(limit))...))
}

func demo() int {
	var tl timeline
	var res *scenario.Result
	failed := lab.RunProgram("demo", func(t *lab.Program) { res = scenario.Run(t, tl.tell) })
	if res == nil {
		fmt.Println("\nThe demo did not get to its end.")
		return 1
	}
	fmt.Println()
	if err := res.Print(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if failed || len(res.Missed()) > 0 {
		return 1
	}
	fmt.Println("\nThe tunnels went on: same SAs, nothing refused, nothing twice, nothing in plaintext.")
	return 0
}

// timeline prints what happens, with the time since the first event.
type timeline struct {
	once  sync.Once
	start time.Time
}

func (tl *timeline) tell(at time.Time, who, what string) {
	tl.once.Do(func() { tl.start = at })
	fmt.Printf("%8.3f  %-11s  %s\n", at.Sub(tl.start).Seconds(), who, what)
}
