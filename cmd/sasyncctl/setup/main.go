package setup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/term"
)

// Help is the help of init.
var Help = daemon.Help{
	Forms: []string{"init [FLAG ...] PEER"},
	Text: `
Configure this gateway and its peer, and start both. Run it as root on one of
them; PEER is the address of the other one on the link between them.

init makes /etc/carpd.conf, /etc/sasyncd.conf and a new key, /etc/sasyncd.key,
for both gateways, and shows the files. It copies those of the peer by ssh, has
carpd and sasyncd check them, starts both, and waits until a failover would
work.

Nothing is overwritten: if a file exists on either side, init says which and
changes nothing. A file that is as the package installed it is renamed.

On a terminal init asks for what no flag tells.
` + flagText() + `  --print                    of the peer, only print the commands
  -n, --dry-run              show all that would be done, and do nothing
Exit code: 0 a failover would work, 1 refused or failed, 2 the flags are wrong.`,
	Example: "init 10.9.0.2 --outside eth0 --outside-vip 192.0.2.1 \\\n" +
		"           --inside eth1 --inside-vip 10.1.0.1 --ike strongswan",
}

// flagText is a line for each option.
func flagText() string {
	var b strings.Builder
	for _, x := range newOptions(nil).list {
		fmt.Fprintf(&b, "  %-26s %s\n", "--"+x.name+" "+x.arg, x.text)
	}
	return b.String()
}

// Flags returns the flags of init in their long form, sorted.
func Flags() []string {
	var out []string
	flagSet(newOptions(nil)).VisitAll(func(f *pflag.Flag) { out = append(out, "--"+f.Name) })
	return out
}

func flagSet(o *options) *pflag.FlagSet {
	fs := pflag.NewFlagSet("init", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	for _, x := range o.list {
		fs.StringVar(&x.value, x.name, "", "")
	}
	fs.BoolVar(&o.print, "print", false, "")
	fs.BoolVarP(&o.dryRun, "dry-run", "n", false, "")
	fs.BoolVarP(&o.help, "help", "h", false, "")
	return fs
}

// Main runs init with the arguments behind it, and returns the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := command{in: stdin, out: stdout, errs: stderr, terminal: term.Is(stdin), dir: "/etc", own: ownAddress,
		runners: func(in Input) [2]Runner { return [2]Runner{local{}, remote{in.SSH}} }}
	return c.run(ctx, args)
}

// command is one run.
type command struct {
	in        io.Reader
	out, errs io.Writer
	terminal  bool // questions can be asked
	dir       string
	own       func(peer netip.Addr) string
	runners   func(Input) [2]Runner
}

const program = "sasyncctl"

func (c *command) run(ctx context.Context, args []string) int {
	o := newOptions(c.own)
	fs := flagSet(o)
	err := fs.Parse(args)
	switch {
	case err != nil:
	case o.help:
		return daemon.Helps{"init": Help}.Explain(program, daemon.ControlFlags{Args: []string{"init"}}, c.out, c.errs)
	case fs.NArg() != 1:
		err = errors.New("name one peer, by its address on the sync link")
	}
	if err != nil {
		return c.misused(err)
	}
	o.peer = fs.Arg(0)
	a := asker{bufio.NewReader(c.in), c.errs}
	var ask func(question, fallback string) (string, error)
	if c.terminal {
		ask = func(question, fallback string) (string, error) { return a.ask(ctx, question, fallback) }
	}
	if err := checkAddress(o.peer); err != nil {
		return c.misused(fmt.Errorf("PEER is its address on the sync link: %w", err))
	}
	asked, err := o.complete(ask)
	if err != nil {
		return c.misused(err)
	}
	in, err := o.input()
	if err != nil {
		return c.misused(err)
	}
	u := Setup{Input: in, Runners: c.runners(in), Dir: c.dir, Out: c.out, Print: o.print, DryRun: o.dryRun}
	if asked {
		u.Confirm = a.confirm
	}
	if err := u.Run(ctx); err != nil {
		fmt.Fprintf(c.errs, "%s: init: %v\n", program, err)
		return daemon.ExitFailure
	}
	return daemon.ExitOK
}

func (c *command) misused(err error) int {
	fmt.Fprintf(c.errs, "%s: init: %v\nusage: %s %s\n%s help init explains the flags\n", program, err, program,
		Help.Forms[0], program)
	return daemon.ExitUsage
}

// asker asks a person.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

func (a *asker) ask(ctx context.Context, question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	fmt.Fprint(a.out, question+": ")
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() { // it may wait for ever, which must not keep Ctrl-C from ending the program
		text, err := a.in.ReadString('\n')
		read <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-read:
		if r.err != nil {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return strings.TrimSpace(r.text), nil
	}
}

// confirm asks whether to go on.
func (a *asker) confirm(ctx context.Context) error {
	answer, err := a.ask(ctx, "write these files and start both gateways? y or n", "n")
	if err != nil {
		return err
	}
	if answer != "y" && answer != "yes" {
		return errRefused
	}
	return nil
}

// ownAddress returns the address of this machine in whose network the peer's is, "" if
// there is none or more than one.
func ownAddress(peer netip.Addr) string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	found := ""
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Contains(peer) || p.Addr() == peer {
			continue
		}
		if found != "" {
			return ""
		}
		found = p.Addr().String()
	}
	return found
}
