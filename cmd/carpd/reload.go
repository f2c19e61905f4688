package main

import (
	"errors"
	"log/slog"
	"slices"

	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/conf"
)

// errFixed is what a reload cannot change; a restart can.
var errFixed = errors.New("socket, statedir, metrics and track cannot be reloaded: restart carpd for that (after carpctl freeze, nothing changes hands)")

// reload reads the file again. It changes nothing by itself.
func reload(file string, running *conf.Carpd, log *slog.Logger) (engine.Config, error) {
	c, err := conf.LoadCarpd(file)
	if err != nil {
		return engine.Config{}, err
	}
	sameTrack := func(a, b conf.Track) bool {
		a.Pos, b.Pos = conf.Pos{}, conf.Pos{}
		return a == b
	}
	if c.Socket != running.Socket || c.StateDir != running.StateDir || c.Metrics != running.Metrics ||
		!slices.EqualFunc(c.Tracks, running.Tracks, sameTrack) {
		return engine.Config{}, errFixed
	}
	for _, w := range c.Warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	return engineConfig(c), nil
}
