package native

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"

	"sasyncd/tests/check"
	"sasyncd/tests/harness"
	"sasyncd/tests/reliability"
)

var (
	all     = flag.Bool("all", false, "all situations, not only the quick ones")
	only    = flag.String("only", "", "a regular expression: only situations with such a name, or such an election")
	version = flag.String("version", "unknown", "of what is tested, for the report")
)

// sideBySide is how many failovers run at a time: they wait for most of theirs.
const sideBySide = "4"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", sideBySide); err != nil { // a flag on the command line counts
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	harness.Main(m, harness.Plain(), harness.Beside(), harness.Build("./cmd/carpd", "./cmd/sasyncd", "./cmd/sasyncctl",
		"./cmd/carpctl"))
}

// TestPrediction holds what check says against what then happens.
func TestPrediction(t *testing.T) {
	var mu sync.Mutex
	var results []*reliability.Prediction
	stamp := check.Stamp(*version)
	pick := regexp.MustCompile(*only)
	t.Run("situations", func(t *testing.T) {
		for i, it := range check.Situations() {
			if it.ESP || !it.Quick && !*all && *only == "" || !pick.MatchString(it.Label()) {
				continue
			}
			t.Run(fmt.Sprintf("%02d %s", i, it.Name), func(t *testing.T) {
				t.Parallel()
				check.Run(t, &it, stamp, func(p *reliability.Prediction) {
					mu.Lock()
					defer mu.Unlock()
					results = append(results, p)
				})
			})
		}
	})
	if *all && *only == "" {
		check.Few(t, results)
	}
	if len(results) == 0 {
		t.Error("no situation was tried")
	}
}
