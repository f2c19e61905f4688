// Command sasyncctl asks and commands a running sasyncd. See sasyncctl(8).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
	"sasyncd/cmd/internal/term"
	"sasyncd/cmd/sasyncctl/setup"
)

const usage = `  init PEER                    set up this gateway and its peer: both files, the key, the start
  status                       who is master of what, who is in sync, what is wrong
  check                        would a failover work now? If not, why and what to do
  check -w SECONDS             the same, after waiting for at most so long until it would
  doctor                       what is wrong on this gateway, of both daemons, and what to do
  doctor -a                    the same of all gateways
  peers                        the other gateways
  show [sa|flow|all] [-v] [-k] what the kernel holds, as ipsecctl prints it; -k: with keys
  diff [PEER]                  what differs from the master's word, or from a peer's kernel
  resync [PEER]                fetch snapshots anew, or send them to a standby
  failover [GROUP] [to PEER]   hand mastership over and tell how it went; -f: whatever check says
  failover -n [...]            to whom it would go, what is against it, what it would cost
  last [GROUP]                 the last failover step by step, and its slowest step; -v: all known
  guard                        what the leak guard holds, and which policies have gone
  guard forget PREFIX|all      let what has no policy any more leave in plaintext again
  top                          rates and lag, each second
  reload                       read the configuration again
  help [COMMAND]               what a command does, with an example`

const verbInit = "init"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

const self = "sasyncctl"

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == verbInit { // it has flags of its own
		return setup.Main(ctx, args[1:], stdin, stdout, stderr)
	}
	f, err := daemon.CtlFlags(self, conf.DefaultSasyncdSocket, args, stderr, usage)
	switch {
	case err != nil:
		return daemon.ExitUsage
	case f.WantsHelp():
		return helps.Explain(self, f, stdout, stderr)
	case f.Version:
		fmt.Fprintln(stdout, daemon.Version(self))
		return daemon.ExitOK
	}
	p := &program{flags: f, in: stdin, out: stdout, progress: io.Discard, errs: stderr}
	p.paint = term.Paint(!f.JSON && term.Colours(stdout))
	if f.Verbose > 0 || term.Is(stderr) {
		p.progress = stderr
	}
	code, err := p.command(ctx)
	if err == nil {
		return code
	}
	fmt.Fprintln(stderr, self+":", err)
	if hint := daemon.Hint("sasyncd", err); hint != "" {
		fmt.Fprintln(stderr, hint)
	}
	code = exitCode(err)
	if f.JSON {
		_ = printJSON(stdout, daemon.Failure{Error: err.Error(), Code: code}) // the exit code says it too
	}
	return code
}

// exitCode tells what an error means to a script.
func exitCode(err error) int {
	var ce *daemon.CallError
	switch {
	case errors.Is(err, errUsage), errors.As(err, &ce) && ce.Code == daemon.CodeBad:
		return daemon.ExitUsage
	case errors.Is(err, daemon.ErrUnreachable):
		return daemon.ExitUnknown
	case errors.As(err, &ce) && ce.Code == daemon.CodeDenied:
		return daemon.ExitPrivilege
	}
	return daemon.ExitFailure
}

var errUsage = errors.New("wrong command line")

// program is one run.
type program struct {
	flags    daemon.ControlFlags
	in       io.Reader
	out      io.Writer
	progress io.Writer // of what takes its time
	errs     io.Writer // standard error
	paint    term.Paint
	client   *daemon.ControlClient
}

// request is a parsed command line.
type request struct {
	verb, what, group, peer string
	forget                  string // of guard
}

// parse reads verb and operands.
func parse(args []string) (request, error) {
	r := request{verb: args[0]}
	ops := args[1:]
	switch r.verb {
	case "status", "check", "doctor", "peers", "top", "reload":
		if len(ops) == 0 {
			return r, nil
		}
	case "show":
		r.what = "all"
		if len(ops) == 1 {
			r.what = ops[0]
		}
		if len(ops) <= 1 {
			return r, nil
		}
	case "last":
		if len(ops) == 1 {
			r.group = ops[0]
		}
		if len(ops) <= 1 {
			return r, nil
		}
	case "guard":
		if len(ops) == 2 && ops[0] == "forget" {
			r.forget, ops = ops[1], nil
		}
		if len(ops) == 0 {
			return r, nil
		}
	case "diff", "resync":
		if len(ops) == 1 {
			r.peer = ops[0]
		}
		if len(ops) <= 1 {
			return r, nil
		}
	case "failover":
		if n := len(ops); n >= 2 && ops[n-2] == "to" {
			r.peer, ops = ops[n-1], ops[:n-2]
		}
		if len(ops) == 1 {
			r.group = ops[0]
		}
		if len(ops) <= 1 && r.group != "to" {
			return r, nil
		}
	case verbInit: // only as the first word, see run
		return r, fmt.Errorf("%w: the flags of init stand behind it: sasyncctl help init", errUsage)
	default:
		return r, fmt.Errorf("%w: %s: sasyncctl help lists all", errUsage, helps.Unknown(r.verb))
	}
	return r, fmt.Errorf("%w: %s", errUsage, helps.Usage(self, r.verb))
}

// misused says which flag is not one of the verb.
func misused(verb string, f daemon.ControlFlags) error {
	for _, x := range []struct {
		set        bool
		flag, verb string
	}{{f.All, "-a", "doctor"}, {f.Force, "-f", "failover"}, {f.DryRun, "-n", "failover"},
		{f.Wait != 0, "-w", "check"}} {
		if x.set && verb != x.verb {
			return fmt.Errorf("%w: %s is a flag of %s, not of %s", errUsage, x.flag, x.verb, verb)
		}
	}
	if f.Wait < 0 {
		return fmt.Errorf("%w: -w %d: want seconds from 1", errUsage, f.Wait)
	}
	return nil
}

// answered is the exit code for the answer of check.
func answered(answer string) int {
	switch answer {
	case report.AnswerYes:
		return daemon.ExitOK
	case report.AnswerUnknown:
		return daemon.ExitUnknown
	}
	return daemon.ExitFailure
}

func (p *program) command(ctx context.Context) (int, error) {
	r, err := parse(p.flags.Args)
	if err != nil {
		return 0, err
	}
	if err := misused(r.verb, p.flags); err != nil {
		return 0, err
	}
	if r.verb == "check" && p.flags.Wait > 0 {
		return p.waitFit(ctx)
	}
	if r.verb == "doctor" {
		return p.doctor(ctx)
	}
	if p.client, err = daemon.DialControl(ctx, p.flags.Socket); err != nil {
		return 0, err
	}
	defer p.client.Close()
	p.client.Patience = patience(r.verb)
	switch r.verb {
	case "status":
		var s report.Status
		return p.ask(ctx, "status", nil, &s, func() error { return status(p.out, s, p.paint) }, nil)
	case "check":
		var v report.Verdict
		return p.ask(ctx, "check", nil, &v, func() error { return check(p.out, v, p.paint) },
			func() int { return answered(v.Answer) })
	case "peers":
		var v report.Peers
		return p.ask(ctx, "peers", nil, &v, func() error { return peers(p.out, v) }, nil)
	case "diff":
		var d report.Diff
		return p.ask(ctx, "diff", map[string]any{"peer": r.peer}, &d, func() error { return diff(p.out, d) },
			func() int {
				if len(d.Differences) > 0 {
					return daemon.ExitFailure
				}
				return daemon.ExitOK
			})
	case "last":
		var v report.Last
		return p.ask(ctx, "last", map[string]any{"group": r.group}, &v,
			func() error { return last(p.out, v, p.flags.Verbose > 0, p.paint) }, nil)
	case "show":
		return daemon.ExitOK, p.show(ctx, r.what)
	case "guard":
		var g report.Guard
		verb, args := "guard", any(nil)
		if r.forget != "" {
			verb, args = "guard-forget", map[string]any{"destination": r.forget}
		}
		return p.ask(ctx, verb, args, &g, func() error { return guard(p.out, g, r.forget != "", p.paint) }, nil)
	case "resync":
		return p.resync(ctx, r)
	case "failover":
		if p.flags.DryRun {
			var v report.Plan
			return p.ask(ctx, "plan", order(r, false), &v, func() error { return plan(p.out, v, p.paint) },
				func() int { return answered(v.Answer) })
		}
		return p.failover(ctx, r)
	case "top":
		return daemon.ExitOK, p.top(ctx)
	}
	if err := p.client.Call(ctx, r.verb, nil, nil); err != nil { // reload
		return 0, err
	}
	if p.flags.JSON {
		return daemon.ExitOK, printJSON(p.out, daemon.Done{OK: true})
	}
	return daemon.ExitOK, nil
}

// patience is how long a verb waits for a daemon that says nothing: where it does
// nothing but tell, not long; where it asks a peer, longer; what the daemon waits
// for itself has limits of its own there.
func patience(verb string) time.Duration {
	switch verb {
	case "resync", "failover":
		return 0
	case "diff":
		return time.Minute
	}
	return 10 * time.Second
}

// ask sends a question, decodes the answer into v and prints it: as it came with
// -j, else by text. The exit code is what judged says, 0 without it.
func (p *program) ask(ctx context.Context, verb string, args, v any, text func() error, judged func() int) (int,
	error) {
	var raw json.RawMessage
	if err := p.client.Get(ctx, verb, args, &raw); err != nil {
		return 0, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return 0, fmt.Errorf("read answer to %s: %w", verb, err)
	}
	code := daemon.ExitOK
	if judged != nil {
		code = judged()
	}
	if p.flags.JSON {
		_, err := fmt.Fprintf(p.out, "%s\n", raw)
		return code, err
	}
	return code, text()
}

// show prints lines, or with -j one object of all items.
func (p *program) show(ctx context.Context, what string) error {
	args := map[string]any{"what": what, "verbose": p.flags.Verbose > 0, "keys": p.flags.Keys}
	if !p.flags.JSON {
		return p.client.Call(ctx, "show", args, func(data json.RawMessage) error {
			var line string
			if err := json.Unmarshal(data, &line); err != nil {
				return fmt.Errorf("read answer to show: %w", err)
			}
			_, err := fmt.Fprintln(p.out, line)
			return err
		})
	}
	args["objects"] = true
	out := report.Show{What: what, Flows: []report.Flow{}, SAs: []report.SA{}}
	err := p.client.Call(ctx, "show", args, func(data json.RawMessage) error {
		var item report.ShowItem
		if err := json.Unmarshal(data, &item); err != nil {
			return fmt.Errorf("read answer to show: %w", err)
		}
		if item.Flow != nil {
			out.Flows = append(out.Flows, *item.Flow)
		}
		if item.SA != nil {
			out.SAs = append(out.SAs, *item.SA)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return printJSON(p.out, out)
}

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
