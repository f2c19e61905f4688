package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// told is a source of which the test is the voice.
type told chan Observation

func (s told) Follow(ctx context.Context, see func(string, Observation)) error {
	for {
		select {
		case x := <-s:
			see("g", x)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fence notes what is done to it.
type fence struct {
	mu   sync.Mutex
	did  []string
	fail int // refusals to come
}

func (f *fence) note(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errors.New("the kernel is busy")
	}
	f.did = append(f.did, what)
	return nil
}

func (f *fence) Set(vips ...netip.Addr) error { return f.note(fmt.Sprint("set ", vips)) }
func (f *fence) Clear(link int, vips ...netip.Addr) error {
	return f.note(fmt.Sprint("clear ", link, " ", vips))
}
func (f *fence) RenewFor(d time.Duration) error { return f.note("renew " + d.String()) }

func (f *fence) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.did) == 0 {
		return ""
	}
	return f.did[len(f.did)-1]
}

func TestElector(t *testing.T) {
	src, fe, n := make(told), &fence{fail: 2}, newNode()
	n.set(true, 0, vip4)
	el := New(Config{Groups: group("g"), Source: src, Interfaces: n, Fence: fe, Holds: holds,
		Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- el.Run(ctx) }()
	next := func(kind engine.ElectorEventKind, role wire.Role) engine.ElectorEvent {
		t.Helper()
		select {
		case ev := <-el.Events():
			if ev.Kind != kind || ev.Role != role || ev.Term != 0 {
				t.Fatalf("event %+v, want kind %d and role %v, no term", ev, kind, role)
			}
			return ev
		case <-time.After(patience):
			t.Fatalf("no event, want kind %d", kind)
		}
		return engine.ElectorEvent{}
	}
	await := func(what string) {
		t.Helper()
		for end := time.Now().Add(patience); fe.last() != what; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the fence last had %q, want %q", fe.last(), what)
			}
		}
	}
	set := fmt.Sprint("set ", []netip.Addr{vip4, vip6})

	src <- Observation{}
	next(engine.ElectorState, wire.RoleBackup)
	next(engine.ElectorHeard, wire.RoleInit)
	await(set) // the kernel refused it twice
	el.Ready("g", engine.Readiness{InSync: true})
	src <- Observation{Master: true}
	next(engine.ElectorPrepare, wire.RoleInit)
	if fe.last() != set {
		t.Errorf("before the engine was prepared the fence had %q", fe.last())
	}
	el.Prepared("g", 0)
	next(engine.ElectorState, wire.RoleMaster)
	// Both on eth0, though only one address is there.
	fe.mu.Lock()
	if got, want := fmt.Sprint(fe.did[len(fe.did)-2:]), fmt.Sprintf("[clear 2 %v renew 30s]",
		[]netip.Addr{vip4, vip6}); got != want {
		t.Errorf("the fence had %v, want %v", got, want)
	}
	fe.mu.Unlock()

	// Two masters: this one gives way, and only as long as the other lives.
	el.Resign("g", "another master")
	next(engine.ElectorState, wire.RoleBackup)
	await(set)
	el.Ready("g", engine.Readiness{Master: true})
	el.Ready("g", engine.Readiness{InSync: true})
	next(engine.ElectorPrepare, wire.RoleInit)
	el.Prepared("g", 0)
	next(engine.ElectorState, wire.RoleMaster)

	// The end leaves a master's fence open for a while.
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	await("renew 30s")
}

// A tracker that fails ends the daemon, with the reason.
func TestElectorEndsWithItsSource(t *testing.T) {
	el := New(Config{Groups: group("g"), Source: failing{}, Interfaces: newNode(), Holds: holds,
		Log: slog.New(slog.DiscardHandler)})
	if err := el.Run(t.Context()); err == nil || !errors.Is(err, errFailed) {
		t.Errorf("error %v, want the source's", err)
	}
}

var errFailed = errors.New("failed")

type failing struct{}

func (failing) Follow(context.Context, func(string, Observation)) error { return errFailed }

func holds(context.Context, []netip.Addr) (bool, error) { return true, nil }
