package guest

import (
	"flag"
	"fmt"
	"regexp"
	"testing"

	"sasyncd/tests/check"
	"sasyncd/tests/harness"
	"sasyncd/tests/reliability"
	"sasyncd/tests/scenario"
)

var (
	_       = flag.Bool("all", false, "as in package native; here it is always all")
	only    = flag.String("only", "", "a regular expression: only situations with such a name")
	version = flag.String("version", "unknown", "of what is tested, for the report")
)

func TestMain(m *testing.M) {
	harness.Main(m, harness.Build(append(scenario.Programs(), "./cmd/carpctl")...), harness.Memory(1<<30))
}

// TestPrediction holds what check says against what then happens, with ESP.
func TestPrediction(t *testing.T) {
	pick := regexp.MustCompile(*only)
	stamp := check.Stamp(*version)
	for i, it := range check.Situations() {
		if it.ESP && pick.MatchString(it.Label()) {
			t.Run(fmt.Sprintf("%02d %s", i, it.Name),
				func(t *testing.T) { check.Run(t, &it, stamp, func(*reliability.Prediction) {}) })
		}
	}
}
