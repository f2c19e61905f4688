package ipsecconf

import (
	"fmt"
	"strings"
)

// Pos is a place in a file. Lines and columns start at 1; columns count
// characters, a tab as one.
type Pos struct {
	File      string
	Line, Col int
}

// String returns file:line:column, or the file alone when all of it is meant.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one thing wrong with a file: where, what, and what would be right.
type Error struct {
	Pos             Pos
	Problem, Remedy string
}

// Error returns "file:line:column: what is wrong, what would be right".
func (e Error) Error() string { return e.Pos.String() + ": " + e.Problem + ", " + e.Remedy }

// Errors is everything wrong, in the order in which it was read.
type Errors []Error

// Error returns one line per error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// maxErrors ends the reading of what is no such file at all.
const maxErrors = 50

type diagnostics struct{ errs Errors }

func (d *diagnostics) errorf(pos Pos, remedy, format string, args ...any) {
	e := Error{pos, fmt.Sprintf(format, args...), remedy}
	if n := len(d.errs); n < maxErrors && (n == 0 || d.errs[n-1] != e) { // both directions of a rule may be wrong
		d.errs = append(d.errs, e)
	}
}

func (d *diagnostics) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return d.errs
}
