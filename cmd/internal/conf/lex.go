package conf

import "strings"

// token is one word of a file. At the end of the file there is one of kind
// tokEOF, whose position is just behind the last character.
type token struct {
	kind   tokenKind
	text   string // of a word: without quotes and escapes
	pos    Pos
	quoted bool // never a keyword
	first  bool // first on its line (lines joined by a trailing \ count as one)
	off    int  // of its first byte in the file
	end    int  // of the byte behind its last
}

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokWord
	tokOpen  // {
	tokClose // }
	tokSemi  // ;
)

// is reports whether t is the bare keyword s.
func (t token) is(s string) bool { return t.kind == tokWord && !t.quoted && t.text == s }

// String names the token for messages.
func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "the end of the file"
	case tokOpen:
		return `"{"`
	case tokClose:
		return `"}"`
	case tokSemi:
		return `";"`
	}
	return quote(t.text)
}

// lexer cuts a file into tokens. In sasyncd.conf braces and semicolons are
// ordinary characters, as they are to OpenBSD, where keys may contain them.
type lexer struct {
	src       string
	off       int
	pos       Pos
	braces    bool
	lineStart bool
	comments  []comment
	diag      *diagnostics
}

// comment is a # and the rest of its line.
type comment struct {
	pos      Pos
	off, end int
}

func lex(file string, src []byte, braces bool, diag *diagnostics) ([]token, []comment) {
	l := &lexer{src: string(src), pos: Pos{file, 1, 1}, braces: braces, lineStart: true, diag: diag}
	var toks []token
	for {
		t := l.next()
		t.end = l.off
		toks = append(toks, t)
		if t.kind == tokEOF {
			return toks, l.comments
		}
	}
}

// advance consumes n bytes and keeps the position.
func (l *lexer) advance(n int) {
	for _, c := range []byte(l.src[l.off : l.off+n]) {
		switch {
		case c == '\n':
			l.pos.Line, l.pos.Col = l.pos.Line+1, 1
		case c&0xc0 != 0x80: // not the continuation of a UTF-8 character
			l.pos.Col++
		}
	}
	l.off += n
}

// peek returns the byte n behind the current one, 0 behind the end.
func (l *lexer) peek(n int) byte {
	if l.off+n >= len(l.src) {
		return 0
	}
	return l.src[l.off+n]
}

// lineEnd returns the length of the line end n bytes ahead, 0 if there is none.
func (l *lexer) lineEnd(n int) int {
	switch {
	case l.peek(n) == '\n':
		return 1
	case l.peek(n) == '\r' && l.peek(n+1) == '\n':
		return 2
	}
	return 0
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f' }

func (l *lexer) next() token {
	for l.off < len(l.src) {
		c := l.peek(0)
		switch {
		case c == '\n':
			l.lineStart = true
			l.advance(1)
		case blank(c):
			l.advance(1)
		case c == '#':
			n := strings.IndexByte(l.src[l.off:], '\n')
			if n < 0 {
				n = len(l.src) - l.off
			}
			l.comments = append(l.comments, comment{l.pos, l.off, l.off + n})
			l.advance(n)
		case c == '\\' && l.lineEnd(1) > 0: // continuation, as OpenBSD's manual promises
			l.advance(1 + l.lineEnd(1))
		case l.braces && strings.IndexByte("{};", c) >= 0:
			t := token{kind: map[byte]tokenKind{'{': tokOpen, '}': tokClose, ';': tokSemi}[c], text: string(c),
				pos: l.pos, first: l.lineStart, off: l.off}
			l.lineStart = false
			l.advance(1)
			return t
		case c == '"':
			return l.quotedWord()
		default:
			return l.bareWord()
		}
	}
	return token{kind: tokEOF, pos: l.pos, first: true, off: l.off}
}

// bareWord reads to the next blank, comment or line end. A quote inside a word
// is an ordinary character, as it is to OpenBSD.
func (l *lexer) bareWord() token {
	t := token{kind: tokWord, pos: l.pos, first: l.lineStart, off: l.off}
	n := 0
	for l.off+n < len(l.src) {
		c := l.peek(n)
		if c == '\n' || blank(c) || c == '#' || c == '\\' && l.lineEnd(n+1) > 0 ||
			l.braces && strings.IndexByte("{};", c) >= 0 {
			break
		}
		n++
	}
	t.text = l.src[l.off : l.off+n]
	if i := strings.IndexByte(t.text, 0); i >= 0 {
		l.diag.errorf(l.pos, "write plain text", "a word contains a NUL byte")
	}
	l.advance(n)
	l.lineStart = false
	return t
}

// quotedWord reads "...", in which \" and \\ stand for themselves.
func (l *lexer) quotedWord() token {
	t := token{kind: tokWord, pos: l.pos, quoted: true, first: l.lineStart, off: l.off}
	l.lineStart = false
	l.advance(1)
	var b strings.Builder
	for l.off < len(l.src) && l.peek(0) != '\n' {
		c := l.peek(0)
		switch {
		case c == '"':
			l.advance(1)
			t.text = b.String()
			return t
		case c == 0:
			l.diag.errorf(l.pos, "write plain text", "a string contains a NUL byte")
		case c == '\\' && (l.peek(1) == '"' || l.peek(1) == '\\'):
			l.advance(1)
			c = l.peek(0)
		}
		b.WriteByte(c)
		l.advance(1)
	}
	l.diag.errorf(t.pos, `close it with " on the same line`, "a quoted string has no end")
	t.text = b.String()
	return t
}

// quote returns s as the lexer reads it back.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
