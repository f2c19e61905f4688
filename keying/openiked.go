package keying

import (
	"context"
	"errors"
	"net/netip"
	"strings"
)

// openIKED drives OpenIKED by ikectl. Its "passive" only stops initiating, so
// one with SAs of its own is killed; its start empties the kernel's SAD, so it
// is started again only when the VIPs have gone.
type openIKED struct {
	priv Privileged
}

// NewOpenIKED returns the driver of OpenIKED.
func NewOpenIKED(p Privileged) Driver { return &openIKED{p} }

// Name implements Driver.
func (*openIKED) Name() string { return "iked" }

// Caps implements Driver.
func (*openIKED) Caps() Caps { return Caps{ProcessWide: true, FlushesOnStart: true} }

// sas counts iked's own IKE SAs, and those of them that are established.
func (o *openIKED) sas(ctx context.Context) (all, up int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	out, err := o.priv.Control(ctx, OpenIKED, Verb{Do: "sas"})
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "iked_sas:") {
			all++
			if strings.Contains(line, " ESTABLISHED ") {
				up++
			}
		}
	}
	return all, up, err
}

// Probe implements Driver.
func (o *openIKED) Probe(ctx context.Context, _ []netip.Addr) (Info, error) {
	var info Info
	if props, err := o.priv.Unit(ctx, OpenIKED); err == nil {
		info.Stop, info.Lint = judgeUnit(OpenIKED, props)
	}
	if err := o.priv.Running(ctx, OpenIKED); err != nil {
		return info, err
	}
	var err error
	info.IKESAs, _, err = o.sas(ctx)
	return info, err
}

// Passive implements Driver.
func (o *openIKED) Passive(ctx context.Context, h Hush) error {
	err := o.priv.Running(ctx, OpenIKED)
	if err == nil {
		if all, _, err := o.sas(ctx); err == nil && all == 0 {
			if _, err = o.priv.Control(ctx, OpenIKED, Verb{Do: "passive"}); err == nil {
				return nil
			}
		}
		err = o.priv.Kill(ctx, OpenIKED)
	}
	if err := unlessAbsent(err); err != nil {
		return err
	}
	if !h.Settled {
		return nil
	}
	return o.priv.Start(ctx, OpenIKED)
}

// Active implements Driver.
func (o *openIKED) Active(ctx context.Context, _ Plan, progress func(Outcome)) error {
	if err := awaitRunning(ctx, o.priv, OpenIKED); err != nil {
		return err
	}
	if _, err := o.priv.Control(ctx, OpenIKED, Verb{Do: "active"}); err != nil {
		return err
	}
	// It initiates what is configured, 2 s later and by itself.
	_, up, err := o.sas(ctx)
	if err == nil && progress != nil {
		progress(Outcome{Wanted: up, Up: up})
	}
	return err
}

// Watch implements Driver.
func (o *openIKED) Watch(ctx context.Context) <-chan Notice {
	return watchRunning(ctx, o.priv, OpenIKED)
}

// unlessAbsent makes nothing of the absence of a daemon.
func unlessAbsent(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}
