package keying

import (
	"context"
	"net/netip"
)

// none leaves the IKE daemon alone: static SAs, or a daemon that somebody else
// looks after.
type none struct{}

// NewNone returns the driver that does nothing.
func NewNone() Driver { return none{} }

// Name implements Driver.
func (none) Name() string { return "none" }

// Caps implements Driver.
func (none) Caps() Caps { return Caps{} }

// Probe implements Driver.
func (none) Probe(context.Context, []netip.Addr) (Info, error) { return Info{}, nil }

// Passive implements Driver.
func (none) Passive(context.Context, PassiveOrder) error { return nil }

// Active implements Driver.
func (none) Active(context.Context, Plan, func(Outcome)) error { return nil }

// Watch implements Driver.
func (none) Watch(context.Context) <-chan Notice { return nil }
