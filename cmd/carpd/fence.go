package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp/engine"
	"sasyncd/kernel/rules"
)

// fence is the kernel's fence as the engine wants it.
type fence struct{ *rules.Fence }

func openFence() (fence, error) {
	f, err := rules.OpenFence(true)
	return fence{f}, err
}

// fenceLimit bounds the reading of routing rules.
const fenceLimit = 2 * time.Second

// Renew keeps the fence open at least as long as it is without being asked.
func (f fence) Renew(lifetime time.Duration) error {
	return f.RenewFor(max(lifetime, rules.FenceLifetime))
}

// Closed reports whether the fence is set for any of vips.
func (f fence) Closed(vips ...netip.Addr) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	list, err := f.State(ctx)
	if err != nil {
		return true, fmt.Errorf("read fence: %w", err)
	}
	return slices.ContainsFunc(list, func(s rules.FenceState) bool { return s.Closed && slices.Contains(vips, s.VIP) }),
		nil
}

// Forget takes the fence off addresses that are not virtual any more.
func (f fence) Forget(vips ...netip.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	list, err := f.State(ctx)
	if err != nil {
		return fmt.Errorf("read fence: %w", err)
	}
	var keep []netip.Addr
	for _, s := range list {
		if !slices.Contains(vips, s.VIP) {
			keep = append(keep, s.VIP)
		}
	}
	return f.Retain(ctx, keep...)
}

// Mend makes the fence of vips what it was last made here.
func (f fence) Mend(vips ...netip.Addr) (engine.FenceMended, error) {
	ctx, cancel := context.WithTimeout(context.Background(), fenceLimit)
	defer cancel()
	m, err := f.Fence.Mend(ctx, vips...)
	return engine.FenceMended(m), err
}
