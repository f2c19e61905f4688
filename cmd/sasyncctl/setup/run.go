package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Runner runs commands on one of the gateways.
type Runner interface {
	// Run has sh(1) run a script with stdin, and copies what it prints, both streams,
	// to out. An error says that the script failed or was not run.
	Run(ctx context.Context, script string, stdin []byte, out io.Writer) error
}

// local runs commands on this gateway.
type local struct{ dir string }

// Run implements Runner.
func (l local) Run(ctx context.Context, script string, stdin []byte, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = l.dir
	// Root by su(1) may lack the directories of daemons.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	return run(cmd, stdin, out)
}

// remote runs commands on another gateway, by ssh(1).
type remote struct{ dest string }

// Run implements Runner.
func (r remote) Run(ctx context.Context, script string, stdin []byte, out io.Writer) error {
	return run(exec.CommandContext(ctx, "ssh", r.dest, "sh -c "+quote(script)), stdin, out)
}

// grace is how long a command may hold its output open after its end.
const grace = 5 * time.Second

func run(cmd *exec.Cmd, stdin []byte, out io.Writer) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), out, out
	cmd.WaitDelay = grace
	return cmd.Run()
}

// quote makes a text one word of a shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// errRefused means that nothing was changed.
var errRefused = errors.New("nothing was changed")

// Setup sets a pair up.
type Setup struct {
	Input   Input
	Runners [2]Runner
	Dir     string // of the files: /etc
	Out     io.Writer
	Print   bool // of the peer, only print the commands
	DryRun  bool
	// Confirm is asked before anything is changed; nil: go on.
	Confirm func(ctx context.Context) error
}

// Run looks at both gateways, shows the files, and carries the plan out. An error is for
// people, and says all that they have to know.
func (u *Setup) Run(ctx context.Context) error {
	if err := u.Input.Check(); err != nil {
		return err
	}
	found, problems := u.look(ctx)
	if len(problems) > 0 && !u.DryRun {
		return refusal(problems)
	}
	p, err := New(u.Input, NewSecrets(), u.Dir, found)
	if err != nil {
		return err
	}
	u.show(p)
	if u.DryRun {
		u.list(p)
		if len(problems) > 0 {
			return refusal(problems)
		}
		return nil
	}
	if u.Confirm != nil {
		if err := u.Confirm(ctx); err != nil {
			return err
		}
	}
	steps := p.Steps
	if u.Print {
		steps = steps[:p.own()]
	}
	for i, s := range steps {
		fmt.Fprintf(u.Out, "%s: %s\n", u.Input.called(s.Side), s.What)
		if err := u.Runners[s.Side].Run(ctx, s.Script, s.Stdin.Bytes(), u.Out); err != nil {
			return u.broken(p, i, err)
		}
	}
	if u.Print {
		fmt.Fprintf(u.Out, "\nwhat is left, in this order:\n%s", commands(p, p.Steps[len(steps):]))
		return nil
	}
	fmt.Fprintf(u.Out, "\nthe pair is ready. Let tunnels end on %v, and hosts use %v; then try, on this gateway:\n"+
		"  sasyncctl failover --dry-run\n", u.Input.Outside.VIPs[0], u.Input.Inside.VIPs[0])
	return nil
}

func refusal(problems []string) error {
	return fmt.Errorf("%w:\n  %s", errRefused, strings.Join(problems, "\n  "))
}

// look asks the sides what is there; with Print, this gateway alone.
func (u *Setup) look(ctx context.Context) (found [2]Found, problems []string) {
	for _, s := range []Side{Own, Peer} {
		if s == Peer && u.Print {
			break
		}
		var printed bytes.Buffer
		if err := u.Runners[s].Run(ctx, u.Input.look(s, u.Dir), nil, &printed); err != nil {
			problems = append(problems, fmt.Sprintf("%s: it cannot be looked at: %v: %s", u.Input.called(s), err,
				strings.TrimSpace(printed.String())))
			continue
		}
		f, bad := u.Input.judge(s, printed.String())
		found[s], problems = f, append(problems, bad...)
	}
	return found, problems
}

// show prints the files without their secrets.
func (u *Setup) show(p *Plan) {
	for _, s := range []Side{Own, Peer} {
		for _, f := range p.Files[s] {
			if f.Shown != "" {
				fmt.Fprintf(u.Out, "== %s of %s\n%s\n", f.Path, u.Input.called(s), f.Shown)
			}
		}
	}
	fmt.Fprintf(u.Out, "== %s of both: a new key of 256 bits, which is not shown\n\n", p.Files[Own][0].Path)
}

// list prints the steps.
func (u *Setup) list(p *Plan) {
	fmt.Fprintln(u.Out, "what would be done:")
	for _, s := range p.Steps {
		fmt.Fprintf(u.Out, "  %s: %s\n", u.Input.called(s.Side), s.What)
		if c := p.Command(s); c != "" {
			fmt.Fprintf(u.Out, "    %s\n", c)
		}
	}
}

// commands prints steps as one types them.
func commands(p *Plan, steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "  %s\n", p.Command(s))
	}
	return b.String()
}

// broken says what was done before a step failed, and how to go on.
func (u *Setup) broken(p *Plan, at int, err error) error {
	failed := p.Steps[at]
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %v\n", u.Input.called(failed.Side), failed.What, err)
	if at > 0 {
		b.WriteString("what was done:\n")
	}
	var written []string
	for _, s := range p.Steps[:at] {
		fmt.Fprintf(&b, "  %s: %s\n", u.Input.called(s.Side), s.What)
		if s.Writes != "" {
			written = append(written, s.Writes)
		}
	}
	if at > lastOwnWrite(p) {
		b.WriteString("what is left, beginning with the command that failed:\n" + commands(p, p.Steps[at:]))
		return errors.New(strings.TrimSuffix(b.String(), "\n"))
	}
	b.WriteString("mend that, then ")
	if len(written) > 0 {
		fmt.Fprintf(&b, "remove what was written, rm %s, and ", strings.Join(written, " "))
	}
	b.WriteString("run sasyncctl init again")
	return errors.New(b.String())
}

// lastOwnWrite is the last step whose input only the plan has.
func lastOwnWrite(p *Plan) int {
	last := -1
	for i, s := range p.Steps {
		if s.Writes != "" && s.Source == "" {
			last = i
		}
	}
	return last
}
