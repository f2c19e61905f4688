package conf

import (
	"errors"
	"io/fs"
	"os"

	"sasyncd/kernel/trusted"
)

// A program that a configuration names is judged when it is run. What would be
// refused then is said when the file is read, and does not keep the daemon from
// starting: a gateway that elects and replicates without it is better than none.

// program says what is wrong with a program that is named at a place.
func (d *diagnostics) program(rule trusted.Rule, path string, at Pos) (refused []Error) {
	p, err := rule.Program(path)
	if err == nil {
		p.Close()
		return nil
	}
	e, ok := errors.AsType[*trusted.Error](err)
	switch {
	case ok && e.At != e.Path:
		return []Error{{at, "the program " + path + " will not be run: " + e.At + ": " + e.Problem, e.Remedy}}
	case ok:
		return []Error{{at, "the program " + path + " will not be run: " + e.Problem, e.Remedy}}
	case errors.Is(err, fs.ErrNotExist):
		d.warnf(at, "write it or name another one", "the program %s does not exist", path)
	}
	return nil // what this user cannot see is for who runs it to judge
}

// programs judges those of `control exec`. Who opens files instead of this process
// runs them, and that is root.
func (c *Sasyncd) programs(r Reader, d *diagnostics) {
	rule := with(r.Main)
	if r.Open != nil && ofRoot(c.File) {
		rule = trusted.Rule{}
	}
	for _, g := range c.Groups {
		if g.Control.Kind == ControlExec {
			c.Refused = append(c.Refused, d.program(rule, g.Control.Path, g.Control.Pos)...)
		}
	}
}

// programs judges those of `track exec`.
func (c *Carpd) programs(r Reader, d *diagnostics) {
	for _, tr := range c.Tracks {
		if tr.Kind == TrackExec {
			c.Refused = append(c.Refused, d.program(with(r.Main), tr.Target, tr.Pos)...)
		}
	}
}

// ofRoot reports whether a file is root's, or cannot be seen.
func ofRoot(path string) bool {
	st, err := os.Stat(path)
	return err != nil || ownerOf(st) == 0
}
