package conf

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// notes is what a parser remembers of a file for Format.
type notes struct {
	comments []comment
	starts   map[Pos]bool   // where statements begin, those in blocks too
	normal   map[Pos]string // words that are written otherwise in normal form
	secrets  map[Pos]bool   // words that are passwords or keys
}

func newNotes() notes {
	return notes{starts: map[Pos]bool{}, normal: map[Pos]string{}, secrets: map[Pos]bool{}}
}

// normalName notes that t is a name: it has quotes only where it needs them.
func (p *parser) normalName(t token) {
	words := []string{"file", "port", "discover"}
	for _, k := range p.table {
		words = append(words, k.Path[strings.LastIndexByte(k.Path, ' ')+1:])
	}
	p.normal[t.pos] = bare(t.text, words...)
}

// Formatted is a configuration in normal form: a statement a line, blocks indented by a
// tab, values as Print writes them. Comments, the order of statements, single blank
// lines between them, and what is not written, stay.
type Formatted struct {
	// Text is the whole file, with its passwords and keys.
	Text []byte
	// Shown is Text for somebody to read: secrets are their length, those in comments
	// too as far as they are recognised. Source is the same of the file as it was.
	Shown, Source []byte
}

// FormatSasyncd returns a sasyncd.conf in normal form. file is its name for messages.
// It opens no other file. The error is of type Errors: what is wrong with the
// configuration, or the comments that have no place in normal form.
func FormatSasyncd(file string, src []byte) (Formatted, error) {
	return format(file, src, func(src []byte) (*parser, textual, error) {
		p := newParser(file, src, false, sasyncdKeywords)
		c, err := parseSasyncd(p, file)
		return p, c, err
	})
}

// FormatCarpd does the same with a carpd.conf.
func FormatCarpd(file string, src []byte) (Formatted, error) {
	return format(file, src, func(src []byte) (*parser, textual, error) {
		p := newParser(file, src, true, carpdKeywords)
		c, err := parseCarpd(p, file)
		return p, c, err
	})
}

type textual interface{ text(reveal bool) string }

func format(file string, src []byte, parse func([]byte) (*parser, textual, error)) (Formatted, error) {
	p, before, err := parse(src)
	if err != nil {
		return Formatted{}, err
	}
	f := formatter{parser: p, src: src}
	f.file()
	if err := p.err(); err != nil {
		return Formatted{}, err
	}
	out := f.render()
	again, after, err := parse(out)
	if err != nil || before.text(true) != after.text(true) {
		return Formatted{}, Errors{{Pos{File: file}, "its normal form would mean something else",
			"keep it as it is, and report this"}}
	}
	return Formatted{Text: out, Shown: again.redacted(out), Source: p.redacted(src)}, nil
}

// What is probably a secret in a comment: a statement that is commented out, a quoted
// word behind such a keyword, a hexadecimal key.
var (
	commentedOut = regexp.MustCompile(`^(#[# \t]*(?:sharedkey|pass|key[ \t]+\d+)[ \t]+)([^" \t]+)`)
	quotedSecret = regexp.MustCompile(`\b((?:sharedkey|pass|key[ \t]+\d+)[ \t]+)("[^"]*"?)`)
	hexSecret    = regexp.MustCompile(`()(0x[0-9a-fA-F]{32,})`)
)

// redactedComment returns a comment without what is probably a secret.
func redactedComment(text []byte) []byte {
	for _, r := range []*regexp.Regexp{commentedOut, quotedSecret, hexSecret} {
		text = r.ReplaceAllFunc(text, func(m []byte) []byte {
			s := r.FindSubmatch(m)
			if word := string(s[2]); word == "file" || strings.HasPrefix(word, "<") {
				return m
			}
			return fmt.Appendf(nil, "%s<%d-bytes>", s[1], secretLen(strings.Trim(string(s[2]), `"`)))
		})
	}
	return text
}

// secretLen returns how many bytes a password or key has.
func secretLen(word string) int {
	if h, ok := strings.CutPrefix(word, "0x"); ok && hexDigits(h) {
		return len(h) / 2
	}
	return len(word)
}

// redacted returns the source of p with secrets as their length.
func (p *parser) redacted(src []byte) []byte {
	var out bytes.Buffer
	at := 0
	comments := p.comments
	comment := func(until int) {
		for len(comments) > 0 && comments[0].off < until {
			c := comments[0]
			out.Write(src[at:c.off])
			out.Write(redactedComment(src[c.off:c.end]))
			at, comments = c.end, comments[1:]
		}
	}
	for _, t := range p.toks {
		comment(t.off)
		if !p.secrets[t.pos] {
			continue
		}
		out.Write(src[at:t.off])
		fmt.Fprintf(&out, "<%d-bytes>", secretLen(t.text))
		at = t.end
	}
	out.Write(src[at:])
	return out.Bytes()
}

// formatter lays the tokens and comments of a file out in lines.
type formatter struct {
	*parser
	src    []byte
	lines  []formatted
	words  []string // of the statement that is being read
	first  Pos      // of its first word
	prior  int      // the line of the file where the last thing before it ended
	indent int
	last   int  // the line of the file where the last thing ended
	opened bool // the last thing was { of a block
}

// formatted is a line of the normal form. Text is empty for a comment that has the line
// to itself.
type formatted struct {
	indent        int
	text, comment string
	blank         bool // a blank line stands before it
}

func (f *formatter) file() {
	comments := f.comments
	for i := 0; ; i++ {
		t := f.toks[i]
		for len(comments) > 0 && comments[0].off < t.off {
			f.comment(comments[0], t, i)
			comments = comments[1:]
		}
		switch {
		case t.kind == tokEOF:
			f.end()
			return
		case t.kind == tokSemi:
			f.end()
			f.last = t.pos.Line
		case t.kind == tokOpen && f.list():
			comments = f.addresses(&i, comments)
		case t.kind == tokOpen:
			f.words = append(f.words, "{")
			f.end()
			f.indent++
			f.last, f.opened = t.pos.Line, true
		case t.kind == tokClose:
			f.end()
			f.indent--
			f.emit(formatted{text: "}"}, t.pos.Line)
			f.lines[len(f.lines)-1].blank = false
			f.last = t.pos.Line
		default:
			if f.starts[t.pos] {
				f.end()
				f.first, f.prior = t.pos, f.last
			}
			f.words = append(f.words, f.word(t))
			f.last = t.pos.Line
		}
	}
}

// word returns t as it is written in normal form.
func (f *formatter) word(t token) string {
	if s, ok := f.normal[t.pos]; ok {
		return s
	}
	return string(f.src[t.off:t.end])
}

// emit adds a line, which begins at a line of the file.
func (f *formatter) emit(l formatted, line int) {
	l.indent = f.indent
	l.blank = len(f.lines) > 0 && !f.opened && line > f.last+1
	f.lines = append(f.lines, l)
	f.opened = false
}

// list reports whether the statement that is being read is one with addresses in braces.
func (f *formatter) list() bool {
	return len(f.words) == 1 && f.indent > 0 && (f.words[0] == "unicast" || f.words[0] == "carppeer")
}

// end ends the statement that is being read, if any.
func (f *formatter) end() {
	if len(f.words) == 0 {
		return
	}
	if f.indent > 0 && len(f.words) > 1 && (f.words[0] == "unicast" || f.words[0] == "carppeer") &&
		f.words[1] != "{" {
		f.words = append(append([]string{f.words[0], "{"}, f.words[1:]...), "}")
	}
	last := f.last
	f.last = f.prior
	f.emit(formatted{text: strings.Join(f.words, " ")}, f.first.Line)
	f.last, f.words = last, nil
}

// text returns a comment without the blanks at its end.
func (f *formatter) text(c comment) string {
	return strings.TrimRight(string(f.src[c.off:c.end]), " \t\r\v\f")
}

// comment places c, which stands before token i, t. It has a place behind a statement
// and on a line of its own between two.
func (f *formatter) comment(c comment, t token, i int) {
	inside := t.kind == tokOpen || t.kind == tokWord && !f.starts[t.pos]
	if len(f.words) > 0 && inside {
		f.misplaced(c)
		return
	}
	f.end()
	f.place(c, i)
}

func (f *formatter) misplaced(c comment) {
	f.errorf(c.pos, "put it on a line before the statement", "this comment is inside of a statement")
}

// place puts c behind the last line if it follows a token on its own line, else on a
// line of its own.
func (f *formatter) place(c comment, i int) {
	text := f.text(c)
	if n := len(f.lines); i > 0 && f.toks[i-1].pos.Line == c.pos.Line && n > 0 && f.lines[n-1].comment == "" {
		f.lines[n-1].comment = text
	} else {
		f.emit(formatted{comment: text}, c.pos.Line)
	}
	f.last = c.pos.Line
}

// addresses reads a list in braces, whose { is token i: on one line, or an address a
// line where there are comments. It leaves i at the }, and returns the comments behind.
func (f *formatter) addresses(i *int, comments []comment) []comment {
	stop := *i
	for f.toks[stop].kind != tokClose {
		stop++
	}
	f.words = append(f.words, "{")
	commented := len(comments) > 0 && comments[0].off < f.toks[stop].off
	if commented {
		f.end()
		f.indent++
		f.opened = true
	}
	for j := *i + 1; j <= stop; j++ {
		t := f.toks[j]
		for len(comments) > 0 && comments[0].off < t.off {
			f.place(comments[0], j)
			comments = comments[1:]
		}
		switch {
		case t.kind == tokWord && commented:
			f.emit(formatted{text: f.word(t)}, f.last)
		case t.kind == tokWord:
			f.words = append(f.words, f.word(t))
		}
		f.last = t.pos.Line
	}
	if commented {
		f.indent--
		f.emit(formatted{text: "}"}, f.last)
	} else {
		f.words = append(f.words, "}")
	}
	*i = stop
	return comments
}

func (f *formatter) render() []byte {
	var out bytes.Buffer
	for _, l := range f.lines {
		if l.blank {
			out.WriteByte('\n')
		}
		out.WriteString(strings.Repeat("\t", l.indent) + l.text)
		if l.text != "" && l.comment != "" {
			out.WriteByte(' ')
		}
		out.WriteString(l.comment + "\n")
	}
	return out.Bytes()
}
