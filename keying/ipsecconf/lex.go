package ipsecconf

import "strings"

// token is a word, a quoted string, a macro's use, or one character.
type token struct {
	kind tokenKind
	text string // of a word, string or macro; the character of a mark
	pos  Pos
}

type tokenKind uint8

const (
	tokWord   tokenKind = iota
	tokString           // quoted: never a keyword
	tokMacro            // $text
	tokMark             // one of { } ( ) , / = and whatever else has no meaning
)

func (t token) is(word string) bool { return t.kind == tokWord && t.text == word }
func (t token) mark(c string) bool  { return t.kind == tokMark && t.text == c }
func (t token) value() bool         { return t.kind == tokWord || t.kind == tokString }

func digit(c byte) bool     { return c >= '0' && c <= '9' }
func alnum(c byte) bool     { return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func blank(c byte) bool     { return c == ' ' || c == '\t' || c == '\r' }
func wordStart(c byte) bool { return alnum(c) || c == ':' || c == '_' || c == '*' }

// inWord is what an unquoted word goes on with, as in ipsecctl.
func inWord(c byte) bool { return c > ' ' && c < 0x7f && strings.IndexByte("(){}<>!=/#,\"'", c) < 0 }

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// shown names the token for messages. What may be a key is not repeated.
func (t token) shown() string {
	switch {
	case t.kind == tokMacro:
		return `"$` + t.text + `"`
	case t.kind != tokMark && (len(t.text) > 40 || secretive(t.text)):
		return "this word"
	}
	return `"` + t.text + `"`
}

// secretive reports whether a word could be a key: hexadecimal digits only, and
// more of them than an SPI has.
func secretive(s string) bool {
	for part := range strings.SplitSeq(s, ":") {
		part = strings.TrimPrefix(part, "0x")
		if len(part) > 8 && strings.Trim(part, "0123456789abcdefABCDEF") == "" {
			return true
		}
	}
	return false
}

// lexer cuts a file into lines of tokens.
type lexer struct {
	src  string
	off  int
	pos  Pos
	diag *diagnostics
}

// lines returns the tokens of each line that has any; lines that end in \ go on.
func lines(file string, src []byte, diag *diagnostics) [][]token {
	l := &lexer{src: string(src), pos: Pos{file, 1, 1}, diag: diag}
	var out [][]token
	var line []token
	for l.off < len(l.src) {
		if l.src[l.off] == '\n' {
			if len(line) > 0 {
				out = append(out, line)
			}
			line = nil
			l.advance(1)
		} else if t, ok := l.next(); ok {
			line = append(line, t)
		}
	}
	if len(line) > 0 {
		out = append(out, line)
	}
	return out
}

// words returns the tokens of a macro's value, all of them at the place where it
// is used.
func words(value string, at Pos, diag *diagnostics) []token {
	l := &lexer{src: value, diag: diag}
	var out []token
	for l.off < len(l.src) {
		if t, ok := l.next(); ok {
			out = append(out, t)
		}
	}
	for i := range out {
		out[i].pos = at
	}
	return out
}

func (l *lexer) advance(n int) {
	for _, c := range []byte(l.src[l.off : l.off+n]) {
		switch {
		case c == '\n':
			l.pos.Line, l.pos.Col = l.pos.Line+1, 1
		case c&0xc0 != 0x80:
			l.pos.Col++
		}
	}
	l.off += n
}

func (l *lexer) rest() string { return l.src[l.off:] }

// next reads one token, or what is none.
func (l *lexer) next() (t token, ok bool) {
	at, c := l.pos, l.src[l.off]
	run := func(in func(byte) bool) string {
		n := 0
		for n < len(l.rest()) && in(l.rest()[n]) && !continued(l.rest()[n:]) {
			n++
		}
		s := l.rest()[:n]
		l.advance(n)
		return s
	}
	switch {
	case blank(c) || c == '\n': // of a macro's value
		l.advance(1)
		return t, false
	case c == '#':
		run(func(c byte) bool { return c != '\n' })
		if continued(l.rest()) { // a comment ends with its line
			l.advance(1)
		}
		return t, false
	case continued(l.rest()):
		l.advance(strings.IndexByte(l.rest(), '\n') + 1)
		return t, false
	case c == '"' || c == '\'':
		return token{tokString, l.quoted(c), at}, true
	case c == '$':
		l.advance(1)
		name := run(func(c byte) bool { return strings.IndexByte(nameLetters, c) >= 0 })
		if name == "" {
			l.diag.errorf(at, "write the name of a macro behind it", "$ stands alone")
		}
		return token{tokMacro, name, at}, true
	case wordStart(c) || c == '-':
		return token{tokWord, run(inWord), at}, true
	}
	n := 1
	for n < len(l.rest()) && l.rest()[n]&0xc0 == 0x80 {
		n++
	}
	s := l.rest()[:n]
	l.advance(n)
	return token{tokMark, s, at}, true
}

// continued reports whether s begins with a \ that ends its line.
func continued(s string) bool {
	return strings.HasPrefix(s, "\\\n") || strings.HasPrefix(s, "\\\r\n")
}

// quoted reads a string in quotes of kind q. As in ipsecctl, it may span lines,
// whose ends do not count, and \ takes the meaning of a quote and of a line end.
func (l *lexer) quoted(q byte) string {
	at := l.pos
	l.advance(1)
	var b strings.Builder
	for l.off < len(l.src) {
		switch c := l.src[l.off]; {
		case c == q:
			l.advance(1)
			return b.String()
		case continued(l.rest()):
			l.advance(strings.IndexByte(l.rest(), '\n') + 1)
			continue
		case c == '\\' && len(l.rest()) > 1 && l.rest()[1] == q:
			l.advance(1)
			b.WriteByte(q)
		case c != '\n':
			b.WriteByte(c)
		}
		l.advance(1)
	}
	l.diag.errorf(at, "close it with the same quote", "a quoted string has no end")
	return b.String()
}
