package keying

import (
	"context"
	"net/netip"
)

// isakmpd drives OpenBSD's isakmpd by its FIFO (isakmpd(8), "M active" and
// "M passive"). It must run with -S.
type isakmpd struct {
	priv Privileged
}

// NewISAKMPD returns the driver of isakmpd.
func NewISAKMPD(p Privileged) Driver { return &isakmpd{p} }

// Name implements Driver.
func (*isakmpd) Name() string { return "isakmpd" }

// Caps implements Driver.
func (*isakmpd) Caps() Caps { return Caps{ProcessWide: true} }

// Probe implements Driver.
func (i *isakmpd) Probe(ctx context.Context, _ []netip.Addr) (Info, error) {
	return Info{}, i.priv.Running(ctx, ISAKMPD)
}

// Passive implements Driver.
func (i *isakmpd) Passive(ctx context.Context, _ PassiveOrder) error {
	return unlessAbsent(i.priv.Tell(ctx, ISAKMPD, "M passive"))
}

// Active implements Driver.
func (i *isakmpd) Active(ctx context.Context, _ Plan, _ func(Outcome)) error {
	return i.priv.Tell(ctx, ISAKMPD, "M active")
}

// Watch implements Driver.
func (i *isakmpd) Watch(ctx context.Context) <-chan Notice {
	return watchRunning(ctx, i.priv, ISAKMPD)
}
