package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sasyncd/cmd/internal/conf"
	"sasyncd/sync/peer"
)

// reloadFrom reads the configuration again and applies what may change while
// running: keys and peers. All or nothing: any other change is refused with
// its line, as it needs a restart, which loses nothing either.
func reloadFrom(r conf.Reader, path string, running *conf.Sasyncd, mgr *peer.Manager, find *discovery) error {
	c, err := r.LoadSasyncd(path)
	if err != nil {
		return err
	}
	if line, err := fixedDifference(running, c); err != nil || line != "" {
		return errors.Join(err, fmt.Errorf("%s: %q cannot be changed while running: restart sasyncd", path, line))
	}
	if discovers(c) != find.on {
		return fmt.Errorf("%s: whether there is a `peer discover` cannot be changed while running: restart sasyncd",
			path)
	}
	keys, err := keysOf(c)
	if err != nil {
		return err
	}
	if err := find.configure(peersOf(c)); err != nil {
		return err
	}
	mgr.SetKeys(keys)
	return nil
}

// fixedDifference returns a statement in which two configurations differ beside
// peers and keys, "" if there is none.
func fixedDifference(a, b *conf.Sasyncd) (string, error) {
	lines := func(c *conf.Sasyncd) (map[string]bool, error) {
		var text strings.Builder
		if err := c.Print(&text); err != nil {
			return nil, err
		}
		out := make(map[string]bool)
		for l := range strings.SplitSeq(text.String(), "\n") {
			if !strings.HasPrefix(l, "peer ") && !strings.HasPrefix(l, "sharedkey ") {
				out[l] = true
			}
		}
		return out, nil
	}
	x, err := lines(a)
	if err != nil {
		return "", err
	}
	y, err := lines(b)
	if err != nil {
		return "", err
	}
	for _, pair := range [][2]map[string]bool{{x, y}, {y, x}} {
		for _, l := range slices.Sorted(maps.Keys(pair[0])) {
			if !pair[1][l] {
				return l, nil
			}
		}
	}
	return "", nil
}
