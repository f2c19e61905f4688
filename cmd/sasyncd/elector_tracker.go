package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/sasyncd/tracker"
	"sasyncd/kernel/link"
	"sasyncd/kernel/rules"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// trackerOf returns the elector for an election that is not carpd's. sasyncd
// keeps the fence then, and one that closes by itself should sasyncd not be
// there.
func trackerOf(c *conf.Sasyncd, k *xfrm.Kernel, links *link.Table, log *slog.Logger) (elector, error) {
	var groups []tracker.Group
	for _, g := range c.Groups {
		groups = append(groups, tracker.Group{Name: g.Interface, VIPs: g.VIPs})
	}
	cfg := tracker.Config{Groups: groups, Interfaces: links, Log: log, Holds: func(ctx context.Context,
		vips []netip.Addr) (bool, error) {
		snap, err := k.Dump(ctx)
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(snap.SAs, func(sa *sadb.SA) bool {
			return slices.Contains(vips, sa.Src) || slices.Contains(vips, sa.Key.Dst)
		}), nil
	}}
	switch c.Tracker.Kind {
	case conf.TrackLink:
		cfg.Source = tracker.NewLink(links, groups)
	case conf.TrackAddress:
		cfg.Source = tracker.NewAddress(links, groups)
	case conf.TrackKeepalived:
		cfg.Source = tracker.NewKeepalived(c.Tracker.Path, links, groups, log)
	default:
		return nil, fmt.Errorf("tracker %s: no such tracker", c.Tracker.Kind)
	}
	if c.Fence {
		fence, err := rules.OpenFence(true)
		if err != nil {
			return nil, err
		}
		cfg.Fence = fence
	}
	return tracker.New(cfg), nil
}
