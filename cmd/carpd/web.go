package main

import (
	"log/slog"
	"net/netip"

	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/daemon"
)

// web is the listener for metrics and health.
func web(addr netip.AddrPort, eng *engine.Engine, pulse *daemon.Pulse, starts uint64, log *slog.Logger) daemon.Task {
	alive := func() error {
		if !pulse.Alive(stuckAfter) {
			return errStuck
		}
		return nil
	}
	return daemon.NewWeb(addr, log, registry(eng.Status, starts), alive, alive)
}
