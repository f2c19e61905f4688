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
			r.errorf(first.pos, "write the addresses of the two gateways",
				"an SA is between two hosts, and %s is a network", h)
			return
		}
	}
	if !r.accept("spi") {
		r.errorf(r.peek().pos, "write spi and a number of 0x100 to 0xffffffff, or two with a : between for both "+
			"directions", "the SA has no spi")
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
			r.errorf(pos, "write 0x and an even number of hexadecimal digits",
				"a key is not written in hexadecimal digits")
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
		r.errorf(t.pos, "write require or use", "type %s is about asking an IKE daemon for keys, and nobody is asked "+
			"for static ones", t.text)
	default:
		r.errorf(t.pos, "write require, use, deny or bypass", "%s is no type of a flow", t.shown())
	}
	return false
}

var protos = map[string]uint8{"esp": sadb.ProtoESP, "ah": sadb.ProtoAH, "ipcomp": sadb.ProtoComp}

// uppers are protocols of selectors with the names of /etc/protocols, which
// differs from machine to machine.
var uppers = map[string]uint8{"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41,
	"gre": 47,
	"esp": 50, "ah": 51, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "carp": 112, "l2tp": 115, "sctp": 132}
