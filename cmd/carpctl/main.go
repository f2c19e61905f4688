// Command carpctl asks and commands a running carpd. See carpctl(8).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
)

const usage = `  show                        who is master of what, and why
  demote GROUP N [REASON]     be a lesser master, until undemote
  undemote GROUP              take back what demote did
  resign GROUP                hand mastership over
  announce                    tell the neighbours again where the addresses are`

const limit = 5 * time.Second

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.CtlFlags("carpctl", conf.DefaultCarpdSocket, args, stderr, usage)
	if err != nil {
		return daemon.ExitUsage
	}
	if f.Version {
		fmt.Fprintln(stdout, daemon.Version("carpctl"))
		return daemon.ExitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = command(ctx, f, stdout)
	if err == nil {
		return daemon.ExitOK
	}
	fmt.Fprintln(stderr, "carpctl:", err)
	var no *api.RequestError
	switch {
	case errors.Is(err, errUsage):
		return daemon.ExitUsage
	case errors.As(err, &no) && strings.HasPrefix(no.Text, "permission denied"):
		return daemon.ExitPrivilege
	case errors.As(err, &no):
		return daemon.ExitFailure
	}
	return daemon.ExitUnknown
}

var errUsage = errors.New("unknown command or operands, see -h")

// operator is the id of the demotion that demote makes.
const operator = "operator"

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
	m, err := c.Call(ctx, r)
	if err != nil || r.Verb != api.VerbStatus {
		return err
	}
	if f.JSON {
		b, err := json.Marshal(m.Groups)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", b)
		}
		return err
	}
	return show(out, m.Groups, f.Verbose > 0)
}

// request turns the command line into a request.
func request(args []string) (api.Request, error) {
	verb, args := args[0], args[1:]
	switch {
	case verb == "show" && len(args) == 0:
		return api.Request{Verb: api.VerbStatus}, nil
	case verb == "announce" && len(args) == 0:
		return api.Request{Verb: api.VerbAnnounce}, nil
	case verb == "resign" && len(args) == 1:
		return api.Request{Verb: api.VerbResign, Group: args[0], Reason: "operator"}, nil
	case verb == "undemote" && len(args) == 1:
		return api.Request{Verb: api.VerbUndemote, Group: args[0]}, nil
	case verb == "demote" && len(args) >= 2:
		by, err := strconv.Atoi(args[1])
		if err != nil || by < 1 || by > 255 {
			return api.Request{}, fmt.Errorf("demote by 1 to 255, not %q: %w", args[1], errUsage)
		}
		return api.Request{Verb: api.VerbDemote, Group: args[0], Demotion: &api.Demotion{
			ID: operator, By: by, Reason: strings.Join(args[2:], " "), Hold: api.HoldPersistent,
		}}, nil
	}
	return api.Request{}, errUsage
}
