package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"

	"sasyncd/cmd/internal/spell"
)

// Help describes one command of a control program.
type Help struct {
	// Forms are the ways to write it, each without the program's name.
	Forms []string
	// Text says what it does, in lines of at most 80 columns. Blanks around it do not
	// count.
	Text string
	// Example is a command line, without the program's name.
	Example string
}

// Helps are the commands of a program, by verb.
type Helps map[string]Help

// Usage returns the forms of one command, as a usage message has them.
func (h Helps) Usage(program, verb string) string {
	return "usage: " + program + " " + strings.Join(h[verb].Forms, "\n       "+program+" ")
}

// Unknown says that there is no such command, and which one was probably meant.
func (h Helps) Unknown(verb string) string {
	return fmt.Sprintf("there is no command %q", verb) + suggestion(verb, slices.Sorted(maps.Keys(h)))
}

// Explain prints the help that a command line asks for, by -h or by the command help:
// of the command that it names, else of the program. It returns the exit code.
func (h Helps) Explain(program string, f ControlFlags, stdout, stderr io.Writer) int {
	args := f.Args
	if len(args) > 0 && args[0] == verbHelp {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(stdout, f.Usage)
		return ExitOK
	}
	x, ok := h[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "%s: %s\n", program, h.Unknown(args[0]))
		return ExitUsage
	}
	fmt.Fprintf(stdout, "%s\n\n%s\n\nexample: %s %s\n%[3]s(8) has the details.\n", h.Usage(program, args[0]),
		strings.TrimSpace(x.Text), program, x.Example)
	return ExitOK
}

const verbHelp = "help"

// WantsHelp reports whether a command line asks for help instead of a command.
func (f ControlFlags) WantsHelp() bool { return f.Help || len(f.Args) > 0 && f.Args[0] == verbHelp }

// Hint says what to do where a daemon could not be asked, "" for other errors. It is
// for people only: scripts have the exit code.
func Hint(program string, err error) string {
	_, dialled := errors.AsType[*net.OpError](err)
	switch {
	case !dialled && !errors.Is(err, ErrUnreachable):
		return ""
	case errors.Is(err, fs.ErrPermission):
		return "run it as root, or as a user who may open the control socket"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("is %s running? systemctl start %[1]s; journalctl -u %[1]s says why it ended", program)
	}
	return fmt.Sprintf("is %s running? systemctl status %[1]s; journalctl -u %[1]s", program)
}

// suggestion names the word that was probably meant by one that is none of words.
func suggestion(word string, words []string) string {
	if n := spell.Nearest(word, words); n != "" {
		return ", did you mean " + n + "?"
	}
	return ""
}
