package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

func TestFence(t *testing.T) {
	prepare := func(to, reason string, term uint64) api.Message {
		return api.Message{Event: api.EventPrepare, Group: "ipsec", To: to, Reason: reason, Term: term, ForMS: 5000}
	}
	for name, tt := range map[string]struct {
		takes  time.Duration // of the program
		err    error
		events []api.Message // one each second
		want   []string
	}{
		"a silent master": {
			takes:  2 * time.Second,
			events: []api.Message{prepare(api.StateMaster, carp.ReasonTimedOut, 3)},
			want:   []string{"0s run master timed out", "2s prepared 3"},
		},
		"nobody since the start": {
			events: []api.Message{prepare(api.StateMaster, carp.ReasonNobody, 1)},
			want:   []string{"0s run no master heard", "0s prepared 1"},
		},
		"what the master agreed to": {
			events: []api.Message{prepare(api.StateMaster, "master resigned", 3),
				prepare(api.StateMaster, "takeover", 4), prepare(api.StateBackup, "resign", 4)},
			want: []string{"0s prepared 3", "1s prepared 4", "2s prepared 4"},
		},
		"the program fails": {
			err:    errors.New("exit status 1"),
			events: []api.Message{prepare(api.StateMaster, carp.ReasonTimedOut, 3)},
			want:   []string{"0s run master timed out"},
		},
		"the program takes too long": {
			takes:  9 * time.Second,
			events: []api.Message{prepare(api.StateMaster, carp.ReasonTimedOut, 3)},
			want:   []string{"0s run master timed out", "5s ended"},
		},
		"the master is heard again": {
			takes:  3 * time.Second,
			events: []api.Message{prepare(api.StateMaster, carp.ReasonTimedOut, 3), {Event: api.EventCancel, Term: 3}},
			want:   []string{"0s run master timed out", "1s ended"},
		},
		"carpd dies": {
			takes:  3 * time.Second,
			events: []api.Message{prepare(api.StateMaster, carp.ReasonTimedOut, 3), {Event: api.EventDisconnected}},
			want:   []string{"0s run master timed out", "1s ended"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				say := func(format string, args ...any) {
					got = append(got, time.Since(began).String()+" "+fmt.Sprintf(format, args...))
				}
				n := &notifier{group: "ipsec", argv: []string{"prog"}, log: slog.New(slog.DiscardHandler)}
				n.run = func(ctx context.Context, x notice) error {
					say("run %s", x.reason)
					select {
					case <-ctx.Done():
						say("ended")
						return ctx.Err()
					case <-time.After(tt.takes):
						return tt.err
					}
				}
				events := make(chan api.Message)
				go func() {
					for _, m := range tt.events {
						events <- m
						time.Sleep(time.Second) // virtual time: the rows say what happens when
					}
					time.Sleep(10 * time.Second)
					close(events)
				}()
				n.guard(t.Context(), events, func(_ context.Context, group string, term uint64) error {
					say("prepared %d", term)
					return nil
				})
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
