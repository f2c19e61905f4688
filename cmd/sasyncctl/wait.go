package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/report"
)

// waitEvery is how often check -w asks.
const waitEvery = time.Second

// waitFit asks until a failover would work, or -w has passed. It tells what it waits
// for on standard error, once for each change. A daemon that does not answer is
// waited for too. What is printed and returned is the last answer, as of check.
func (p *program) waitFit(ctx context.Context) (int, error) {
	end := time.Now().Add(time.Duration(p.flags.Wait) * time.Second)
	said := ""
	for {
		raw, v, err := p.verdict(ctx, max(time.Until(end), waitEvery))
		if err != nil && (ctx.Err() != nil || !errors.Is(err, daemon.ErrUnreachable)) {
			return 0, err
		}
		now := waitsFor(v, err)
		if now == "" || !time.Now().Add(waitEvery).Before(end) {
			if err != nil {
				return 0, err
			}
			if p.flags.JSON {
				_, err = fmt.Fprintf(p.out, "%s\n", raw)
			} else {
				err = check(p.out, v, p.paint)
			}
			return answered(v.Answer), err
		}
		if now != said {
			said = now
			fmt.Fprintln(p.errs, "waiting: "+now)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(waitEvery):
		}
	}
}

// verdict asks once, by a connection of its own: the daemon may be restarted meanwhile.
// It waits for the answer for at most limit.
func (p *program) verdict(ctx context.Context, limit time.Duration) (raw json.RawMessage, v report.Verdict, err error) {
	c, err := daemon.DialControl(ctx, p.flags.Socket)
	if err != nil {
		return nil, v, err
	}
	defer c.Close()
	c.Patience = min(patience("check"), limit)
	if err := c.Get(ctx, "check", nil, &raw); err != nil {
		return nil, v, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, v, fmt.Errorf("read answer to check: %w", err)
	}
	return raw, v, nil
}

// waitsFor says in one line what is not there yet, "" if nothing is missing.
func waitsFor(v report.Verdict, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case v.Answer == report.AnswerYes:
		return ""
	case len(v.Reasons) == 0:
		return v.Summary
	}
	s := v.Reasons[0].Where() + v.Reasons[0].What
	if n := len(v.Reasons) - 1; n > 0 {
		s += fmt.Sprintf(", and %d more", n)
	}
	return s
}
