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
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/sync/engine"
)

const usage = `  status                 who is master of what, who is in sync
  check                  would a failover work now?
  peers                  connected gateways
  show sa|flow|all [-v]  what the kernel holds, as ipsecctl prints it
  diff                   what differs from what the master published
  resync                 fetch whole snapshots anew
  failover [GROUP]       hand mastership over
  reload                 read the configuration again`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f, err := daemon.CtlFlags("sasyncctl", conf.DefaultSasyncdSocket, args, stderr, usage)
	if err != nil {
		return daemon.ExitUsage
	}
	if f.Version {
		fmt.Fprintln(stdout, daemon.Version("sasyncctl"))
		return daemon.ExitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := command(ctx, f, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "sasyncctl:", err)
		var ce *daemon.CallError
		switch {
		case errors.Is(err, errUsage):
			return daemon.ExitUsage
		case errors.Is(err, daemon.ErrUnreachable):
			return daemon.ExitUnknown
		case errors.As(err, &ce) && ce.Code == daemon.CodeDenied:
			return daemon.ExitPrivilege
		}
		return daemon.ExitFailure
	}
	return code
}

var errUsage = errors.New("unknown command or operands, see -h")

func command(ctx context.Context, f daemon.ControlFlags, out io.Writer) (int, error) {
	c, err := daemon.DialControl(ctx, f.Socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	verb, operands := f.Args[0], f.Args[1:]
	switch {
	case verb == "show" && len(operands) <= 1:
		args := map[string]any{"verbose": f.Verbose > 0}
		if len(operands) == 1 {
			args["what"] = operands[0]
		}
		return daemon.ExitOK, c.Call(ctx, "show", args, func(data json.RawMessage) error {
			var line string
			if err := json.Unmarshal(data, &line); err != nil {
				return err
			}
			if f.JSON {
				_, err := fmt.Fprintf(out, "%s\n", data)
				return err
			}
			_, err := fmt.Fprintln(out, line)
			return err
		})
	case verb == "failover" && len(operands) <= 1:
		args := map[string]any{"group": strings.Join(operands, "")}
		return daemon.ExitOK, c.Call(ctx, "failover", args, nil)
	case len(operands) != 0:
		return 0, errUsage
	case verb == "resync" || verb == "reload":
		return daemon.ExitOK, c.Call(ctx, verb, nil, nil)
	case verb == "status" || verb == "peers":
		var raw json.RawMessage
		if err := c.Get(ctx, "status", nil, &raw); err != nil {
			return 0, err
		}
		if f.JSON {
			_, err := fmt.Fprintf(out, "%s\n", raw)
			return daemon.ExitOK, err
		}
		var s engine.Status
		if err := json.Unmarshal(raw, &s); err != nil {
			return 0, err
		}
		if verb == "peers" {
			var known []member
			if err := c.Get(ctx, "members", nil, &known); err != nil {
				return 0, err
			}
			return daemon.ExitOK, peers(out, s, known)
		}
		return daemon.ExitOK, status(out, s)
	case verb == "diff":
		var raw json.RawMessage
		if err := c.Get(ctx, "diff", nil, &raw); err != nil {
			return 0, err
		}
		return diff(out, raw, f.JSON)
	case verb == "check":
		var raw json.RawMessage
		if err := c.Get(ctx, "check", nil, &raw); err != nil {
			return 0, err
		}
		return check(out, raw, f.JSON)
	}
	return 0, errUsage
}

func diff(out io.Writer, raw json.RawMessage, asJSON bool) (int, error) {
	var list []engine.Difference
	if err := json.Unmarshal(raw, &list); err != nil {
		return 0, err
	}
	code := daemon.ExitOK
	if len(list) > 0 {
		code = daemon.ExitFailure
	}
	if asJSON {
		_, err := fmt.Fprintf(out, "%s\n", raw)
		return code, err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, d := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Group, d.How, d.Item)
	}
	return code, w.Flush()
}

func check(out io.Writer, raw json.RawMessage, asJSON bool) (int, error) {
	var v struct {
		Fit     bool   `json:"fit"`
		Summary string `json:"summary"`
		Reasons []struct{ What, Remedy string }
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return 0, err
	}
	code := daemon.ExitOK
	if !v.Fit {
		code = daemon.ExitFailure
	}
	if asJSON {
		_, err := fmt.Fprintf(out, "%s\n", raw)
		return code, err
	}
	fmt.Fprintln(out, v.Summary)
	for _, r := range v.Reasons {
		fmt.Fprintf(out, "  %s\n    remedy: %s\n", r.What, r.Remedy)
	}
	return code, nil
}

// member is what gossip tells of a gateway.
type member struct {
	Node, Host    string
	Alive, Direct bool
	Addresses     []string
}

func peers(out io.Writer, s engine.Status, known []member) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tNODE\tKERNEL\tCONNECTED")
	for _, m := range s.Members {
		fmt.Fprintf(w, "%s\t%.8s\t%s\t%s\n", m.Peer, m.Node, m.Kernel, ago(m.Since))
	}
	for _, m := range known {
		if m.Direct {
			continue
		}
		state := "alive, no session from here"
		if !m.Alive {
			state = "gone"
		}
		fmt.Fprintf(w, "(%s %s)\t%.8s\t-\t%s\n", m.Host, strings.Join(m.Addresses, " "), m.Node, state)
	}
	return w.Flush()
}

func status(out io.Writer, s engine.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, g := range s.Groups {
		fmt.Fprintf(w, "group %s\t%s since %s (term %d): %s\n", g.Name, g.Role, ago(g.Since), g.Term, g.Reason)
		fmt.Fprintf(w, "  holds\t%d SAs, %d policies", g.SAs, g.Policies)
		if g.Held > 0 {
			fmt.Fprintf(w, ", %d deletions held back", g.Held)
		}
		fmt.Fprintln(w)
		sync := "not in sync"
		if g.InSync {
			sync = "in sync"
		}
		fmt.Fprintf(w, "  this node\t%s: %s\n", sync, g.Why)
		for _, st := range g.Standbys {
			state := "receives a snapshot"
			if st.Complete {
				state = "complete"
			}
			fmt.Fprintf(w, "  standby %s\t%s, lag %.3f s, %d changes unconfirmed\n", st.Peer, state, st.Lag, st.Unacked)
		}
		if g.Role == "BACKUP" {
			fmt.Fprintf(w, "  counters\t%.1f s old\n", g.CounterAge)
		}
		for _, p := range g.Peers {
			if p.Role == "MASTER" {
				fmt.Fprintf(w, "  master\t%s (term %d)\n", p.Peer, p.Term)
			}
		}
		if k := g.Keying; k.Driver != "" {
			fmt.Fprintf(w, "  ike daemon\t%s %s%s\n", k.Driver, k.State, ikeStop(k))
		}
		if g.Refused+g.Uncovered > 0 {
			fmt.Fprintf(w, "  wrong\t%d items refused by the kernel, %d SAs uncovered\n", g.Refused, g.Uncovered)
		}
	}
	if len(s.Members) == 0 {
		fmt.Fprintln(w, "peers\tnone connected")
	}
	return w.Flush()
}

func ago(t time.Time) string { return time.Since(t).Round(time.Second).String() }
