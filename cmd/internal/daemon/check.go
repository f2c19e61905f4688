package daemon

import (
	"fmt"
	"io"
)

// Checked ends -n for a configuration that could be read: warnings and what is refused
// go to stderr. Where nothing is refused, stdout has one line that says so, or, with
// -v, the configuration in normal form as show prints it, and nothing else. It returns
// the exit code.
func Checked[E error](f Flags, warnings, refused []E, show func(io.Writer) error, stdout, stderr io.Writer) int {
	for _, list := range [][]E{warnings, refused} {
		for _, e := range list {
			fmt.Fprintln(stderr, e)
		}
	}
	if f.Verbose > 0 {
		if err := show(stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return ExitFailure
		}
	}
	switch {
	case len(refused) > 0:
		return ExitConfig
	case f.Verbose == 0:
		fmt.Fprintln(stdout, f.Config+": configuration OK")
	}
	return ExitOK
}
