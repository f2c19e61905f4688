package daemon

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Flags are the command line of a daemon. Short flags may be combined (-dnv).
type Flags struct {
	Config  string   // -c
	Debug   bool     // -d: log plain text to standard error
	Check   bool     // -n: check the configuration and exit
	Verbose int      // -v, repeatable
	Version bool     // -V
	Help    bool     // -h
	Usage   string   // what -h prints
	Args    []string // what is not a flag
}

// DaemonFlags parses the command line of a daemon, args without its name. What
// is not a flag must be one of verbs, or VerbFormat and what Format reads, if there are
// verbs. On an error it has written the reason and
// the usage to stderr, and the program exits with ExitUsage. With -h the program
// prints Usage to standard output and exits with ExitOK.
func DaemonFlags(program, config string, args []string, stderr io.Writer, verbs ...string) (Flags, error) {
	f := Flags{}
	fs := newFlagSet(program)
	fs.StringVarP(&f.Config, "config", "c", config, "")
	fs.BoolVarP(&f.Debug, "debug", "d", false, "")
	fs.BoolVarP(&f.Check, "check", "n", false, "")
	fs.CountVarP(&f.Verbose, "verbose", "v", "")
	fs.BoolVarP(&f.Version, "version", "V", false, "")
	fs.BoolVarP(&f.Help, "help", "h", false, "")
	usage := fmt.Sprintf("usage: %s [-dhnvV] [-c file]", program)
	if len(verbs) > 0 {
		usage += fmt.Sprintf("\n       %s [-v] [-c file] %s", program, strings.Join(verbs, "|"))
		usage += fmt.Sprintf("\n       %s [-c file] %s [-dw] [file | -]", program, VerbFormat)
		verbs = append(slices.Clone(verbs), VerbFormat)
	}
	f.Usage = usage + fmt.Sprintf(daemonFlags, config, program)
	err := fs.Parse(args)
	f.Args = fs.Args()
	switch {
	case err != nil, f.Help:
	case len(f.Args) > 0 && f.Args[0] == VerbFormat && slices.Contains(verbs, VerbFormat):
	case len(f.Args) > 1:
		err = fmt.Errorf("too many arguments: %s", strings.Join(f.Args, " "))
	case len(f.Args) == 1 && !slices.Contains(verbs, f.Args[0]):
		err = fmt.Errorf("unknown argument %q%s", f.Args[0], suggestion(f.Args[0], verbs))
	}
	return f, complain(program, usage, err, stderr)
}

// daemonFlags explains the flags of a daemon.
const daemonFlags = `
  -c file  read this configuration instead of %s
  -d       log plain text to standard error
  -h       print this help
  -n       check the configuration and exit; with -v print it in normal form
  -v       log more
  -V       print the version
%s(8) has the details.`

// ControlFlags are the command line of a program that speaks to a daemon.
type ControlFlags struct {
	Socket  string   // -s
	JSON    bool     // -j
	Keys    bool     // -k, of sasyncctl
	All     bool     // -a, of sasyncctl doctor
	Force   bool     // -f, of sasyncctl failover
	DryRun  bool     // -n, --dry-run, of sasyncctl failover
	Wait    int      // -w, of sasyncctl check, in seconds; 0: do not wait
	Verbose int      // -v, repeatable; before or behind the verb
	Version bool     // -V
	Help    bool     // -h
	Usage   string   // of the program, for Helps.Explain
	Args    []string // verb and operands
}

// CtlFlags parses the command line of a control program, args without its name.
// usage lists the verbs for the usage message. Errors are as in DaemonFlags. The
// program prints help where WantsHelp says so.
func CtlFlags(program, socket string, args []string, stderr io.Writer, usage string) (ControlFlags, error) {
	f := ControlFlags{}
	fs := newFlagSet(program)
	fs.SetInterspersed(true) // `show sa -v`
	fs.StringVarP(&f.Socket, "socket", "s", socket, "")
	fs.BoolVarP(&f.JSON, "json", "j", false, "")
	letters, more := "hjvV", ""
	if program == "sasyncctl" { // carpctl has no keys to show
		fs.BoolVarP(&f.Keys, "keys", "k", false, "")
		fs.BoolVarP(&f.All, "all", "a", false, "")
		fs.BoolVarP(&f.Force, "force", "f", false, "")
		fs.BoolVarP(&f.DryRun, "dry-run", "n", false, "")
		fs.IntVarP(&f.Wait, "wait", "w", 0, "")
		letters, more = "afhjknvV", " [-w seconds]"
	}
	fs.CountVarP(&f.Verbose, "verbose", "v", "")
	fs.BoolVarP(&f.Version, "version", "V", false, "")
	fs.BoolVarP(&f.Help, "help", "h", false, "")
	err := fs.Parse(args)
	f.Args = fs.Args()
	if err == nil && len(f.Args) == 0 && !f.Version && !f.Help {
		err = fmt.Errorf("a command is missing")
	}
	usage = fmt.Sprintf("usage: %s [-%s] [-s socket]%s command ...\n%s", program, letters, more, usage)
	f.Usage = usage + fmt.Sprintf(ctlFlags, program, socket)
	return f, complain(program, usage, err, stderr)
}

// ctlFlags explains the flags that all commands of a control program have.
const ctlFlags = `

%[1]s help COMMAND says more about one of them, with an example.
Flags stand before or behind the command:
  -h         print help, of the command where there is one
  -j         print one JSON document
  -s socket  use this socket instead of %[2]s
  -v         print more
  -V         print the version
%[1]s(8) has the details.`

func newFlagSet(program string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(program, pflag.ContinueOnError)
	fs.SetInterspersed(false) // as getopt(3) of the BSDs
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	return fs
}

func complain(program, usage string, err error, stderr io.Writer) error {
	if err == nil {
		return nil
	}
	fmt.Fprintf(stderr, "%s: %v\n%s\n", program, err, usage)
	return fmt.Errorf("parse command line: %w", err)
}
