package keying

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// several drives those of its drivers whose daemon runs: all of them, or, for
// `control auto`, the only one.
type several struct {
	name    string
	one     bool
	drivers []Driver

	mu   sync.Mutex
	seen []Driver // those that ran when they were last looked for, if any did
}

// NewAll returns the driver of all of those whose daemon runs.
func NewAll(drivers ...Driver) Driver { return &several{name: "all", drivers: drivers} }

// NewAuto returns the driver of the one whose daemon runs, if there is one.
func NewAuto(drivers ...Driver) Driver { return &several{name: "auto", one: true, drivers: drivers} }

// Name implements Driver.
func (s *several) Name() string { return s.name }

// Caps implements Driver.
func (s *several) Caps() Caps {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := Caps{ProcessWide: true}
	for _, d := range s.seen {
		sum.FlushesOnStart = sum.FlushesOnStart || d.Caps().FlushesOnStart
	}
	return sum
}

// running returns the drivers whose daemon runs. That of one that cannot be
// asked counts, so that its error shows.
func (s *several) running(ctx context.Context) ([]Driver, error) {
	var out []Driver
	var names []string
	for _, d := range s.drivers {
		if _, err := d.Probe(ctx, nil); errors.Is(err, ErrNotRunning) {
			continue
		}
		out = append(out, d)
		names = append(names, d.Name())
	}
	if len(out) > 0 {
		s.mu.Lock()
		s.seen = out
		s.mu.Unlock()
	}
	if s.one && len(out) > 1 {
		return nil, fmt.Errorf("find the ike daemon: %s all run; write the one that is meant: control %s",
			strings.Join(names, ", "), names[0])
	}
	return out, nil
}

func (s *several) each(ctx context.Context, f func(Driver) error) error {
	ds, err := s.running(ctx)
	for _, d := range ds {
		if derr := f(d); derr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", d.Name(), derr))
		}
	}
	return err
}

// Probe implements Driver.
func (s *several) Probe(ctx context.Context, vips []netip.Addr) (Info, error) {
	var sum Info
	var versions []string
	err := s.each(ctx, func(d Driver) error {
		info, err := d.Probe(ctx, vips)
		if info.Version != "" {
			versions = append(versions, info.Version)
		}
		sum.IKESAs += info.IKESAs
		sum.Children += info.Children
		sum.Lint = append(sum.Lint, info.Lint...)
		if info.Stop != StopAsIs && sum.Stop != StopTears {
			sum.Stop = info.Stop
		}
		return err
	})
	sum.Version = strings.Join(versions, ", ")
	return sum, err
}

// Passive implements Driver.
func (s *several) Passive(ctx context.Context, h PassiveOrder) error {
	return s.each(ctx, func(d Driver) error { return d.Passive(ctx, h) })
}

// Active implements Driver.
func (s *several) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	var sum Outcome
	return s.each(ctx, func(d Driver) error {
		var last Outcome
		err := d.Active(ctx, p, func(o Outcome) {
			last = o
			if progress != nil {
				progress(sum.plus(o))
			}
		})
		sum = sum.plus(last)
		return err
	})
}

func (o Outcome) plus(p Outcome) Outcome {
	return Outcome{o.Wanted + p.Wanted, o.Up + p.Up, o.Pending + p.Pending, o.Failed + p.Failed}
}

// Watch implements Driver.
func (s *several) Watch(ctx context.Context) <-chan Notice {
	out := make(chan Notice)
	var all sync.WaitGroup
	for _, d := range s.drivers {
		w := d.Watch(ctx)
		if w == nil {
			continue
		}
		all.Go(func() {
			for n := range w {
				select {
				case out <- n:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() {
		all.Wait()
		close(out)
	}()
	return out
}
