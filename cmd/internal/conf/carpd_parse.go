package conf

import (
	"net/netip"
	"time"
)

// ParseCarpd parses carpd.conf. file is its name for messages. It opens no
// other file: keys with a File have no Secret yet, LoadCarpd reads them. The
// error is of type Errors and holds everything wrong.
func ParseCarpd(file string, src []byte) (*Carpd, error) {
	return parseCarpd(newParser(file, src, true, carpdKeywords), file)
}

func parseCarpd(p *parser, file string) (*Carpd, error) {
	c := &carpdParser{parser: p, c: &Carpd{
		File: file, Socket: DefaultCarpdSocket, StateDir: DefaultCarpdState,
	}}
	for p.cur().kind != tokEOF {
		t := p.next()
		switch {
		case t.kind == tokSemi:
		case t.kind == tokClose:
			p.errorf(t.pos, "remove it", `"}" closes no block`)
		case !p.keyword(t):
			p.unknown(t)
			p.skip()
		default:
			end := p.begin(t.pos, t.text)
			if !c.statement(t) {
				p.skip()
			}
			end()
		}
	}
	c.check()
	c.c.Warnings = sorted(p.warns)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c.c, nil
}

type carpdParser struct {
	*parser
	c *Carpd
	// given is where each keyword of the current block was first written.
	given     map[string]Pos
	groupRefs []groupRef
}

// groupRef is the use of a group by an instance or a track.
type groupRef struct {
	name string
	pos  Pos
}

func (c *carpdParser) statement(t token) bool {
	switch t.text {
	case "group":
		return c.group(t)
	case "carp", "vrrp":
		return c.instance(t)
	case "track":
		return c.track(t)
	case "socket":
		return c.setPath("socket", &c.c.Socket)
	case "statedir":
		return c.setPath("statedir", &c.c.StateDir)
	case "metrics":
		a, web, ok := c.metrics(DefaultCarpdMetrics)
		if ok {
			c.c.Metrics, c.c.MetricsConfig = a, web
		}
		return ok
	}
	panic("conf: keyword " + t.text + " is in the table and has no parser")
}

// block reads { statement ... } and calls one for each. It goes on after errors
// inside, and returns false only when the block has no beginning.
func (c *carpdParser) block(name string, one func(t token) bool) bool {
	open := c.cur()
	if open.kind != tokOpen {
		c.errorf(open.pos, "write { in front of its statements", "%s needs a block but %s follows", name, open)
		return false
	}
	c.i++
	defer func(context string) { c.context, c.given = context, nil }(c.context)
	c.context, c.given = name, map[string]Pos{}
	for {
		t := c.next()
		switch {
		case t.kind == tokClose:
			return true
		case t.kind == tokEOF:
			c.errorf(open.pos, "write } behind its last statement", "the block of %s has no end", name)
			return true
		case t.kind == tokSemi:
		case t.kind == tokOpen:
			c.errorf(t.pos, "remove it", `"{" is out of place in %s`, name)
		case !c.keyword(t):
			c.unknown(t)
			c.skip()
		default:
			end := c.begin(t.pos, name+" "+t.text)
			if !one(t) {
				c.skip()
			}
			end()
		}
	}
}

// once reports a keyword that was already given in this block.
func (c *carpdParser) once(t token) {
	if first, ok := c.given[t.text]; ok {
		c.errorf(t.pos, "remove one of them", "%s is already given at line %d", t.text, first.Line)
		return
	}
	c.given[t.text] = t.pos
}

func (c *carpdParser) group(t token) bool {
	name, ok := c.groupName("group")
	if !ok {
		return false
	}
	g := Group{
		Pos: t.pos, Name: name.text, Preempt: PreemptNo, AloneAfter: DefaultAloneAfter,
		PrepareTimeout: DefaultPrepareTimeout, WhenSplit: SplitContinue,
	}
	for _, o := range c.c.Groups {
		if o.Name == g.Name {
			c.errorf(name.pos, "put both into one block", "group %s is already declared at line %d", g.Name, o.Pos.Line)
		}
	}
	start := false
	ok = c.block("group", func(t token) bool {
		c.once(t)
		start = start || t.text == "demote-at-start"
		return c.groupStatement(&g, t)
	})
	if g.RequireSasyncd && !start {
		g.DemoteAtStart = 1
	}
	c.c.Groups = append(c.c.Groups, g)
	return ok
}

func (c *carpdParser) groupStatement(g *Group, t token) (ok bool) {
	switch t.text {
	case "preempt":
		v, ok := c.oneOf("group preempt", "yes", "no", "in-sync")
		g.Preempt = Preempt(v)
		return ok
	case "preempt-delay":
		g.PreemptDelay, ok = c.duration(t.text, 0, time.Hour, time.Millisecond)
	case "demote-at-start":
		n, numOK := c.number(t.text, 0, 255)
		g.DemoteAtStart, ok = uint8(n), numOK
	case "start-hold":
		g.StartHold, ok = c.duration(t.text, 0, time.Hour, time.Millisecond)
	case "require":
		var what string
		if what, ok = c.oneOf("group require", "sasyncd", "fence"); ok {
			g.RequireSasyncd = what == "sasyncd"
			g.RequireFence = what == "fence" || c.accept("fence")
		}
	case "alone":
		if !c.phrase("alone", "after") {
			return false
		}
		if c.accept("never") {
			g.AloneAfter = Never
			return true
		}
		g.AloneAfter, ok = c.duration("alone after", 0, 24*time.Hour, time.Millisecond)
	case "prepare-timeout":
		g.PrepareTimeout, ok = c.duration(t.text, 10*time.Millisecond, time.Minute, time.Millisecond)
	case "when-split":
		v, valueOK := c.oneOf("group when-split", "continue", "prefer-traffic", "witness")
		if !valueOK {
			return false
		}
		g.WhenSplit = WhenSplit(v)
		if g.WhenSplit != SplitWitness {
			return true
		}
		g.Witness, ok = c.addrs("when-split witness", nil)
		return ok
	default:
		panic("conf: keyword group " + t.text + " is in the table and has no parser")
	}
	return ok
}

// addrs reads one or more addresses behind those of have, each once. They end
// where a word is no address.
func (c *carpdParser) addrs(keyword string, have []netip.Addr) ([]netip.Addr, bool) {
	t, ok := c.word(keyword, "an address")
	if !ok {
		return have, false
	}
	for {
		a, addrOK := c.addr(t, keyword)
		if addrOK && (a.IsUnspecified() || a.IsMulticast()) {
			c.errorf(t.pos, "write the address of one machine", "%s cannot be used for %s", t, keyword)
			addrOK = false
		}
		for _, o := range have {
			if addrOK && o == a {
				c.errorf(t.pos, "name it once", "%s is given twice for %s", a, keyword)
			}
		}
		if ok = ok && addrOK; addrOK {
			have = append(have, a)
		}
		t = c.cur()
		if t.kind != tokWord || !looksLikeAddr(t.text) {
			return have, ok
		}
		c.i++
	}
}

// braced reads { ADDR ... }, or one address without braces.
func (c *carpdParser) braced(keyword string, have []netip.Addr) ([]netip.Addr, bool) {
	open := c.cur()
	if open.kind != tokOpen {
		return c.addrs(keyword, have)
	}
	c.i++
	ok := true
	for c.cur().kind == tokWord || c.cur().kind == tokSemi {
		if c.cur().kind == tokSemi {
			c.i++
			continue
		}
		before := c.i
		more, addrsOK := c.addrs(keyword, have)
		have, ok = more, ok && addrsOK
		if c.i == before { // a keyword, so the closing brace is missing
			break
		}
	}
	switch t := c.cur(); {
	case t.kind != tokClose:
		c.errorf(open.pos, "write } behind the last address", "the block of %s has no end", keyword)
		return have, false
	case len(have) == 0 && ok:
		c.errorf(open.pos, "write the addresses of the other members", "%s is empty", keyword)
		ok = false
	}
	c.i++
	return have, ok
}
