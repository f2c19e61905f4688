package conf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a file. Line and Col start at 1; columns count characters,
// a tab as one. The zero Pos is "nowhere": a default, not something written.
type Pos struct {
	File      string
	Line, Col int
}

// IsZero reports whether p names no place.
func (p Pos) IsZero() bool { return p == Pos{} }

// String returns file:line:column, or the file alone when the whole file is meant.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

func (p Pos) compare(o Pos) int {
	return cmp.Or(cmp.Compare(p.Line, o.Line), cmp.Compare(p.Col, o.Col))
}

// Error is one thing wrong with a configuration: where, what, and what would
// be right.
type Error struct {
	Pos     Pos
	Problem string // what is wrong
	Remedy  string // what would be right
}

// Error returns "file:line:column: what is wrong, what would be right".
func (e Error) Error() string { return e.Pos.String() + ": " + e.Problem + ", " + e.Remedy }

// Errors is everything wrong with a configuration, in the order of the file.
type Errors []Error

// Error returns one line per error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// IsConfig reports whether err is about the content or the permissions of a
// configuration, as opposed to a failure of the system.
func IsConfig(err error) bool {
	var es Errors
	return errors.As(err, &es)
}

// diagnostics collects errors and warnings while a file is read. A failure of the
// system, which may pass, says nothing of the configuration and counts for more.
type diagnostics struct {
	errs, warns []Error
	failure     error // the first
}

// add takes what a reading has returned: Errors or a failure of the system.
func (d *diagnostics) add(err error) {
	if es, ok := errors.AsType[Errors](err); ok {
		d.errs = append(d.errs, es...)
	} else if d.failure == nil {
		d.failure = err
	}
}

func (d *diagnostics) errorf(pos Pos, remedy, format string, args ...any) {
	d.errs = append(d.errs, Error{pos, fmt.Sprintf(format, args...), remedy})
}

func (d *diagnostics) warnf(pos Pos, remedy, format string, args ...any) {
	d.warns = append(d.warns, Error{pos, fmt.Sprintf(format, args...), remedy})
}

// err returns what was collected, sorted and without repetitions, or nil.
func (d *diagnostics) err() error {
	if d.failure != nil {
		return d.failure
	}
	if len(d.errs) == 0 {
		return nil
	}
	return Errors(sorted(d.errs))
}

func sorted(es []Error) []Error {
	slices.SortStableFunc(es, func(a, b Error) int { return a.Pos.compare(b.Pos) })
	return slices.Compact(es)
}
