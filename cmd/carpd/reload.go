package main

import (
	"errors"
	"log/slog"
	"slices"

	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/conf"
)

// errFixed is what a reload cannot change; a restart can.
var errFixed = errors.New("socket, statedir, metrics, track and witnesses cannot be reloaded: restart carpd for that " +
	"(after carpctl freeze, nothing changes hands)")

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
		c.MetricsConfig != running.MetricsConfig ||
		!slices.EqualFunc(c.Tracks, running.Tracks, sameTrack) || !sameWitnesses(c.Groups, running.Groups) {
		return engine.Config{}, errFixed
	}
	for _, w := range c.Warnings {
		log.Warn("configuration", "problem", w.Error())
	}
	return engineConfig(c), nil
}

// sameWitnesses reports whether the groups that both have look at the same
// witnesses; that groups come and go is refused elsewhere.
func sameWitnesses(a, b []conf.Group) bool {
	for _, g := range a {
		i := slices.IndexFunc(b, func(o conf.Group) bool { return o.Name == g.Name })
		if i >= 0 && ((g.WhenSplit == conf.SplitWitness) != (b[i].WhenSplit == conf.SplitWitness) ||
			!slices.Equal(g.Witness, b[i].Witness)) {
			return false
		}
	}
	return true
}
