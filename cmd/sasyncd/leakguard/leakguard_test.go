package leakguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/guard"
	"sasyncd/sync/sadb"
)

// bench is a Guard with a kernel that the test plays.
type bench struct {
	policies []*sadb.Policy
	reading  time.Duration // what reading them takes
	reads    int
	changes  chan struct{}
	filter   fakeFilter
	sink     fakeSink
	log      lockedLog
	path     string
	stop     context.CancelFunc
	guard    *Guard
}

// The walls are changed by the test, under mu, while the Guard runs.
type fakeFilter struct {
	mu      sync.Mutex
	program *guard.Program
	foreign chan struct{}
	drops   atomic.Uint64
	err     error
	sets    int
}

func (f *fakeFilter) Set(_ context.Context, p guard.Program) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.program = &p
		f.sets++
	}
	return f.err
}
func (f *fakeFilter) There(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.program != nil, nil
}
func (f *fakeFilter) Drops(context.Context) (uint64, error) { return f.drops.Load(), nil }
func (f *fakeFilter) Watch(context.Context) (<-chan struct{}, error) {
	return f.foreign, nil
}

type fakeSink struct {
	mu     sync.Mutex
	routes []guard.Route
	err    error
}

func (s *fakeSink) Set(r []guard.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.routes = r
	}
	return s.err
}
func (s *fakeSink) There(r []guard.Route) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.routes) == len(r), nil
}

var (
	local  = netip.MustParsePrefix("10.1.0.0/16")
	remote = netip.MustParsePrefix("10.2.0.0/16")
	inside = guard.Packet{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 17}
)

func policy(src, dst netip.Prefix) *sadb.Policy {
	return &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sadb.SelectorOf(src, dst)},
		Action: sadb.ActionAllow, Templates: []sadb.Template{{Mode: sadb.ModeTunnel, Proto: 50, Family: sadb.FamilyIPv4,
			Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}}}
}

// begin starts a Guard in a bubble of virtual time.
func begin(t *testing.T, b *bench) {
	t.Helper()
	if b.path == "" {
		b.path = filepath.Join(t.TempDir(), "guard.json")
	}
	b.changes, b.filter.foreign = make(chan struct{}, 1), make(chan struct{}, 1)
	b.guard = New(Config{Path: b.path, Filter: &b.filter, Sink: &b.sink,
		Policies: func(context.Context) ([]*sadb.Policy, error) {
			b.reads++
			time.Sleep(b.reading) // virtual
			return b.policies, nil
		},
		Changes: func(context.Context) (<-chan struct{}, error) { return b.changes, nil },
		Write:   func(path string, content []byte) error { return os.WriteFile(path, content, 0o600) },
		Log:     slog.New(slog.NewTextHandler(&b.log, nil))})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.guard.Run(ctx) }()
	b.stop = func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
}

// without has somebody else take walls down.
func (b *bench) without(filter, sink bool) {
	b.filter.mu.Lock()
	defer b.filter.mu.Unlock()
	b.sink.mu.Lock()
	defer b.sink.mu.Unlock()
	if filter {
		b.filter.program = nil
	}
	if sink {
		b.sink.routes = nil
	}
}

// now has the kernel hold other policies, and tells the Guard.
func (b *bench) now(p ...*sadb.Policy) {
	b.policies = p
	b.changes <- struct{}{}
	time.Sleep(time.Second) // virtual
	synctest.Wait()
}

func (b *bench) drops() bool {
	b.filter.mu.Lock()
	defer b.filter.mu.Unlock()
	return b.filter.program != nil && b.filter.program.Drops(inside)
}

// routes is how many the second wall has, and sets how often the first was set.
func (b *bench) routes() int { b.sink.mu.Lock(); defer b.sink.mu.Unlock(); return len(b.sink.routes) }
func (b *bench) sets() int   { b.filter.mu.Lock(); defer b.filter.mu.Unlock(); return b.filter.sets }

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedLog) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func TestPolicyThatIsGoneIsGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		begin(t, &b)
		defer func() { b.stop() }()
		if b.drops() {
			t.Error("a packet is dropped, and no policy was ever there")
		}
		b.now(policy(local, remote))
		if !b.drops() || b.routes() != 1 {
			t.Fatalf("dropped: %v, routes %d", b.drops(), b.routes())
		}
		b.now()
		if s := b.guard.State(); !b.drops() || s.Selectors != 1 || s.Remembered != 1 {
			t.Errorf("the policy was flushed: dropped %v, %+v", b.drops(), s)
		}

		// The daemon starts again on a machine that has booted.
		b.stop()
		b.without(true, true)
		begin(t, &b)
		synctest.Wait()
		if !b.drops() || b.routes() != 1 {
			t.Errorf("after a start: dropped %v, routes %d", b.drops(), b.routes())
		}

		if n, err := b.guard.Forget(t.Context(), netip.MustParsePrefix("10.3.0.0/16")); n != 0 || err != nil {
			t.Errorf("another network: %d forgotten, %v", n, err)
		}
		if n, err := b.guard.Forget(t.Context(), netip.MustParsePrefix("10.0.0.0/8")); n != 1 || err != nil || b.drops() {
			t.Errorf("%d forgotten, %v; dropped %v", n, err, b.drops())
		}
	})
}

// A kernel that cannot have the table has routes alone, and says so once.
func TestKernelWithoutTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		b.filter.err = errors.ErrUnsupported
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		b.now(policy(local, remote), policy(remote, local))
		s := b.guard.State()
		if b.routes() != 2 || s.Trouble != "" || !slices.Equal(s.Walls, []string{"routes"}) {
			t.Errorf("%d routes, %+v", b.routes(), s)
		}
		if n := strings.Count(b.log.String(), "routes alone"); n != 1 {
			t.Errorf("told %d times:\n%s", n, &b.log)
		}
	})
}

// A kernel that cannot have the routes has the table, and the guard says what is missing:
// once, and never that somebody has removed it.
func TestKernelWithoutTheRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		b.sink.err = fmt.Errorf("no dummy devices: %w", syscall.EOPNOTSUPP)
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		time.Sleep(time.Hour)
		s := b.guard.State()
		if !b.drops() || s.Repairs != 0 || !strings.Contains(s.Trouble, "no dummy devices") ||
			!slices.Contains(s.Walls, "nftables") {
			t.Errorf("drops %v, %+v", b.drops(), s)
		}
		if n := strings.Count(b.log.String(), "\n"); n != 1 || strings.Contains(b.log.String(), "routes alone") {
			t.Errorf("%d lines are told:\n%s", n, &b.log)
		}
		b.sink.mu.Lock()
		b.sink.err = nil // the module is loaded
		b.sink.mu.Unlock()
		time.Sleep(time.Hour)
		if s := b.guard.State(); s.Trouble != "" || b.routes() == 0 {
			t.Errorf("%d routes, %+v", b.routes(), s)
		}
	})
}

func TestWhatIsGoneEndsAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		b.now()
		time.Sleep(guard.Keep - time.Minute) // virtual
		synctest.Wait()
		if !b.drops() {
			t.Error("forgotten before its time")
		}
		time.Sleep(2 * time.Minute) // virtual
		synctest.Wait()
		if b.drops() || b.guard.State().Selectors != 0 {
			t.Errorf("still dropped after a day: %+v", b.guard.State())
		}
	})
}

func TestForeignFlushIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		b.without(true, false)
		b.filter.foreign <- struct{}{}
		synctest.Wait() // at once, not at the next look
		if !b.drops() || b.guard.State().Repairs != 1 {
			t.Errorf("dropped %v, %+v", b.drops(), b.guard.State())
		}
		b.without(false, true)
		time.Sleep(tendEach) // virtual
		synctest.Wait()
		if b.routes() != 1 || b.guard.State().Repairs != 2 {
			t.Errorf("routes %d, %+v", b.routes(), b.guard.State())
		}
		// Another change of the ruleset by others costs nothing.
		sets := b.sets()
		b.filter.foreign <- struct{}{}
		synctest.Wait()
		if b.sets() != sets {
			t.Error("the table was replaced, and nothing was the matter")
		}
	})
}

func TestRefusedWallIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		b.filter.err = errors.New("no memory")
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		if s := b.guard.State(); !strings.Contains(s.Trouble, "no memory") || b.routes() != 1 {
			t.Errorf("%+v, routes %d", s, b.routes())
		}
		time.Sleep(10 * tendEach) // virtual
		synctest.Wait()
		if n := strings.Count(b.log.String(), "not whole"); n != 1 {
			t.Errorf("told %d times:\n%s", n, &b.log)
		}
		b.filter.mu.Lock()
		b.filter.err = nil
		b.filter.mu.Unlock()
		time.Sleep(tendEach) // virtual
		synctest.Wait()
		if s := b.guard.State(); s.Trouble != "" || !b.drops() || !strings.Contains(b.log.String(), "whole again") {
			t.Errorf("%+v, dropped %v:\n%s", s, b.drops(), &b.log)
		}
	})
}

func TestFileThatIsDamagedIsKeptAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bench{path: filepath.Join(t.TempDir(), "guard.json")}
		if err := os.WriteFile(b.path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		begin(t, &b)
		defer func() { b.stop() }()
		b.now(policy(local, remote))
		if src, err := os.ReadFile(b.path + ".bad"); string(src) != "{" || !b.drops() {
			t.Errorf("%q, %v; dropped %v", src, err, b.drops())
		}
		if _, sink, err := Load(b.path); err != nil || !sink {
			t.Errorf("the new file: %v", err)
		}
	})
}

// Policies that change without end cost a twentieth of the time, not all of it.
func TestReadingsHaveAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bench{reading: 50 * time.Millisecond}
		begin(t, &b)
		defer func() { b.stop() }()
		for range 1000 {
			select {
			case b.changes <- struct{}{}:
			default:
			}
			time.Sleep(10 * time.Millisecond) // virtual
		}
		synctest.Wait()
		if b.reads < 9 || b.reads > 12 {
			t.Errorf("%d readings in 10 s, want one a second", b.reads)
		}
	})
}

func TestDropsAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bench
		begin(t, &b)
		defer func() { b.stop() }()
		for range 36 { // three minutes
			b.filter.drops.Add(10)
			time.Sleep(tendEach) // virtual
		}
		synctest.Wait()
		if n := strings.Count(b.log.String(), "would have left in plaintext"); n != 3 {
			t.Errorf("told %d times:\n%s", n, &b.log)
		}
		if n := b.guard.State().Drops; n != 360 {
			t.Errorf("%d drops, want 360", n)
		}
		// What is told as lately ends.
		if n := b.guard.State().Lately; n != 360 {
			t.Errorf("%d drops lately, want 360", n)
		}
		time.Sleep(Recent - time.Minute) // virtual
		if n := b.guard.State().Lately; n == 0 || n >= 360 {
			t.Errorf("%d drops lately, want those of the last minute and no more", n)
		}
		time.Sleep(time.Minute + 2*tendEach) // virtual
		if n := b.guard.State(); n.Lately != 0 || n.Drops != 360 {
			t.Errorf("%d drops lately, %d in all; want 0 and 360", n.Lately, n.Drops)
		}
	})
}
