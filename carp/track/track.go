// Package track watches things outside the election that make a node a lesser
// master: a link, a file, a command, an address, a BFD session. Each becomes a
// demotion with the id "track:KIND:TARGET" while something is wrong with it.
package track

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/bfd"
	"sasyncd/kernel/process"
	"sasyncd/kernel/trusted"
)

// Kind is what is tracked.
type Kind string

// The kinds.
const (
	Link    Kind = "link"    // demote while the interface is missing or has no carrier
	File    Kind = "file"    // demote by the number in the file; none in it: by the configured one
	Exec    Kind = "exec"    // demote while the command fails
	Address Kind = "address" // demote while the address does not answer ICMP echo
	BFD     Kind = "bfd"     // demote while the BFD session with the address is not Up
)

// Times that are not configurable. A link is looked at that often when the
// kernel does not tell by itself, and a file always.
const (
	linkEach = 100 * time.Millisecond
	fileEach = 200 * time.Millisecond
)

// Config is one track.
type Config struct {
	Kind     Kind
	Target   string     // interface, path of a file, path of a program
	Addr     netip.Addr // of Address and BFD, without a zone
	Group    string
	Demote   int           // 1..255
	Interval time.Duration // Exec, Address; BFD: whole microseconds, up to bfd.MaxInterval
	Timeout  time.Duration // Exec, Address
	Fail     int           // of Address: requests in a row that must stay unanswered

	// Of BFD. Tracks of several groups with the same Addr and Device are one session
	// and must be alike in the rest of this.
	Device     string     // the neighbor is on this interface; required if Addr is link-local
	Source     netip.Addr // own address; invalid: what the kernel chooses
	Multiplier int        // 1..255
}

// ID is the id of the demotion.
func (c *Config) ID() string {
	switch {
	case c.Kind == BFD && c.Device != "":
		return "track:bfd:" + c.Addr.String() + "%" + c.Device
	case c.Kind == BFD || c.Kind == Address:
		return "track:" + string(c.Kind) + ":" + c.Addr.String()
	}
	return fmt.Sprintf("track:%s:%s", c.Kind, c.Target)
}

// Demoter holds demotions; by 0 withdraws. It is told of the BFD sessions of a group,
// too, whether they demote or not; device is empty for one on any interface. It is
// called when something changed, from several goroutines.
type Demoter interface {
	Track(group, id string, by int, reason string)
	BFD(group string, neighbor netip.Addr, device string, status bfd.Status)
}

// Tracker runs tracks.
type Tracker struct {
	tracks []Config
	to     Demoter
	log    *slog.Logger
}

// New makes a tracker.
func New(tracks []Config, to Demoter, log *slog.Logger) *Tracker {
	return &Tracker{tracks, to, log}
}

// Run watches until ctx ends. An error is of what BFD sessions need of the kernel.
func (t *Tracker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg  sync.WaitGroup
		err error
	)
	for i := range t.tracks {
		if t.tracks[i].Kind != BFD {
			wg.Go(func() { t.watch(ctx, &t.tracks[i]) })
		}
	}
	if s := newSpeaker(t); len(s.neighbors) > 0 {
		wg.Go(func() {
			if err = s.run(ctx); err != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return err
}

// watch looks again and again and tells what has changed.
func (t *Tracker) watch(ctx context.Context, c *Config) {
	look, each := t.look(c)
	tick := time.NewTicker(each)
	defer tick.Stop()
	last := 0
	for {
		by, reason := look(ctx)
		if ctx.Err() != nil {
			return
		}
		if by != last {
			t.tell(c, by, reason)
			last = by
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell says by how much to demote from now on.
func (t *Tracker) tell(c *Config, by int, reason string) {
	level := slog.LevelWarn
	if by == 0 {
		level = slog.LevelInfo
	}
	t.log.Log(context.Background(), level, "track", "id", c.ID(), "group", c.Group, "demote", by, "reason", reason)
	t.to.Track(c.Group, c.ID(), by, reason)
}

// look returns the function that says by how much to demote now and why.
func (t *Tracker) look(c *Config) (func(context.Context) (int, string), time.Duration) {
	judge := func(check func(context.Context) error) func(context.Context) (int, string) {
		return func(ctx context.Context) (int, string) {
			if err := check(ctx); err != nil {
				return c.Demote, err.Error()
			}
			return 0, ""
		}
	}
	switch c.Kind {
	case Link:
		l := &linkCheck{look: func() error { return carrier(c.Target) }}
		return judge(l.check), linkEach
	case Exec:
		return judge(c.run), c.Interval
	case Address:
		p := &pinger{addr: c.Addr, timeout: c.Timeout, fail: c.Fail}
		return judge(p.check), c.Interval
	}
	return func(context.Context) (int, string) { return number(c.Target, c.Demote) }, fileEach
}

// number reads by how much a file wants to demote. A file that does not exist
// or holds 0 does not; one that holds no number demotes by otherwise.
func number(path string, otherwise int) (int, string) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, ""
	}
	if err != nil {
		return otherwise, err.Error()
	}
	text := strings.TrimSpace(string(b))
	n, err := strconv.Atoi(text)
	if err != nil {
		return otherwise, "the file exists"
	}
	if n < 0 {
		n = -n // as keepalived's track_file writes it
	}
	return min(n, 255), fmt.Sprintf("the file says %d", n)
}

// withoutPrivilege calls f on a thread of its own that hands no capabilities on
// to what it starts: a probe does not need those of the election.
func withoutPrivilege(f func() error) error {
	ch := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		// EINVAL of a kernel without ambient capabilities: then there are none.
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil &&
			err != unix.EINVAL {
			ch <- fmt.Errorf("drop capabilities: %w", err)
			return
		}
		ch <- f()
	}()
	return <-ch
}

// run runs the command.
func (c *Config) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	program, err := trusted.For(os.Geteuid()).Program(c.Target)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	defer program.Close()
	cmd := program.Command(ctx)
	process.Contain(cmd)
	err = withoutPrivilege(cmd.Run)
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("command did not end within %v", c.Timeout)
	case err != nil:
		return fmt.Errorf("command: %w", err)
	}
	return nil
}
