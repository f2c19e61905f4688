package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp/api"
)

func state(s string, term uint64) api.Message {
	return api.Message{Event: api.EventState, Group: "ipsec", State: &api.GroupState{Group: "ipsec", State: s,
		Term: term, Reason: "why"}}
}

// played runs a notifier on events in virtual time and returns what the program
// was told, with the second in which it was.
func played(t *testing.T, run func(n notice) error, play func(events chan<- api.Message)) (told []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n := &notifier{group: "ipsec", argv: []string{"prog"}, log: slog.New(slog.DiscardHandler)}
		n.run = func(_ context.Context, x notice) error {
			told = append(told, time.Since(began).Truncate(time.Second).String()+" "+x.state)
			if run != nil {
				return run(x)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		events, wants, done := make(chan api.Message), make(chan notice, 1), make(chan struct{})
		go func() { n.tell(ctx, wants); close(done) }()
		go func() { play(events); close(events) }()
		n.watch(events, wants)
		synctest.Wait()
		cancel()
		<-done
	})
	return told
}

// TestNotify: the sleeps are of virtual time, and the rows say what runs when.
func TestNotify(t *testing.T) {
	failures := 2
	for name, tt := range map[string]struct {
		run  func(n notice) error
		play func(events chan<- api.Message)
		want []string
	}{
		"changes, each once": {
			play: func(events chan<- api.Message) {
				for _, m := range []api.Message{state(api.StateBackup, 0), state(api.StateBackup, 4),
					state(api.StateMaster, 5), state(api.StateMaster, 5),
					state(api.StateBackup, 5), state(api.StateInit, 5)} {
					events <- m
					time.Sleep(time.Second)
				}
			},
			want: []string{"0s BACKUP", "2s MASTER", "4s BACKUP", "5s FAULT"},
		},
		"no carpd at the start": {
			play: func(events chan<- api.Message) {
				time.Sleep(5 * time.Second)
				events <- state(api.StateMaster, 1)
			},
			want: []string{"1s FAULT", "5s MASTER"},
		},
		"carpd dies": {
			play: func(events chan<- api.Message) {
				events <- state(api.StateMaster, 1)
				time.Sleep(3 * time.Second)
				events <- api.Message{Event: api.EventDisconnected}
				time.Sleep(2 * time.Second)
				events <- state(api.StateBackup, 1)
			},
			want: []string{"0s MASTER", "3s FAULT", "5s BACKUP"},
		},
		"carpd is restarted": {
			play: func(events chan<- api.Message) {
				events <- state(api.StateMaster, 1)
				events <- api.Message{Event: api.EventFreeze, ForMS: 10_000}
				events <- api.Message{Event: api.EventDisconnected}
				time.Sleep(8 * time.Second)
				events <- state(api.StateMaster, 1)
				time.Sleep(8 * time.Second)
			},
			want: []string{"0s MASTER"},
		},
		"a restart that takes too long": {
			play: func(events chan<- api.Message) {
				events <- state(api.StateMaster, 1)
				events <- api.Message{Event: api.EventFreeze, ForMS: 10_000}
				events <- api.Message{Event: api.EventDisconnected}
				time.Sleep(12 * time.Second)
			},
			want: []string{"0s MASTER", "10s FAULT"},
		},
		"the latest, when the program has ended": {
			run: func(notice) error { time.Sleep(3 * time.Second); return nil },
			play: func(events chan<- api.Message) {
				events <- state(api.StateBackup, 0)
				time.Sleep(time.Second)
				events <- state(api.StateMaster, 1)
				events <- state(api.StateBackup, 1)
				events <- state(api.StateMaster, 2)
				time.Sleep(9 * time.Second)
			},
			want: []string{"0s BACKUP", "3s MASTER"},
		},
		"a program that fails": {
			run: func(notice) error {
				if failures--; failures >= 0 {
					return errors.New("exit status 1")
				}
				return nil
			},
			play: func(events chan<- api.Message) {
				events <- state(api.StateMaster, 1)
				time.Sleep(20 * time.Second)
			},
			want: []string{"0s MASTER", "1s MASTER", "3s MASTER"},
		},
		"what failed is not repeated when it is over": {
			run: func(n notice) error {
				if n.state == notifyMaster {
					return errors.New("exit status 1")
				}
				return nil
			},
			play: func(events chan<- api.Message) {
				events <- state(api.StateBackup, 0)
				time.Sleep(time.Second)
				events <- state(api.StateMaster, 1)
				time.Sleep(500 * time.Millisecond)
				events <- state(api.StateBackup, 1)
				time.Sleep(20 * time.Second)
			},
			want: []string{"0s BACKUP", "1s MASTER", "1s BACKUP"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, played(t, tt.run, tt.play)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The program gets its own arguments, keepalived's, and an environment.
func TestNotifyExecutes(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	n, err := newNotifier("", []string{"ipsec", "sh", "-c",
		`echo "$@" "$CARP_GROUP $CARP_STATE $CARP_TERM $CARP_REASON $CARP_VIPS" > ` + out, "sh", "mine"},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	x := noticeOf(&api.GroupState{State: api.StateMaster, Term: 7, Reason: "takeover",
		VIPs: []api.VIP{{Address: netip.MustParseAddr("192.0.2.1")}, {Address: netip.MustParseAddr("2001:db8::1")}}})
	if err := n.run(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if want := "mine GROUP ipsec MASTER ipsec MASTER 7 takeover 192.0.2.1 2001:db8::1\n"; err != nil ||
		string(b) != want {
		t.Errorf("the program was given %q, want %q: %v", b, want, err)
	}
	// One that hangs is ended, with what it started.
	n.argv = []string{"sh", "-c", "sleep 1000 | sleep 1000"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.run(ctx, x); err == nil {
		t.Error("a program that was ended has succeeded")
	}
}

// STOP is the last that a program is told.
func TestNotifyStops(t *testing.T) {
	socket := (&fake{}).start(t)
	n, err := newNotifier(socket, []string{"ipsec", "true"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var last string
	ctx, cancel := context.WithCancel(t.Context())
	n.run = func(_ context.Context, x notice) error {
		last = x.state
		cancel() // after FAULT: the fake tells no state
		return nil
	}
	if err := n.follow(ctx); err != nil || last != notifyStop {
		t.Errorf("the last state told is %q, error %v", last, err)
	}
}

func TestNotifyUsage(t *testing.T) {
	for _, line := range []string{"notify", "notify ipsec", "notify ipsec /no/such/program"} {
		if code := run(strings.Fields(line), io.Discard, io.Discard); code != 2 {
			t.Errorf("%s: exit code %d, want 2", line, code)
		}
	}
}
