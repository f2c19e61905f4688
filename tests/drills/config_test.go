package drills

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sasyncd/tests/harness"
)

// A mistake in a configuration is named by file, line and column, with what
// would be right, and the daemon does not start.
func TestConfigurationErrors(t *testing.T) {
	for _, tc := range []struct {
		program, name, conf string
		mode                os.FileMode
		want                []string // regular expressions, one per line expected
	}{
		{"sasyncd", "unknown keyword", "interface outside\npere 10.9.0.12\nsharedkey 0x" + strings.Repeat("ab", 32) +
			"\n", 0o600,
			[]string{`:2:1: .*pere.*peer`}},
		{"sasyncd", "several", "interface outside\npeer 10.9.0.12\n  sharedkey 0x1234\nreplay interval soon\n", 0o600,
			[]string{`:3:13: `, `:4:17: .*soon`}},
		{"sasyncd", "open to others", "interface outside\npeer 10.9.0.12\nsharedkey 0x" + strings.Repeat("ab", 32) +
			"\n", 0o644,
			[]string{`0644|others`}},
		{"carpd", "number out of range", "vrrp outside { carpdev wan0\n  vrid 300 address 192.0.2.1/32 }\n", 0o600,
			[]string{`:2:8: .*300.*255`}},
		{"carpd", "unknown group", "vrrp outside { carpdev wan0 vrid 1 address 192.0.2.1 group nosuch }\n", 0o600,
			[]string{`:1:\d+: .*nosuch`}},
	} {
		t.Run(tc.program+" "+tc.name, func(t *testing.T) {
			bin, err := harness.Binary(tc.program)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), tc.program+".conf")
			if err := os.WriteFile(file, []byte(tc.conf), tc.mode); err != nil {
				t.Fatal(err)
			}
			for _, flags := range []string{"-nc", "-dc"} {
				out, err := exec.CommandContext(t.Context(), bin, flags, file).CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 78 {
					t.Errorf("%s %s: %v, want exit code 78\n%s", tc.program, flags, err, out)
				}
				for _, want := range tc.want {
					if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(file) + `.*` + want).Match(out) {
						t.Errorf("%s %s says\n%s\nwant a line for %s", tc.program, flags, out, want)
					}
				}
			}
		})
	}
}
