// Package gate is what has to pass before a release: the list of gates, which of
// them to run, what their logs say, and how docs/drills.md is made of it. A gate is
// a target of the Makefile. The program in tests/gate/run runs them.
package gate

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Files of the repository that the gate itself writes.
const (
	Store = "docs/drills.json"
	Page  = "docs/drills.md"
)

// Gate is a target of the Makefile that has to pass before a release.
type Gate struct {
	Name  string        // the target
	Shows string        // what a success means
	Takes time.Duration // about, on the machine that the page names
	Needs string        // beside what "make deps" installs
	Alone bool          // it measures, so nothing else may run on the machine
	// InTest is a gate that "make test" runs too. It runs only when it is named.
	InTest bool
	// Writes are files that the target changes in the checkout: a path, or a folder
	// anywhere below the root, with a slash at its end.
	Writes []string
	// Gap is what is known not to be shown, or not to be explained.
	Gap string
	// Before is the last result by hand. The page shows it until the gate has an entry.
	Before string
}

// MayWrite reports whether a change of the file at path, relative to the root,
// is the gate's own.
func (g *Gate) MayWrite(path string) bool {
	return slices.ContainsFunc(g.Writes, func(w string) bool {
		if strings.HasSuffix(w, "/") {
			return strings.Contains("/"+path, "/"+w)
		}
		return path == w
	})
}

// Plan is what a call of the gate does.
type Plan struct {
	Run     []Gate // in the order of the list
	Skipped []Gate // have passed at this commit
}

// Takes is about how long the plan takes.
func (p *Plan) Takes() time.Duration {
	var sum time.Duration
	for _, g := range p.Run {
		sum += g.Takes
	}
	return sum
}

// Choose says which gates of the list to run at a commit. Without names these are
// all but those that "make test" runs too. With goOn, what has passed at this
// commit is skipped.
func Choose(list []Gate, names []string, results *Results, commit string, goOn bool) (*Plan, error) {
	var known, unknown []string
	for _, g := range list {
		known = append(known, g.Name)
	}
	// A name may be a pattern of path.Match: "ground-sid-*". A bad one is of no gate.
	isOf := func(pattern, gate string) bool {
		ok, err := path.Match(pattern, gate)
		return ok && err == nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(known, func(gate string) bool { return isOf(n, gate) }) {
			unknown = append(unknown, n)
		}
	}
	chosen := func(gate string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return isOf(n, gate) })
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("no such gate: %s; there are %s", strings.Join(unknown, ", "), strings.Join(known, " "))
	}
	p := new(Plan)
	for _, g := range list {
		if len(names) == 0 && g.InTest || len(names) > 0 && !chosen(g.Name) {
			continue
		}
		if last := results.Last(g.Name); goOn && last != nil && last.Commit == commit && last.OK() {
			p.Skipped = append(p.Skipped, g)
			continue
		}
		p.Run = append(p.Run, g)
	}
	return p, nil
}
