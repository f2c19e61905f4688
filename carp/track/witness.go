package track

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// WitnessConfig is where a group looks for a witness. One that answers is
// enough.
type WitnessConfig struct {
	Group string
	Addrs []netip.Addr
	Each  time.Duration // between two requests to an address
	Lost  time.Duration // without an answer of any, no witness is reachable
}

// WitnessSink is told what is known of a group's witness. sent is when the request
// that was answered had left, by CLOCK_BOOTTIME: at that time the way was open.
// It is called from several goroutines, with each answer.
type WitnessSink interface {
	Witness(group string, reachable bool, sent time.Duration)
}

// Witness asks the witnesses of a group whether they are there.
type Witness struct {
	cfg  WitnessConfig
	to   WitnessSink
	log  *slog.Logger
	open func(netip.Addr) (echoer, error)
	now  func() time.Duration

	mu       sync.Mutex
	answered time.Duration // when the last answer came, or the start
	lost     bool
}

// echoer asks one address; echoSocket is one.
type echoer interface {
	Send(seq uint16) error
	Receive(wait time.Duration) (seq uint16, ok bool, err error)
	Close()
}

// NewWitness makes one.
func NewWitness(cfg WitnessConfig, to WitnessSink, log *slog.Logger) *Witness {
	return &Witness{cfg: cfg, to: to, log: log, now: bootTime,
		open: func(a netip.Addr) (echoer, error) { return openEcho(a) }}
}

// Run asks until ctx ends.
func (w *Witness) Run(ctx context.Context) error {
	w.answered = w.now()
	var wg sync.WaitGroup
	for _, a := range w.cfg.Addrs {
		wg.Go(func() { w.ask(ctx, a) })
	}
	tick := time.NewTicker(w.cfg.Each)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			w.judge(ctx)
		}
	}
	wg.Wait()
	return nil
}

// judge notices that no witness answers any more.
func (w *Witness) judge(ctx context.Context) {
	w.mu.Lock()
	silent := w.now() - w.answered
	fresh := silent >= w.cfg.Lost && !w.lost
	w.lost = w.lost || fresh
	w.mu.Unlock()
	if fresh {
		w.log.WarnContext(ctx, "no witness answers", "group", w.cfg.Group, "for", silent)
		w.to.Witness(w.cfg.Group, false, 0)
	}
}

func (w *Witness) heard(ctx context.Context, a netip.Addr, sent time.Duration) {
	w.mu.Lock()
	was := w.lost
	w.answered, w.lost = w.now(), false
	w.mu.Unlock()
	if was {
		w.log.InfoContext(ctx, "a witness answers", "group", w.cfg.Group, "witness", a)
	}
	w.to.Witness(w.cfg.Group, true, sent)
}

// flights is how many requests may be on their way.
const flights = 64

// ask asks one address in a steady rhythm, whether it answers or not: the way
// may be longer than the rhythm.
func (w *Witness) ask(ctx context.Context, a netip.Addr) {
	var (
		s    echoer
		seq  uint16
		sent [flights]time.Duration // by sequence number, 0 not, or answered
		told string
	)
	fail := func(err error) {
		if err.Error() != told {
			told = err.Error()
			w.log.WarnContext(ctx, "witness cannot be asked", "group", w.cfg.Group, "witness", a, "err", err)
		}
		if s != nil {
			s.Close()
			s = nil
		}
	}
	for next := time.Now(); ctx.Err() == nil; next = next.Add(w.cfg.Each) {
		if late := time.Since(next); late > w.cfg.Each {
			next = time.Now()
		}
		if s == nil {
			var err error
			if s, err = w.open(a); err != nil {
				fail(err)
			}
		}
		if s != nil {
			seq++
			sent[seq%flights] = w.now()
			if err := s.Send(seq); err != nil {
				fail(err)
			} else {
				told = ""
			}
		}
		for ctx.Err() == nil {
			left := time.Until(next.Add(w.cfg.Each))
			if left <= 0 {
				break
			}
			if s == nil {
				select {
				case <-ctx.Done():
				case <-time.After(left):
				}
				continue
			}
			got, ok, err := s.Receive(min(left, stopLimit))
			if err != nil {
				fail(err)
				continue
			}
			if at := sent[got%flights]; ok && at != 0 && seq-got < flights {
				sent[got%flights] = 0
				w.heard(ctx, a, at)
			}
		}
	}
	if s != nil {
		s.Close()
	}
}

// stopLimit bounds how long the end is not noticed.
const stopLimit = 200 * time.Millisecond

// bootTime reads the clock of the election.
func bootTime() time.Duration {
	var ts unix.Timespec
	// Fails only for a clock that does not exist (Linux 2.6.39 has it).
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
