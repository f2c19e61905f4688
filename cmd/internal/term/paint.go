package term

import "os"

// Colours reports whether text for w may be coloured: w is a terminal that knows
// colours, and NO_COLOR (no-color.org) is unset or empty.
func Colours(w any) bool {
	return Is(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Paint colours words of an answer where it is true, and leaves them as they are where
// it is false. Text is laid out before it is painted, as a colour has no width.
type Paint bool

// Good paints what is well: green.
func (p Paint) Good(s string) string { return p.in("32", s) }

// Bad paints what is wrong: bold red.
func (p Paint) Bad(s string) string { return p.in("1;31", s) }

// Doubtful paints what cannot be told: yellow.
func (p Paint) Doubtful(s string) string { return p.in("33", s) }

// in paints s with parameters of ECMA-48's SGR.
func (p Paint) in(parameters, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + parameters + "m" + s + "\x1b[m"
}
