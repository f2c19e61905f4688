package ipsecconf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"sasyncd/sync/sadb"
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

// saRule is an SA rule before lists are expanded.
type saRule struct {
	pos        Pos
	proto      uint8
	mode       sadb.Mode
	src, dst   []netip.Prefix
	spi        [2]uint32 // of its own direction, and of the reverse one or 0
	transforms transforms
}

// flowRule is a flow rule before lists are expanded.
type flowRule struct {
	pos          Pos
	proto        uint8 // ESP, AH, IPComp
	dir          sadb.Direction
	upper        uint8 // protocol of the selector, 0 for any
	src, dst     []netip.Prefix
	sport, dport uint16
	peer, local  netip.Addr // invalid if not given
	peerAt       Pos
	kind         string // require, use, deny, bypass
	kindAt       Pos
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
		p.errorf(first.pos, "write it in the IKE daemon's own file (swanctl.conf, ipsec.conf of libreswan, iked.conf) and name that daemon with control",
			"ike rules are not for sasyncd, which exchanges no keys")
	case first.is("tcpmd5"):
		p.errorf(first.pos, "configure the key in the BGP daemon", "tcpmd5 has no counterpart: on Linux the key of TCP MD5 belongs to the program's socket")
	case first.is("ipip"):
		p.errorf(first.pos, "make an ipip interface with ip tunnel", "ipip has no counterpart among Linux's SAs")
	case first.is("tunnel"), first.is("transport"), first.is("from"), first.is("to"):
		// As in ipsecctl, no protocol means ESP.
		r.toks = toks
		r.sa(token{kind: tokWord, text: "esp", pos: first.pos})
	default:
		p.errorf(first.pos, "a line begins with flow, esp, ah, ipcomp, include, or a name and =", "%s is no rule", first.shown())
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
	case t.is("srcid"), t.is("dstid"), t.is("psk"), t.is("rsa"), t.is("tag"), t.is("lifetime"), t.is("group"), t.is("main"), t.is("quick"), t.is("aggressive"):
		r.errorf(t.pos, "remove it, or write it in the IKE daemon's own file", "%s is for rules that an IKE daemon serves", t.text)
	case t.is("bundle"):
		r.errorf(t.pos, "remove it: one flow goes through one SA", "bundles of SAs are not made")
	case t.is("udpencap"):
		r.errorf(t.pos, "remove it, or use an IKE daemon", "static SAs inside UDP are not made")
	case t.is("interface"):
		r.errorf(t.pos, "remove it, or use an IKE daemon with an xfrm interface", "sec interfaces have no counterpart in static rules")
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

// hosts reads `from HOSTS [port N] to HOSTS [port N]`, in either order.
func (r *rule) hosts(ports bool) (src, dst []netip.Prefix, sport, dport uint16, ok bool) {
	side := func() (hosts []netip.Prefix, port uint16, ok bool) {
		if hosts, ok = r.hostList(); !ok {
			return nil, 0, false
		}
		if ports && r.accept("port") {
			port, ok = r.port()
		}
		return hosts, port, ok
	}
	switch {
	case r.accept("from"):
		if src, sport, ok = side(); !ok {
			return
		}
		if ok = r.accept("to"); !ok {
			r.errorf(r.peek().pos, "write to and its addresses", "from has no to")
			return
		}
		dst, dport, ok = side()
	case r.accept("to"):
		if dst, dport, ok = side(); !ok {
			return
		}
		if ok = r.accept("from"); !ok {
			r.errorf(r.peek().pos, "write from and its addresses", "to has no from")
			return
		}
		src, sport, ok = side()
	default:
		r.errorf(r.peek().pos, "write from and to with addresses", "the rule does not say between whom")
	}
	return
}

// hostList reads one host or network, or several in braces.
func (r *rule) hostList() ([]netip.Prefix, bool) {
	if !r.peek().mark("{") {
		return r.host()
	}
	open := r.next()
	var out []netip.Prefix
	for {
		switch t := r.peek(); {
		case len(r.toks) == 0:
			r.errorf(open.pos, "close it with } on the same line, or end lines with \\", "the list has no end")
			return nil, false
		case t.mark("}"):
			r.next()
			if len(out) == 0 {
				r.errorf(open.pos, "write addresses in it", "the list is empty")
			}
			return out, len(out) > 0
		case t.mark(","):
			r.next()
		case t.mark("{"): // as of a macro that is a list itself
			hosts, ok := r.hostList()
			if !ok {
				return nil, false
			}
			out = append(out, hosts...)
		default:
			hosts, ok := r.host()
			if !ok {
				return nil, false
			}
			out = append(out, hosts...)
		}
	}
}

// host reads an address, a network, or any, which is one of each family.
func (r *rule) host() ([]netip.Prefix, bool) {
	t := r.peek()
	if r.accept("any") {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, true
	}
	a, bits, ok := r.address()
	if !ok {
		return nil, false
	}
	if r.peek().mark("(") {
		r.errorf(r.peek().pos, "translate with nftables in front of the flow", "flows that translate addresses have no counterpart")
		return nil, false
	}
	p := netip.PrefixFrom(a, bits)
	if p.Masked() != p {
		r.errorf(t.pos, "write "+p.Masked().String(), "%s has bits set beyond its length", p)
		return nil, false
	}
	return []netip.Prefix{p}, true
}

// address reads an address and, behind a /, a length; a string holds both.
func (r *rule) address() (a netip.Addr, bits int, ok bool) {
	t, ok := r.word("this place", "an address")
	if !ok {
		return a, 0, false
	}
	text, length, cut := strings.Cut(t.text, "/")
	if !cut && r.peek().mark("/") {
		r.next()
		l, ok := r.word("/", "the length of the network")
		if !ok {
			return a, 0, false
		}
		length, cut = l.text, true
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		r.errorf(t.pos, "write an address: names and interfaces may mean something else on the other gateway", "%s is no address", t.shown())
		return a, 0, false
	case a.Zone() != "" || a.Is4In6():
		r.errorf(t.pos, "write a plain address", "%s has a zone or is an IPv4 address in IPv6", t.shown())
		return a, 0, false
	}
	bits = a.BitLen()
	if cut {
		n, err := strconv.ParseUint(length, 10, 8)
		if err != nil || int(n) > bits {
			r.errorf(t.pos, fmt.Sprintf("write 0 to %d", bits), "the length of the network is none")
			return a, 0, false
		}
		bits = int(n)
	}
	return a, bits, true
}

// single reads the address of one host.
func (r *rule) single(keyword string) (netip.Addr, bool) {
	t := r.peek()
	if t.is("any") {
		r.errorf(t.pos, "write its address", "%s any needs an IKE daemon to find out who that is", keyword)
		return netip.Addr{}, false
	}
	a, bits, ok := r.address()
	if ok && (bits != a.BitLen() || a.IsUnspecified() || a.IsMulticast()) {
		r.errorf(t.pos, "write the address of one host", "%s is %s", keyword, t.shown())
		return a, false
	}
	return a, ok
}

func (r *rule) port() (uint16, bool) {
	t, ok := r.word("port", "a number of 1 to 65535")
	if !ok {
		return 0, false
	}
	if n := services[t.text]; n != 0 {
		return n, true
	}
	n, err := strconv.ParseUint(t.text, 10, 16)
	if err != nil || n == 0 {
		r.errorf(t.pos, "write a number of 1 to 65535", "%s is no port", t.shown())
		return 0, false
	}
	return uint16(n), true
}

// sa reads what follows the protocol of an SA rule.
func (r *rule) sa(first token) {
	s := saRule{pos: first.pos, proto: protos[first.text], mode: sadb.ModeTunnel}
	if r.accept("transport") {
		s.mode = sadb.ModeTransport
	} else {
		r.accept("tunnel")
	}
	var ok bool
	if s.src, s.dst, _, _, ok = r.hosts(false); !ok {
		return
	}
	for _, h := range append(slices.Clone(s.src), s.dst...) {
		if !h.IsSingleIP() || h.Addr().IsUnspecified() {
			r.errorf(first.pos, "write the addresses of the two gateways", "an SA is between two hosts, and %s is a network", h)
			return
		}
	}
	if !r.accept("spi") {
		r.errorf(r.peek().pos, "write spi and a number of 0x100 to 0xffffffff, or two with a : between for both directions", "the SA has no spi")
		return
	}
	if !r.spi(&s) {
		return
	}
	for len(r.toks) > 0 {
		t := r.peek()
		switch {
		case r.accept("auth"):
			ok = r.transform(t, &s.transforms.auth)
		case r.accept("enc"):
			ok = r.transform(t, &s.transforms.enc)
		case r.accept("comp"):
			ok = r.transform(t, &s.transforms.comp)
		case r.accept("authkey"):
			s.transforms.authAt = r.peek().pos
			ok = r.keys(t, &s.transforms.authKey)
		case r.accept("enckey"):
			s.transforms.encAt = r.peek().pos
			ok = r.keys(t, &s.transforms.encKey)
		default:
			r.end("auth, enc, comp, authkey or enckey")
			return
		}
		if !ok {
			return
		}
	}
	r.sas = append(r.sas, s)
}

func (r *rule) transform(at token, to *token) bool {
	if to.text != "" {
		r.errorf(at.pos, "name one", "%s is given twice", at.text)
		return false
	}
	t, ok := r.word(at.text, "an algorithm")
	*to = t
	return ok
}

// spi reads one SPI, or OUT:IN.
func (r *rule) spi(s *saRule) bool {
	t, ok := r.word("spi", "a number of 0x100 to 0xffffffff")
	if !ok {
		return false
	}
	out, in, both := strings.Cut(t.text, ":")
	texts := []string{out}
	if both {
		texts = append(texts, in)
	}
	limit := uint64(0xffffffff)
	if s.proto == sadb.ProtoComp {
		limit = 0xffff // RFC 3173 3.3: a CPI has 16 bits
	}
	for i, text := range texts {
		// 1 to 255 are reserved (RFC 4303 2.1, RFC 3173 3.3). As in C, 0x is
		// hexadecimal and a leading 0 octal.
		n, err := strconv.ParseUint(text, 0, 32)
		if err != nil || n < 256 || n > limit {
			r.errorf(t.pos, fmt.Sprintf("write 0x100 to 0x%x", limit), "%s is no spi", t.shown())
			return false
		}
		s.spi[i] = uint32(n)
	}
	return true
}

// keys reads a key or two with a : between, or the files they are in.
func (r *rule) keys(at token, to *keyPair) bool {
	if to.out != nil {
		r.errorf(at.pos, "write one", "%s is given twice", at.text)
		return false
	}
	fromFile := r.accept("file")
	t, ok := r.word(at.text, "0x and hexadecimal digits, or file and a path in quotes")
	if !ok {
		return false
	}
	out, in, both := strings.Cut(t.text, ":")
	one := func(text string) ([]byte, bool) {
		pos := t.pos
		if fromFile {
			if !path.IsAbs(text) || path.Clean(text) != text {
				r.errorf(pos, "write the whole path from /, without . and ..", "the path of the key is not absolute")
				return nil, false
			}
			src, ok := r.content(text, pos)
			if !ok {
				return nil, false
			}
			text, pos = strings.TrimSpace(string(src)), Pos{File: text}
		}
		text = strings.TrimPrefix(text, "0x")
		key, err := hex.DecodeString(text)
		switch {
		case len(text) > maxKeyLen:
			r.errorf(pos, "write fewer digits", "a key has more than %d digits", maxKeyLen)
		case err != nil || len(key) == 0:
			r.errorf(pos, "write 0x and an even number of hexadecimal digits", "a key is not written in hexadecimal digits")
		default:
			return key, true
		}
		return nil, false
	}
	if to.out, ok = one(out); ok && both {
		to.in, ok = one(in)
	}
	return ok
}

// flow reads what follows flow.
func (r *rule) flow(first token) {
	f := flowRule{pos: first.pos, proto: sadb.ProtoESP}
	if t := r.peek(); t.kind == tokWord && protos[t.text] != 0 {
		f.proto = protos[r.next().text]
	} else if t.is("ipip") {
		r.errorf(t.pos, "make an ipip interface with ip tunnel", "flow ipip has no counterpart among Linux's policies")
		return
	}
	switch {
	case r.accept("in"):
		f.dir = sadb.DirIn
	case r.accept("out"):
		f.dir = sadb.DirOut
	}
	if r.accept("proto") {
		t, ok := r.word("proto", "a protocol's name or a number of 1 to 255")
		if !ok {
			return
		}
		if f.upper = uppers[t.text]; f.upper == 0 {
			n, err := strconv.ParseUint(t.text, 10, 8)
			if err != nil || n == 0 {
				r.errorf(t.pos, "write a protocol's name or a number of 1 to 255", "%s is no protocol", t.shown())
				return
			}
			f.upper = uint8(n)
		}
	}
	var ok bool
	if f.src, f.dst, f.sport, f.dport, ok = r.hosts(true); !ok {
		return
	}
	if f.sport|f.dport != 0 && f.upper != 6 && f.upper != 17 {
		r.errorf(first.pos, "write proto tcp or proto udp", "a flow with a port names no protocol that has ports")
		return
	}
	for len(r.toks) > 0 {
		t := r.peek()
		switch {
		case t.is("peer") && f.peer.IsValid(), t.is("local") && f.local.IsValid(), t.is("type") && f.kind != "":
			r.errorf(t.pos, "write it once", "%s is given twice", t.text)
			return
		case r.accept("peer"):
			f.peerAt = r.peek().pos
			f.peer, ok = r.single("peer")
		case r.accept("local"):
			f.local, ok = r.single("local")
		case r.accept("type"):
			ok = r.kind(&f)
		default:
			r.end("peer, local or type")
			return
		}
		if !ok {
			return
		}
	}
	if f.kind == "" {
		f.kind = "require"
		if f.proto == sadb.ProtoComp {
			f.kind = "use" // what does not get smaller is not compressed
		}
	}
	r.flows = append(r.flows, f)
}

// kind reads the type of a flow.
func (r *rule) kind(f *flowRule) bool {
	t, ok := r.word("type", "require, use, deny or bypass")
	if !ok {
		return false
	}
	switch t.text {
	case "require", "use", "deny", "bypass":
		f.kind, f.kindAt = t.text, t.pos
		return true
	case "acquire", "dontacq":
		r.errorf(t.pos, "write require or use", "type %s is about asking an IKE daemon for keys, and nobody is asked for static ones", t.text)
	default:
		r.errorf(t.pos, "write require, use, deny or bypass", "%s is no type of a flow", t.shown())
	}
	return false
}

var protos = map[string]uint8{"esp": sadb.ProtoESP, "ah": sadb.ProtoAH, "ipcomp": sadb.ProtoComp}

// uppers are protocols of selectors with the names of /etc/protocols, which
// differs from machine to machine.
var uppers = map[string]uint8{"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
	"esp": 50, "ah": 51, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "carp": 112, "l2tp": 115, "sctp": 132}

// services are ports with the names of /etc/services.
var services = map[string]uint16{"ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "ntp": 123, "snmp": 161,
	"bgp": 179, "ldap": 389, "https": 443, "isakmp": 500, "syslog": 514, "l2tp": 1701}
