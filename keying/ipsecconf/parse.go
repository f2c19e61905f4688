package ipsecconf

import (
	"path"
	"slices"
	"strings"
)

// Limits of a file, far above what anybody writes.
const (
	maxDepth  = 16      // of include
	maxRules  = 100_000 // after lists are expanded
	maxKeyLen = 1024    // characters of a key
)

// Read returns the content of a file. Its error becomes part of a message.
type Read func(path string) ([]byte, error)

// parser reads one file and those it includes.
type parser struct {
	diagnostics
	read   Read
	macros map[string]string
	stack  []string // files being read
	files  []string // all that were asked for
	sas    []saRule
	flows  []flowRule
}

// file reads the rules of a file.
func (p *parser) file(name string, at Pos) {
	switch {
	case slices.Contains(p.stack, name):
		p.errorf(at, "remove one of the includes", "%s includes itself", name)
		return
	case len(p.stack) == maxDepth:
		p.errorf(at, "include less deeply", "more than %d files include each other", maxDepth)
		return
	}
	src, ok := p.content(name, at)
	if !ok {
		return
	}
	p.stack = append(p.stack, name)
	defer func() { p.stack = p.stack[:len(p.stack)-1] }()
	for _, line := range lines(name, src, &p.diagnostics) {
		if len(p.errs) >= maxErrors {
			return
		}
		p.line(line)
	}
}

// content reads a file and notes that it is one of the configuration's.
func (p *parser) content(name string, at Pos) ([]byte, bool) {
	if !slices.Contains(p.files, name) {
		p.files = append(p.files, name)
	}
	src, err := p.read(name)
	if err != nil {
		if at.Line == 0 {
			at = Pos{File: name}
		}
		p.errorf(at, "correct that or name another file", "%s cannot be read: %v", name, err)
		return nil, false
	}
	return src, true
}

// line reads one line: a macro, an include, or a rule.
func (p *parser) line(toks []token) {
	if len(toks) >= 2 && toks[0].kind == tokWord && toks[1].mark("=") {
		p.macro(toks[0], toks[2:])
		return
	}
	toks, ok := p.expand(toks)
	if !ok {
		return
	}
	if len(toks) == 0 {
		return // a macro of nothing
	}
	r := &rule{parser: p, toks: toks[1:], last: toks[0].pos}
	switch first := toks[0]; {
	case first.is("include"):
		r.include(first)
	case first.is("flow"):
		r.flow(first)
	case first.is("esp"), first.is("ah"), first.is("ipcomp"):
		r.sa(first)
	case first.is("ike"):
		p.errorf(first.pos, "write it in the IKE daemon's own file (swanctl.conf, ipsec.conf of libreswan, "+
			"iked.conf) and name that daemon with control",
			"ike rules are not for sasyncd, which exchanges no keys")
	case first.is("tcpmd5"):
		p.errorf(first.pos, "configure the key in the BGP daemon",
			"tcpmd5 has no counterpart: on Linux the key of TCP MD5 belongs to the program's socket")
	case first.is("ipip"):
		p.errorf(first.pos, "make an ipip interface with ip tunnel", "ipip has no counterpart among Linux's SAs")
	case first.is("tunnel"), first.is("transport"), first.is("from"), first.is("to"):
		// As in ipsecctl, no protocol means ESP.
		r.toks = toks
		r.sa(token{kind: tokWord, text: "esp", pos: first.pos})
	default:
		p.errorf(first.pos, "a line begins with flow, esp, ah, ipcomp, include, or a name and =", "%s is no rule",
			first.shown())
	}
}

// macro defines a name. Its value is text, which is cut into words where it is
// used.
func (p *parser) macro(name token, value []token) {
	if !isName(name.text) {
		p.errorf(name.pos, "use letters, digits and _", "%s is no name of a macro", name.shown())
		return
	}
	value, ok := p.expand(value)
	if !ok {
		return
	}
	var words []string
	for _, t := range value {
		if t.kind == tokMark && !strings.Contains("{},/()", t.text) {
			p.errorf(t.pos, `put the value in quotes`, "%s stands in the value of a macro", t.shown())
			return
		}
		words = append(words, t.text)
	}
	if len(words) == 0 {
		p.errorf(name.pos, `write a value in quotes`, "macro %s has no value", name.text)
		return
	}
	p.macros[name.text] = strings.Join(words, " ")
}

func isName(s string) bool { return s != "" && strings.Trim(s, nameLetters) == "" }

// expand puts the values of macros in their place.
func (p *parser) expand(toks []token) ([]token, bool) {
	var out []token
	for _, t := range toks {
		if t.kind != tokMacro {
			out = append(out, t)
			continue
		}
		v, ok := p.macros[t.text]
		if !ok {
			if t.text != "" {
				p.errorf(t.pos, "define it above: "+t.text+` = "value"`, "macro %s is not defined", t.text)
			}
			return nil, false
		}
		for _, w := range words(v, t.pos, &p.diagnostics) {
			if w.kind == tokMacro {
				p.errorf(t.pos, "use the value itself", "the value of macro %s has another macro in it", t.text)
				return nil, false
			}
			out = append(out, w)
		}
	}
	return out, true
}

// rule walks over the tokens of one line. Its methods report what is wrong
// themselves and then return false, which ends the line.
type rule struct {
	*parser
	toks []token
	last Pos // of what was read last
}

func (r *rule) peek() token {
	if len(r.toks) == 0 {
		return token{kind: tokMark, pos: r.last}
	}
	return r.toks[0]
}

func (r *rule) next() token {
	t := r.peek()
	if len(r.toks) > 0 {
		r.toks, r.last = r.toks[1:], t.pos
	}
	return t
}

func (r *rule) accept(word string) bool {
	if len(r.toks) == 0 || !r.toks[0].is(word) {
		return false
	}
	r.next()
	return true
}

// word reads a value; what describes it.
func (r *rule) word(keyword, what string) (token, bool) {
	if t := r.peek(); !t.value() || t.text == "" {
		r.errorf(t.pos, "write "+what, "%s has no value", keyword)
		return t, false
	}
	return r.next(), true
}

// end refuses what is left of the line.
func (r *rule) end(may string) bool {
	if len(r.toks) == 0 {
		return true
	}
	t := r.toks[0]
	switch {
	case t.is("srcid"), t.is("dstid"), t.is("psk"), t.is("rsa"), t.is("tag"), t.is("lifetime"), t.is("group"),
		t.is("main"), t.is("quick"), t.is("aggressive"):
		r.errorf(t.pos, "remove it, or write it in the IKE daemon's own file",
			"%s is for rules that an IKE daemon serves", t.text)
	case t.is("bundle"):
		r.errorf(t.pos, "remove it: one flow goes through one SA", "bundles of SAs are not made")
	case t.is("udpencap"):
		r.errorf(t.pos, "remove it, or use an IKE daemon", "static SAs inside UDP are not made")
	case t.is("interface"):
		r.errorf(t.pos, "remove it, or use an IKE daemon with an xfrm interface",
			"sec interfaces have no counterpart in static rules")
	default:
		r.errorf(t.pos, "here may stand "+may, "%s is out of place", t.shown())
	}
	return false
}

func (r *rule) include(at token) {
	t, ok := r.word("include", "the path of a file in quotes")
	if !ok || !r.absolute(t) || !r.end("nothing") {
		return
	}
	r.file(t.text, t.pos)
}

// absolute refuses a path whose meaning depends on where the daemon runs.
func (r *rule) absolute(t token) bool {
	if path.IsAbs(t.text) && path.Clean(t.text) == t.text {
		return true
	}
	r.errorf(t.pos, "write the whole path from /, without . and ..", "the path is not absolute")
	return false
}
