package keying

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// probed is a driver whose probes end as they are told to.
type probed struct {
	fakeDriver
	mu   sync.Mutex
	info Info
	err  error
}

func (d *probed) Probe(context.Context, []netip.Addr) (Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.info, d.err
}

func (d *probed) set(info Info, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.info, d.err = info, err
}

// TestLintsStayWhileProbesFail: what would harm a failover is not forgotten because it
// cannot be read any more, and that it cannot is told.
func TestLintsStayWhileProbesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &probed{fakeDriver: fakeDriver{t: t, notices: make(chan Notice)}}
		found := Info{Version: "1", Lint: []Lint{{"a trap", "avoid it"}}}
		d.set(found, nil)
		r := NewRunner("g", d, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go func() { _ = r.Run(ctx) }()
		look := func(what, trouble string, lints int, absent bool) {
			t.Helper()
			time.Sleep(probeEvery + 2*probeAgain)
			synctest.Wait()
			if s := r.Status(); s.ProbeError != trouble || len(s.Info.Lint) != lints || s.Absent != absent {
				t.Errorf("%s: %+v", what, s)
			}
		}
		look("a probe", "", 1, false)
		d.set(Info{}, errors.New("swanctl.conf is too long"))
		look("it fails", "swanctl.conf is too long", 1, false)
		d.set(found, nil)
		look("it works again", "", 1, false)
		d.set(Info{}, ErrNotRunning)
		look("the daemon has ended", "", 0, true)
	})
}

// TestOneFailedProbeIsNotTold: a daemon that is busy for a moment is no trouble.
func TestOneFailedProbeIsNotTold(t *testing.T) {
	d := &probed{fakeDriver: fakeDriver{t: t}}
	r := NewRunner("g", d, slog.New(slog.DiscardHandler))
	d.set(Info{}, errors.New("timeout"))
	for i, want := range []string{"", "timeout"} {
		if err := r.probe(t.Context()); err == nil || r.Status().ProbeError != want {
			t.Errorf("after probe %d: error %v, status %+v", i+1, err, r.Status())
		}
	}
}
