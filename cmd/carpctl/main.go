// Command carpctl asks and commands a running carpd. See carpctl(8).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/term"
)

const usage = `  show                        who is master of what, and why
  demote GROUP N [REASON]     be a lesser master, until undemote
  undemote GROUP              take back what demote did
  resign GROUP                hand mastership over
  announce                    tell the neighbours again where the addresses are
  doctor                      look for what keeps an election from working, with remedies
  reload                      read carpd.conf again, all or nothing
  freeze [SECONDS]            restart carpd within this time (10) and nothing changes hands
  fence GROUP PROGRAM [ARG]   before taking over from a silent master, have a program silence it
  notify GROUP PROGRAM [ARG]  run a program at every change of state, until stopped
  help [COMMAND]              what a command does, with an example`

const (
	self  = "carpctl"
	limit = 8 * time.Second
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.CtlFlags(self, conf.DefaultCarpdSocket, args, stderr, usage)
	switch {
	case err != nil:
		return daemon.ExitUsage
	case f.WantsHelp():
		return helps.Explain(self, f, stdout, stderr)
	case f.Version:
		fmt.Fprintln(stdout, daemon.Version(self))
		return daemon.ExitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch f.Args[0] {
	case verbNotify, verbFence:
		err = follow(ctx, f, stderr)
	default:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
		if err = command(ctx, f, stdout); errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: it has not answered for %v", daemon.ErrUnreachable, limit)
		}
	}
	code := exitCode(err)
	switch {
	case err == nil || errors.Is(err, errSick):
		return code // what doctor has to say was printed
	case f.JSON:
		_ = printJSON(stdout, daemon.Failure{Error: err.Error(), Code: code}) // the exit code says it too
	}
	fmt.Fprintln(stderr, self+":", err)
	if hint := daemon.Hint("carpd", err); hint != "" {
		fmt.Fprintln(stderr, hint)
	}
	return code
}

// exitCode tells what an error means to a script.
func exitCode(err error) int {
	var no *api.RequestError
	switch {
	case err == nil:
		return daemon.ExitOK
	case errors.Is(err, errUsage):
		return daemon.ExitUsage
	case errors.Is(err, errSick):
		return daemon.ExitFailure
	case errors.As(err, &no) && strings.HasPrefix(no.Text, "permission denied"):
		return daemon.ExitPrivilege
	case errors.As(err, &no):
		return daemon.ExitFailure
	}
	return daemon.ExitUnknown
}

var errUsage = errors.New("wrong command line")

const (
	verbDoctor = "doctor"
	verbNotify = "notify"
	verbFence  = "fence"
)

// operator is the id of the demotion that demote makes.
const operator = "operator"

// follow follows a group until ctx ends.
func follow(ctx context.Context, f daemon.ControlFlags, stderr io.Writer) error {
	if len(f.Args) < 3 {
		return fmt.Errorf("%w: %s", errUsage, helps.Usage(self, f.Args[0]))
	}
	n, err := newNotifier(f.Socket, f.Args[1:], slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	if f.Args[0] == verbFence {
		return n.fence(ctx)
	}
	return n.follow(ctx)
}

func command(ctx context.Context, f daemon.ControlFlags, out io.Writer) error {
	r, err := request(f.Args)
	if err != nil {
		return err
	}
	c, err := api.Dial(ctx, f.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.Args[0] == verbDoctor {
		return examine(ctx, c, f.JSON, out, term.Paint(term.Colours(out)))
	}
	var g api.GroupState
	if r.Group != "" {
		m, err := c.Call(ctx, api.Request{Verb: api.VerbStatus})
		if err != nil {
			return err
		}
		if g, err = resolve(r.Group, m.Groups); err != nil {
			return err
		}
		r.Group = g.Group
	}
	m, err := c.Call(ctx, r)
	switch {
	case r.Verb == api.VerbResign && isNotMaster(err):
		return &api.RequestError{Text: elsewhere(&g)}
	case err != nil:
		return err
	case r.Verb == api.VerbStatus && f.JSON:
		v, err := plain(status{Groups: append([]api.GroupState{}, m.Groups...), Clock: m.Clock})
		if err != nil {
			return err
		}
		return printJSON(out, v)
	case r.Verb == api.VerbStatus:
		return show(out, m.Groups, f.Verbose > 0)
	case f.JSON:
		return printJSON(out, daemon.Done{OK: true})
	}
	return nil
}

// status is what carpd tells; see plain.
type status struct {
	Groups []api.GroupState `json:"groups"`
	Clock  *api.Clock       `json:"clock,omitempty"`
}

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// request turns the command line into a request.
func request(args []string) (api.Request, error) {
	verb, args := args[0], args[1:]
	switch {
	case verb == "show" && len(args) == 0:
		return api.Request{Verb: api.VerbStatus}, nil
	case verb == verbDoctor && len(args) == 0:
		return api.Request{Verb: api.VerbStatus}, nil
	case verb == "announce" && len(args) == 0:
		return api.Request{Verb: api.VerbAnnounce}, nil
	case verb == "reload" && len(args) == 0:
		return api.Request{Verb: api.VerbReload}, nil
	case verb == "freeze" && len(args) <= 1:
		seconds := 10
		if len(args) == 1 {
			var err error
			if seconds, err = strconv.Atoi(args[0]); err != nil || seconds < 1 || seconds > 120 {
				return api.Request{}, fmt.Errorf("%w: freeze for 1 to 120 seconds, not %q", errUsage, args[0])
			}
		}
		return api.Request{Verb: api.VerbFreeze, HoldMS: int64(seconds) * 1000}, nil
	case verb == "resign" && len(args) == 1:
		return api.Request{Verb: api.VerbResign, Group: args[0], Reason: "operator"}, nil
	case verb == "undemote" && len(args) == 1:
		return api.Request{Verb: api.VerbUndemote, Group: args[0]}, nil
	case verb == "demote" && len(args) >= 2:
		by, err := strconv.Atoi(args[1])
		if err != nil || by < 1 || by > 255 {
			return api.Request{}, fmt.Errorf("%w: demote by 1 to 255, not %q", errUsage, args[1])
		}
		return api.Request{Verb: api.VerbDemote, Group: args[0], Demotion: &api.Demotion{
			ID: operator, By: by, Reason: strings.Join(args[2:], " "), Hold: api.HoldPersistent,
		}}, nil
	}
	if _, ok := helps[verb]; !ok {
		return api.Request{}, fmt.Errorf("%w: %s: carpctl help lists all", errUsage, helps.Unknown(verb))
	}
	return api.Request{}, fmt.Errorf("%w: %s", errUsage, helps.Usage(self, verb))
}
