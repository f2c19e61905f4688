package keying

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// strongSwanHA drives strongSwan with its ha plugin (segment_count = 1,
// monitor = no), which replicates IKE SAs and child SAs itself, but no
// counters. A change of role is a line in its FIFO.
type strongSwanHA struct {
	strongSwan
}

// NewStrongSwanHA returns the driver of strongSwan with its ha plugin.
func NewStrongSwanHA(p Privileged) Driver { return &strongSwanHA{strongSwan{p}} }

// Name implements Driver.
func (*strongSwanHA) Name() string { return "strongswan-ha" }

// Caps implements Driver.
func (*strongSwanHA) Caps() Caps { return Caps{ProcessWide: true, CountersOnly: true} }

// turnLimit is how long charon may take to turn its IKE SAs round.
const turnLimit = 2 * time.Second

// turnPoll is between two looks at that. A hand-over waits for it.
const turnPoll = 5 * time.Millisecond

// Passive implements Driver. Whoever does not answer is killed: an active
// charon with monitor = no would speak on.
func (s *strongSwanHA) Passive(ctx context.Context, h PassiveOrder) error {
	err := s.turn(ctx, "-1", func(state string) bool { return state == "PASSIVE" })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotRunning):
		return s.startIf(ctx, h)
	}
	if err := s.priv.Kill(ctx, StrongSwan); err != nil {
		return err
	}
	return s.startIf(ctx, h)
}

// Active implements Driver. Nothing is initiated: the IKE SAs are all there.
func (s *strongSwanHA) Active(ctx context.Context, p Plan, progress func(Outcome)) error {
	c, err := s.await(ctx)
	if err != nil {
		return err
	}
	c.Close()
	if err := s.turn(ctx, "+1", func(state string) bool { return state != "PASSIVE" }); err != nil {
		return err
	}
	// A cold start has none yet, and those that the other node could not
	// replicate are made as without the plugin.
	return s.strongSwan.Active(ctx, p, progress)
}

// turn tells charon and waits until all its IKE SAs are as they should be.
func (s *strongSwanHA) turn(ctx context.Context, line string, good func(state string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := s.priv.Tell(ctx, StrongSwan, line); err != nil {
		return err
	}
	for {
		own, err := listSAs(ctx, c)
		if err != nil {
			return err
		}
		wrong := 0
		for _, sa := range own {
			if !good(sa.state) {
				wrong++
			}
		}
		if wrong == 0 {
			return nil
		}
		if !sleep(ctx, turnPoll) {
			return fmt.Errorf("write %s to charon's fifo: %d IKE SAs have not turned within %v", line, wrong, turnLimit)
		}
	}
}
