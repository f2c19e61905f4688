package keying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDriver takes its time, notes what it was told, and complains when called
// twice at once.
type fakeDriver struct {
	t       *testing.T
	notices chan Notice

	mu    sync.Mutex
	busy  bool
	calls []string
	fail  int // how many calls from now on fail
	takes time.Duration
}

func (d *fakeDriver) Name() string                        { return "fake" }
func (d *fakeDriver) Caps() Caps                          { return Caps{} }
func (d *fakeDriver) Watch(context.Context) <-chan Notice { return d.notices }
func (d *fakeDriver) Probe(context.Context, []netip.Addr) (Info, error) {
	return Info{Version: "1"}, nil
}

func (d *fakeDriver) Passive(ctx context.Context, h PassiveOrder) error {
	return d.call(ctx, fmt.Sprintf("passive %d", h.Term))
}

func (d *fakeDriver) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	progress(Outcome{Wanted: 3, Up: 3})
	return d.call(ctx, fmt.Sprintf("active %d %v", p.Term, p.VIPs))
}

func (d *fakeDriver) call(ctx context.Context, what string) error {
	d.mu.Lock()
	if d.busy {
		d.t.Errorf("%s is called while another call is under way", what)
	}
	d.busy = true
	d.calls = append(d.calls, what)
	bad := d.fail > 0
	d.fail = max(0, d.fail-1)
	takes := d.takes
	d.mu.Unlock()
	var err error
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	d.mu.Lock()
	d.busy = false
	d.mu.Unlock()
	if bad {
		return errors.New("no")
	}
	return err
}

func (d *fakeDriver) said(want ...string) {
	d.t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.calls, want) {
		d.t.Errorf("driver was called %q, want %q", d.calls, want)
	}
	d.calls = nil
}

func started(t *testing.T) (*Runner, *fakeDriver) {
	d := &fakeDriver{t: t, notices: make(chan Notice), takes: 100 * time.Millisecond}
	r := NewRunner("carp1", d, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, d
}

func TestRunnerCarriesOutOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := started(t)
		var mu sync.Mutex
		var list []error
		note := func(err error) { mu.Lock(); list = append(list, err); mu.Unlock() }
		told := func() []error { mu.Lock(); defer mu.Unlock(); return slices.Clone(list) }
		r.Passive(PassiveOrder{Term: 1}, note)
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if len(told()) != 0 {
			t.Error("answered before the driver was done")
		}
		time.Sleep(2 * time.Millisecond)
		d.said("passive 1")
		if answers := told(); len(answers) != 1 || answers[0] != nil {
			t.Errorf("answers: %v", answers)
		}
		// A promotion that is called off in the middle.
		vip := netip.MustParseAddr("192.0.2.1")
		r.Active(Plan{Term: 2, VIPs: []netip.Addr{vip}})
		time.Sleep(50 * time.Millisecond)
		r.Passive(PassiveOrder{Term: 2}, note)
		time.Sleep(time.Second)
		d.said("active 2 [192.0.2.1]", "passive 2")
		if s := r.Status(); s.State != "passive" || s.Term != 2 || s.Error != "" {
			t.Errorf("status %+v", s)
		}
		// Stale.
		r.Active(Plan{Term: 1})
		r.Passive(PassiveOrder{Term: 1}, note)
		time.Sleep(time.Second)
		d.said()
		if answers := told(); len(answers) != 3 || !errors.Is(answers[2], ErrStale) {
			t.Errorf("answers: %v", answers)
		}
	})
}

func TestRunnerRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := started(t)
		d.fail = 2
		r.Active(Plan{Term: 3})
		time.Sleep(200 * time.Millisecond)
		if s := r.Status(); s.State != "activating" || s.Error != "no" {
			t.Errorf("after a failure: %+v", s)
		}
		time.Sleep(5 * time.Second)
		d.said("active 3 []", "active 3 []", "active 3 []")
		if s := r.Status(); s.State != "active" || s.Last.Up != 3 || s.Error != "" || s.PromoteSeconds < 0.3 {
			t.Errorf("status %+v", s)
		}
		// The daemon dies and comes back while master.
		d.fail = 1
		d.notices <- Notice{Kind: NoticeLost}
		time.Sleep(300 * time.Millisecond)
		d.notices <- Notice{Kind: NoticeBack}
		time.Sleep(time.Second)
		if s := r.Status(); s.State != "active" || s.Restarts != 1 {
			t.Errorf("status %+v", s)
		}
		d.mu.Lock()
		n := len(d.calls)
		d.mu.Unlock()
		if n < 2 {
			t.Errorf("%d calls after the daemon came back, want a repetition", n)
		}
	})
}

func TestRunnerAnswersWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{t: t, takes: time.Hour}
		r := NewRunner("carp1", d, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }()
		answer := make(chan error, 1)
		r.Passive(PassiveOrder{Term: 1}, func(err error) { answer <- err })
		synctest.Wait()
		stop()
		if err := <-answer; err == nil {
			t.Error("an order that was never carried out ended well")
		}
		synctest.Wait()
		r.Passive(PassiveOrder{Term: 2}, func(err error) { answer <- err })
		if err := <-answer; err == nil {
			t.Error("an order to a runner that has ended ended well")
		}
	})
}
