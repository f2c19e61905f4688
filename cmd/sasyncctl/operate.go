package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
)

// watch sends an order and prints its progress until the result comes.
func watch[T any](ctx context.Context, p *program, verb string, args any) (T, error) {
	var res *T
	err := p.client.Call(ctx, verb, args, func(data json.RawMessage) error {
		var l report.Line[T]
		if err := json.Unmarshal(data, &l); err != nil {
			return fmt.Errorf("read answer to %s: %w", verb, err)
		}
		if l.Step != nil {
			fmt.Fprintf(p.progress, "%s: %s\n", named(l.Step.Group), l.Step.Text)
		}
		if l.Result != nil {
			res = l.Result
		}
		return nil
	})
	if err == nil && res == nil {
		err = errors.New("read answer to " + verb + ": it has no result")
	}
	if err != nil {
		var none T
		return none, err
	}
	if p.flags.JSON {
		return *res, printJSON(p.out, res)
	}
	return *res, nil
}

// order is what the daemon is asked to do, or would have to. A daemon of an older
// release does not know force, and is not told it in vain.
func order(r request, force bool) map[string]any {
	args := map[string]any{"group": r.group, "peer": r.peer}
	if force {
		args["force"] = true
	}
	return args
}

func (p *program) failover(ctx context.Context, r request) (int, error) {
	res, err := watch[report.Failover](ctx, p, "failover", order(r, p.flags.Force))
	if err != nil {
		return 0, err
	}
	code := daemon.ExitOK
	for _, h := range res.Handovers {
		text := fmt.Sprintf("%s: handed over to %s, gap %s, %s in all", named(h.Group), h.To, gap(h.Gap), gap(h.Took))
		if len(h.Holding) > 0 {
			text += ", " + strings.Join(h.Holding, " and ") + " held back"
		}
		if !h.OK {
			code = daemon.ExitFailure
			text = fmt.Sprintf("%s: %s %s", named(h.Group), p.paint.Bad("FAILED:"), h.Error)
		}
		if p.flags.JSON {
			continue
		}
		if _, err := fmt.Fprintln(p.out, text); err != nil {
			return 0, err
		}
	}
	return code, nil
}

func (p *program) resync(ctx context.Context, r request) (int, error) {
	res, err := watch[report.Resync](ctx, p, "resync", map[string]any{"peer": r.peer})
	if err != nil {
		return 0, err
	}
	code := daemon.ExitOK
	for _, t := range res.Transfers {
		way := "fetched from"
		if t.Push {
			way = "sent to"
		}
		text := fmt.Sprintf("%s: %s %s, %d SAs and policies in %s", named(t.Group), way, t.Peer, t.Records,
			gap(t.Seconds))
		if !t.Complete {
			code = daemon.ExitFailure
			text = fmt.Sprintf("%s: with %s: no progress after %d records, see the log", named(t.Group), t.Peer,
				t.Records)
		}
		if p.flags.JSON {
			continue
		}
		if _, err := fmt.Fprintln(p.out, text); err != nil {
			return 0, err
		}
	}
	return code, nil
}
