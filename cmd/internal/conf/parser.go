package conf

import (
	"fmt"
	"slices"
	"strings"

	"sasyncd/cmd/internal/spell"
)

// parser walks over the tokens of one file. Methods that read a value report
// what is wrong themselves and return false; the caller then gives up on its
// statement and the parser resumes at the next one.
type parser struct {
	diagnostics
	toks  []token
	i     int
	table []Keyword
	// context is the block that is being read ("vrrp"), "" at the top level.
	context string
	// all accepts keywords that have no effect yet. Only tests set it.
	all bool
	// muted is set inside what was refused as a whole.
	muted bool
	notes
}

func newParser(file string, src []byte, braces bool, table []Keyword) *parser {
	p := &parser{table: table, notes: newNotes()}
	p.toks, p.comments = lex(file, src, braces, &p.diagnostics)
	return p
}

func (p *parser) cur() token { return p.toks[p.i] }

// before returns the position of the token in front of the current one.
func (p *parser) before() Pos { return p.toks[max(0, p.i-1)].pos }

func (p *parser) next() token {
	t := p.toks[p.i]
	if t.kind != tokEOF {
		p.i++
	}
	return t
}

// accept consumes the bare word s if it is next.
func (p *parser) accept(s string) bool {
	if !p.cur().is(s) {
		return false
	}
	p.i++
	return true
}

// keyword reports whether t is a keyword where a statement may begin.
func (p *parser) keyword(t token) bool {
	if t.kind != tokWord || t.quoted {
		return false
	}
	return slices.Contains(below(p.table, p.context), t.text)
}

// endsStatement reports whether t cannot belong to the statement before it: the
// end of the file or block, a semicolon, or a keyword on a line of its own. A
// keyword on the same line may be a value that happens to be spelt like one.
func (p *parser) endsStatement(t token) bool {
	return t.kind != tokWord || t.first && p.keyword(t)
}

// skip resumes after an error: at the next keyword, line, or end of a block.
func (p *parser) skip() {
	for depth := 0; ; p.i++ {
		switch t := p.cur(); t.kind {
		case tokEOF:
			return
		case tokOpen:
			depth++
		case tokClose:
			if depth == 0 {
				return
			}
			if depth--; depth == 0 {
				p.i++
				return
			}
		case tokSemi:
			if depth == 0 {
				return
			}
		case tokWord:
			if depth == 0 && (t.first || p.keyword(t)) {
				return
			}
		}
	}
}

// unknown reports a word that is no keyword here.
func (p *parser) unknown(t token) {
	where := "a keyword"
	if p.context != "" {
		where = "a keyword of " + p.context
	}
	words := below(p.table, p.context)
	remedy := "known are " + list(words, "and")
	if n := spell.Nearest(t.text, words); n != "" && t.kind == tokWord {
		remedy = "did you mean " + n + "?"
	}
	shown := t.String()
	if t.kind == tokWord && (t.quoted || len(t.text) > 15 || strings.HasPrefix(t.text, "0x")) {
		shown = "this word" // it may be a key that lost its keyword
	}
	p.errorf(t.pos, remedy, "%s is not %s", shown, where)
}

// use refuses path when it is in the table and has no effect yet.
func (p *parser) use(pos Pos, path string) {
	if !p.muted && !p.supported(path) {
		p.errorf(pos, "remove it", "%q has no effect in this version yet", path)
	}
}

// supported reports whether path has an effect, or is not in the table.
func (p *parser) supported(path string) bool {
	for _, k := range p.table {
		if k.Path == path {
			return k.Supported || p.all
		}
	}
	return true
}

// begin starts the statement of keyword path. If that is refused as a whole,
// what is inside it is not, until the function it returns is called.
func (p *parser) begin(pos Pos, path string) (end func()) {
	p.starts[pos] = true
	p.use(pos, path)
	muted := p.muted
	p.muted = muted || !p.supported(path)
	return func() { p.muted = muted }
}

// word reads the value of keyword. what describes it for messages, for example
// "an interface name".
func (p *parser) word(keyword, what string) (token, bool) {
	t := p.cur()
	if p.endsStatement(t) {
		p.errorf(p.before(), "write "+what, "%s has no value", keyword)
		return t, false
	}
	p.i++
	if t.text == "" {
		p.errorf(t.pos, "write "+what, "%s is empty", keyword)
		return t, false
	}
	return t, true
}

// oneOf reads a value that must be one of choices, and refuses those that have
// no effect yet. path is the keyword's path in the table.
func (p *parser) oneOf(path string, choices ...string) (string, bool) {
	name := path[strings.LastIndexByte(path, ' ')+1:]
	t, ok := p.word(name, list(choices, "or"))
	if !ok {
		return "", false
	}
	for _, c := range choices {
		if t.text == c {
			p.use(t.pos, path+" "+c)
			p.normal[t.pos] = c
			return c, true
		}
	}
	remedy := "write " + list(choices, "or")
	if n := spell.Nearest(t.text, choices); n != "" {
		remedy = "did you mean " + n + "?"
	}
	p.errorf(t.pos, remedy, "%s is not a value of %s", t, name)
	return "", false
}

// yesNo reads yes or no.
func (p *parser) yesNo(path string) (yes, ok bool) {
	v, ok := p.oneOf(path, "yes", "no")
	return v == "yes", ok
}

// list joins words as in "a, b or c".
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return fmt.Sprintf("%s %s %s", strings.Join(words[:n], ", "), last, words[n])
}
